-- Add to a counter, which lives so long if this makes it. KEYS: the counter. ARGV: how much, milliseconds.
local made = redis.call('EXISTS', KEYS[1]) == 0
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if made then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
