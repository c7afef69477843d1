"""The same drivers for the async face, on `redis.asyncio`; the sync ones are generated from these."""
