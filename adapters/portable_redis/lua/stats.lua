-- Count messages. KEYS: the queue. Gives: ready, leased, delayed.
local base = KEYS[1]
local blocked = tonumber(redis.call('HGET', base, 'blocked') or '0')
local leased = redis.call('ZCOUNT', base .. ':leased', '(' .. now, '+inf')
local expired = redis.call('ZCARD', base .. ':leased') - leased
local delayed = redis.call('ZCOUNT', base .. ':ready', '(' .. now, '+inf')
local ready = redis.call('ZCARD', base .. ':ready') - delayed
return {ready + expired + blocked, leased, delayed}
