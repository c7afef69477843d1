-- Set many values. KEYS: the values'. ARGV: milliseconds to live or '', then the values.
for number, key in ipairs(KEYS) do
  if ARGV[1] == '' then
    redis.call('SET', key, ARGV[number + 1])
  else
    redis.call('SET', key, ARGV[number + 1], 'PX', ARGV[1])
  end
end
return #KEYS
