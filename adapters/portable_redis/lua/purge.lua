-- Remove messages, so many at once. KEYS: the queue. ARGV: how many. Gives how many were removed.
local base = KEYS[1]
local gone = 0
local function drop(ids)
  for _, id in ipairs(ids) do
    redis.call('UNLINK', base .. ':message:' .. id)
  end
  gone = gone + #ids
end
for _, key in ipairs(redis.call('SRANDMEMBER', base .. ':keys', ARGV[1])) do
  local line = base .. ':key:' .. key
  local left = ARGV[1] - gone
  if left <= 0 then
    break
  end
  -- From its end, so that what waits is gone before that for which it waits.
  local ids = redis.call('LRANGE', line, -left, -1)
  redis.call('LTRIM', line, 0, -left - 1)
  for _, id in ipairs(ids) do
    if redis.call('ZREM', base .. ':ready', id) + redis.call('ZREM', base .. ':leased', id) == 0 then
      redis.call('HINCRBY', base, 'blocked', -1)
    end
  end
  if redis.call('EXISTS', line) == 0 then
    redis.call('SREM', base .. ':keys', key)
  end
  drop(ids)
end
for _, source in ipairs({base .. ':ready', base .. ':leased'}) do
  local left = ARGV[1] - gone
  if left > 0 then
    local popped = redis.call('ZPOPMIN', source, left)
    local ids = {}
    for i = 1, #popped, 2 do
      ids[#ids + 1] = popped[i]
    end
    drop(ids)
  end
end
return gone
