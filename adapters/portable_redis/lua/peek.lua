-- Look at what would be received first. KEYS: the queue. ARGV: how many.
local base = KEYS[1]
local seen = {}
for _, source in ipairs({base .. ':leased', base .. ':ready'}) do
  local left = ARGV[1] - #seen
  if left > 0 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', source, '-inf', now, 'LIMIT', 0, left)) do
      local fields = redis.call('HMGET', base .. ':message:' .. id, 'count', 'sent', 'key', 'attributes', 'body')
      if fields[5] then
        seen[#seen + 1] = {id, fields[1], fields[2], fields[3], fields[4], fields[5]}
      end
    end
  end
end
return seen
