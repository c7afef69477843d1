-- Free a lock, and say so. KEYS: the lock, the news. ARGV: the holder.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '1', '*', 'released', '1')
return 1
