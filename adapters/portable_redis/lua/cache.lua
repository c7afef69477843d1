-- In front of every script of the caches. What a script does is replicated as its effects, so it may ask for the time.
if redis.replicate_commands then redis.replicate_commands() end
