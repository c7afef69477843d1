-- Lease what can be received. KEYS: the queue, its dead-letter queue.
-- ARGV: how many, milliseconds of the lease, max_deliveries, attributes of a dead letter as JSON.
-- Gives: the messages; and where there are none the last news and the milliseconds until one is due, or -1.
local base, dead = KEYS[1], KEYS[2]
local wanted, most = tonumber(ARGV[1]), tonumber(ARGV[3])
local given, leases = {}, {}
-- So many at most are moved to the dead-letter queue in one go.
local burials = 1000
for _, source in ipairs({base .. ':leased', base .. ':ready'}) do
  while #given < wanted and burials > 0 do
    local ids = redis.call('ZRANGEBYSCORE', source, '-inf', now, 'LIMIT', 0, wanted - #given)
    if #ids == 0 then
      break
    end
    redis.call('ZREM', source, unpack(ids))
    for _, id in ipairs(ids) do
      local message = base .. ':message:' .. id
      local fields = redis.call('HMGET', message, 'count', 'sent', 'key', 'attributes', 'body')
      -- One that is not there was removed by another program.
      if fields[5] then
        local count = fields[1] + 1
        if count > most then
          bury(base, dead, id, fields[3], ARGV[4])
          burials = burials - 1
        else
          redis.call('HSET', message, 'count', count)
          leases[#leases + 1] = now + ARGV[2]
          leases[#leases + 1] = id
          given[#given + 1] = {id, count, fields[2], fields[3], fields[4], fields[5]}
        end
      end
    end
  end
end
if #given > 0 then
  -- Afterwards, or a lease of no length would be given again at once.
  redis.call('ZADD', base .. ':leased', unpack(leases))
  return {given}
end
local due = -1
for _, source in ipairs({base .. ':leased', base .. ':ready'}) do
  local first = redis.call('ZRANGE', source, 0, 0, 'WITHSCORES')
  if first[2] then
    local left = math.max(0, first[2] - now)
    due = due < 0 and left or math.min(due, left)
  end
end
return {given, last_news(base), due}
