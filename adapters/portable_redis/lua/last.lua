-- Give the id of the last record of each partition, then the last news. KEYS: the stream. ARGV: the partitions.
local answers = {}
for _, partition in ipairs(ARGV) do
  answers[#answers + 1] = id_of(last_of(KEYS[1], partition))
end
local news = redis.call('XREVRANGE', KEYS[1] .. ':news', '+', '-', 'COUNT', 1)
answers[#answers + 1] = news[1] and news[1][1] or '0-0'
return answers
