-- Make a queue, or change what it is. KEYS: the queue. ARGV: ordered ('0' or '1'), topic, filter (JSON), '' for none.
local base, ordered = KEYS[1], ARGV[1]
local before = redis.call('HGET', base, 'ordered')
redis.call('HSET', base, 'ordered', ordered)
if ARGV[2] ~= '' then
  redis.call('HSET', base, 'topic', ARGV[2], 'filter', ARGV[3])
end
if not before or before == ordered then
  return 0
end
if ordered == '0' then
  -- Messages of a key need no longer wait for each other.
  for _, key in ipairs(redis.call('SMEMBERS', base .. ':keys')) do
    for _, id in ipairs(redis.call('LRANGE', base .. ':key:' .. key, 0, -1)) do
      if not redis.call('ZSCORE', base .. ':leased', id) then
        redis.call('ZADD', base .. ':ready', 'NX', now, id)
      end
    end
    redis.call('DEL', base .. ':key:' .. key)
  end
  redis.call('DEL', base .. ':keys')
else
  for _, source in ipairs({base .. ':leased', base .. ':ready'}) do
    for _, id in ipairs(redis.call('ZRANGE', source, 0, -1)) do
      local key = redis.call('HGET', base .. ':message:' .. id, 'key')
      if key and redis.call('RPUSH', base .. ':key:' .. key, id) == 1 then
        redis.call('SADD', base .. ':keys', key)
      elseif key and source == base .. ':ready' then
        redis.call('ZREM', source, id)
      end
    end
  end
end
local blocked = 0
for _, key in ipairs(redis.call('SMEMBERS', base .. ':keys')) do
  for _, id in ipairs(redis.call('LRANGE', base .. ':key:' .. key, 0, -1)) do
    if not (redis.call('ZSCORE', base .. ':ready', id) or redis.call('ZSCORE', base .. ':leased', id)) then
      blocked = blocked + 1
    end
  end
end
redis.call('HSET', base, 'blocked', blocked)
tell(base)
return 1
