-- Move messages to the dead-letter queue. KEYS: the queue, its dead-letter queue.
-- ARGV: attributes of a dead letter as JSON, then for each message its id and count.
-- Gives for each whether it was held by that delivery.
local base, dead = KEYS[1], KEYS[2]
local answers, freed = {}, false
for i = 2, #ARGV, 2 do
  local is_held, key = held(base, ARGV[i], ARGV[i + 1])
  if is_held then
    freed = bury(base, dead, ARGV[i], key, ARGV[1]) or freed
  end
  answers[#answers + 1] = is_held and 1 or 0
end
if freed then
  tell(base)
end
return answers
