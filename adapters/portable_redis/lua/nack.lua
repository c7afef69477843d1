-- Give messages back. KEYS: the queue, its dead-letter queue. ARGV: milliseconds of delay, whether the delivery does
-- not count ('1'), max_deliveries, attributes of a dead letter as JSON, then for each its id and count.
local base, dead = KEYS[1], KEYS[2]
local most = tonumber(ARGV[3])
local changed = false
for i = 5, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  local is_held, key = held(base, id, count)
  if is_held then
    changed = true
    if ARGV[2] == '1' then
      redis.call('HINCRBY', base .. ':message:' .. id, 'count', -1)
    end
    if ARGV[2] ~= '1' and tonumber(count) >= most then
      bury(base, dead, id, key, ARGV[4])
    else
      redis.call('ZREM', base .. ':leased', id)
      redis.call('ZADD', base .. ':ready', now + ARGV[1], id)
    end
  end
end
if changed then
  tell(base)
end
return 0
