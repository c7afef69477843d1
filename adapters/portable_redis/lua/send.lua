-- Send messages. KEYS: the queue. ARGV: for each its id, body, attributes, key, delay in milliseconds and dedup_id,
-- '' for what it has not. Gives their ids: for a repeat that of the first.
local base = KEYS[1]
local ordered = is_ordered(base)
local idle = is_idle(base)
local ids = {}
for i = 1, #ARGV, 6 do
  local id, dedup, first = ARGV[i], ARGV[i + 5], false
  if dedup ~= '' then
    local known = base .. ':dedup:' .. dedup
    first = redis.call('GET', known)
    if not first then
      redis.call('SET', known, id, 'PX', 300000)
    end
  end
  if not first then
    add(base, ordered, id, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  end
  ids[#ids + 1] = first or id
end
if idle then
  tell(base)
end
return ids
