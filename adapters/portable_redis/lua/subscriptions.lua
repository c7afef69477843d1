-- Give the subscriptions of a topic, each with its filter. KEYS: the topic's subscriptions.
return redis.call('HGETALL', KEYS[1])
