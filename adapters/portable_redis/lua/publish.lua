-- Give every subscription that wants it a copy of each message. KEYS: the topic's subscriptions.
-- ARGV: for each message its id, body, attributes and key, '' for what it has not.
local function base_of(name)
  local tag = name
  while tag:match('^.+%-dead$') do
    tag = tag:sub(1, -6)
  end
  return 'portable:queue:{' .. tag .. '}' .. name:sub(#tag + 1)
end
local subscriptions = redis.call('HGETALL', KEYS[1])
local known = {}
local function attributes_of(i)
  if not known[i] then
    known[i] = ARGV[i + 2] ~= '' and cjson.decode(ARGV[i + 2]) or {}
  end
  return known[i]
end
for s = 1, #subscriptions, 2 do
  local base = base_of(subscriptions[s])
  local wanted = cjson.decode(subscriptions[s + 1])
  local ordered, idle, reached = is_ordered(base), is_idle(base), false
  for i = 1, #ARGV, 4 do
    local wants = true
    for name, value in pairs(wanted) do
      wants = wants and attributes_of(i)[name] == value
    end
    if wants then
      add(base, ordered, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], 0)
      reached = true
    end
  end
  if idle and reached then
    tell(base)
  end
end
return #subscriptions / 2
