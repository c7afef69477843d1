-- Change a group, if it is what it was. KEYS: the group, the news. ARGV: what it was or '', what it shall be, and
-- whether the others need not know ('1'). Gives whether it was, and the server's clock.
local time = redis.call('TIME')
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return {0, time[1], time[2]}
end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '1' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '1', '*', 'changed', '1')
end
return {1, time[1], time[2]}
