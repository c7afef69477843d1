-- Try to obtain a lock. KEYS: the lock, the counter of tokens, the news. ARGV: the holder, milliseconds.
-- Gives: whether it was obtained, the token, the milliseconds that the lease has, and the last news.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  -- A token is greater than all before it even where the counter was lost: then the clock has gone on.
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  local token = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
  redis.call('SET', KEYS[2], token)
  return {1, token, ARGV[2], ''}
end
local news = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
return {0, '', redis.call('PTTL', KEYS[1]), news[1] and news[1][1] or '0-0'}
