-- In front of every script of queues and topics. A queue's keys start with its base:
--   BASE              hash: ordered ('0' or '1'), blocked (how many wait in a line), and of a subscription topic, filter
--   BASE:ready        sorted set of ids: the milliseconds from which each can be received
--   BASE:leased       sorted set of ids: the milliseconds at which each lease ends
--   BASE:message:ID   hash: body, sent, count, and where they are set attributes (JSON), key
--   BASE:key:KEY      list of ids, of an ordered queue: the messages of an ordering key; the first is ready or leased
--   BASE:keys         set of the ordering keys that have such a list
--   BASE:dedup:ID     string: the id of the first message that was sent with this dedup_id
--   BASE:news         stream of one entry, which changes when whoever waits should look again
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function tell(base)
  redis.call('XADD', base .. ':news', 'MAXLEN', '1', '*', 'at', now)
end

local function last_news(base)
  local news = redis.call('XREVRANGE', base .. ':news', '+', '-', 'COUNT', 1)
  return news[1] and news[1][1] or '0-0'
end

-- Whoever waits has seen that nothing is ready, so the first that is again wakes all.
local function is_idle(base)
  return redis.call('ZCOUNT', base .. ':ready', '-inf', now) == 0
end

local function is_ordered(base)
  return redis.call('HGET', base, 'ordered') == '1'
end

-- Add a message, unless it is there: a send is repeated when its answer was lost.
local function add(base, ordered, id, body, attributes, key, delay)
  local message = base .. ':message:' .. id
  if redis.call('EXISTS', message) == 1 then
    return
  end
  local fields = {'body', body, 'sent', now, 'count', 0}
  if attributes ~= '' then
    fields[#fields + 1] = 'attributes'
    fields[#fields + 1] = attributes
  end
  if key ~= '' then
    fields[#fields + 1] = 'key'
    fields[#fields + 1] = key
  end
  redis.call('HSET', message, unpack(fields))
  if ordered and key ~= '' then
    if redis.call('RPUSH', base .. ':key:' .. key, id) > 1 then
      redis.call('HINCRBY', base, 'blocked', 1)
      return
    end
    redis.call('SADD', base .. ':keys', key)
  end
  redis.call('ZADD', base .. ':ready', now + delay, id)
end

-- Take a message that is gone out of the line of its ordering key, and let the next one go.
local function leave_line(base, id, key)
  if not key then
    return false
  end
  local line = base .. ':key:' .. key
  if redis.call('LREM', line, 1, id) == 0 then
    return false
  end
  local following = redis.call('LINDEX', line, 0)
  if not following then
    redis.call('SREM', base .. ':keys', key)
    return false
  end
  if redis.call('ZSCORE', base .. ':ready', following) or redis.call('ZSCORE', base .. ':leased', following) then
    return false
  end
  redis.call('ZADD', base .. ':ready', now, following)
  redis.call('HINCRBY', base, 'blocked', -1)
  return true
end

-- Give count and key of a message that is leased by this very delivery, else nothing.
local function held(base, id, count)
  local fields = redis.call('HMGET', base .. ':message:' .. id, 'count', 'key')
  if fields[1] == count and redis.call('ZSCORE', base .. ':leased', id) then
    return true, fields[2]
  end
  return false
end

-- Move a message to the dead-letter queue; whether another one has become ready by that.
local function bury(base, dead, id, key, extra)
  local message, letter = base .. ':message:' .. id, dead .. ':message:' .. id
  local stored = redis.call('HGET', message, 'attributes')
  local attributes = stored and cjson.decode(stored) or {}
  for name, value in pairs(cjson.decode(extra)) do
    attributes[name] = value
  end
  attributes['portable-dead-id'] = id
  redis.call('ZREM', base .. ':leased', id)
  redis.call('ZREM', base .. ':ready', id)
  redis.call('RENAME', message, letter)
  redis.call('HSET', letter, 'attributes', cjson.encode(attributes), 'count', 0)
  local idle = is_idle(dead)
  redis.call('ZADD', dead .. ':ready', now, id)
  if idle then
    tell(dead)
  end
  return leave_line(base, id, key)
end
