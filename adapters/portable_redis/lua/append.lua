-- Append records. KEYS: the stream. ARGV: milliseconds of the retention, then for each record its partition, the
-- number of its fields and values, and these. Gives their ids.
local base = KEYS[1]
local lasts, ids = {}, {}
local i = 2
while i <= #ARGV do
  local partition, count = ARGV[i], tonumber(ARGV[i + 1])
  local key = base .. ':' .. partition
  local last = lasts[partition]
  if not last then
    local kept = redis.call('HGET', base, 'last:' .. partition)
    last = {parts(kept or '0-0')}
    lasts[partition] = last
  end
  local fields = {unpack(ARGV, i + 2, i + 1 + count)}
  -- The server's clock may have been set back, and another program may have appended with ids of its own.
  last[1], last[2] = math.max(now, last[1]), last[2] + 1
  local id = redis.pcall('XADD', key, id_of(last[1], last[2]), unpack(fields))
  if type(id) == 'table' and id.err then
    last[1], last[2] = last_of(base, partition)
    last[1], last[2] = math.max(now, last[1]), last[2] + 1
    id = redis.call('XADD', key, id_of(last[1], last[2]), unpack(fields))
  end
  ids[#ids + 1] = id
  i = i + 2 + count
end
for partition, last in pairs(lasts) do
  redis.call('HSET', base, 'last:' .. partition, id_of(last[1], last[2]))
  redis.call('XTRIM', base .. ':' .. partition, 'MINID', '~', id_of(math.max(0, now - ARGV[1]), 0))
end
return ids
