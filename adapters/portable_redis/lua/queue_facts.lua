-- Say what a queue is. KEYS: the queue, its dead-letter queue. Gives: ordered, topic, filter, and whether the other is.
local facts = redis.call('HMGET', KEYS[1], 'ordered', 'topic', 'filter')
return {facts[1], facts[2], facts[3], redis.call('EXISTS', KEYS[2])}
