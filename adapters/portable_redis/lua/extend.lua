-- Hold messages for longer. KEYS: the queue. ARGV: milliseconds from now, then for each its id and count.
-- Gives for each whether it was held by that delivery.
local base = KEYS[1]
local answers, shorter = {}, false
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local is_held = held(base, id, ARGV[i + 1])
  if is_held then
    shorter = shorter or tonumber(redis.call('ZSCORE', base .. ':leased', id)) > now + ARGV[1]
    redis.call('ZADD', base .. ':leased', now + ARGV[1], id)
  end
  answers[#answers + 1] = is_held and 1 or 0
end
-- Whoever waits for the end of a lease waits for the old one.
if shorter then
  tell(base)
end
return answers
