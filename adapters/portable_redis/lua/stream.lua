-- In front of every script of streams. A stream's keys start with its base:
--   BASE              hash: partitions, and for each partition last:N, the id of its last record
--   BASE:N            stream: the records of partition N; an id is MILLISECONDS-OFFSET, the offset counted from 1
--   BASE:group:NAME   string: a consumer group, as JSON
--   BASE:news         stream of one entry, which changes with the groups
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parts(id)
  local milliseconds, offset = id:match('^(%d+)-(%d+)$')
  return tonumber(milliseconds), tonumber(offset)
end

local function id_of(milliseconds, offset)
  return string.format('%.0f-%.0f', milliseconds, offset)
end

-- The id of the last record that a partition ever had, of whatever program.
local function last_of(base, partition)
  local milliseconds, offset = parts(redis.call('HGET', base, 'last:' .. partition) or '0-0')
  local newest = redis.call('XREVRANGE', base .. ':' .. partition, '+', '-', 'COUNT', 1)[1]
  if newest then
    local its, its_offset = parts(newest[1])
    if its > milliseconds or (its == milliseconds and its_offset > offset) then
      return its, its_offset
    end
  end
  return milliseconds, offset
end
