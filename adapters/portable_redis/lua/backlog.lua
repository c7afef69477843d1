-- Count the records after a place. KEYS: the stream. ARGV: the partition, milliseconds of the retention, an id or ''.
local key = KEYS[1] .. ':' .. ARGV[1]
redis.call('XTRIM', key, 'MINID', '=', id_of(math.max(0, now - ARGV[2]), 0))
local count = redis.call('XLEN', key)
if ARGV[3] == '' or count == 0 then
  return count
end
local _, after = parts(ARGV[3])
local _, last = last_of(KEYS[1], ARGV[1])
return math.max(0, math.min(count, last - after))
