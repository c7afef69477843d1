-- Let a holder's lease last longer. KEYS: the lock. ARGV: the holder, milliseconds from now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
