-- Remove messages for good. KEYS: the queue. ARGV: for each its id and count.
-- Gives for each whether it was held by that delivery.
local base = KEYS[1]
local answers, freed = {}, false
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local is_held, key = held(base, id, ARGV[i + 1])
  if is_held then
    redis.call('ZREM', base .. ':leased', id)
    redis.call('DEL', base .. ':message:' .. id)
    freed = leave_line(base, id, key) or freed
  end
  answers[#answers + 1] = is_held and 1 or 0
end
if freed then
  tell(base)
end
return answers
