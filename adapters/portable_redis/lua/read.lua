-- Read records. KEYS: the stream. ARGV: the partition, milliseconds of the retention, how many, and where to start:
-- 'after' or 'from', and an id.
local start, id = ARGV[4], ARGV[5]
local oldest = math.max(0, now - ARGV[2])
if parts(id) < oldest then
  start, id = 'from', id_of(oldest, 0)
end
return redis.call('XRANGE', KEYS[1] .. ':' .. ARGV[1], start == 'after' and '(' .. id or id, '+', 'COUNT', ARGV[3])
