"""A cache: values for a while, counters, and results computed once. Run it: python examples/with_cache.py."""

import portable

with portable.connect() as cloud:
    sessions = cloud.cache("sessions")
    sessions.set("user:7", {"name": "Ada"}, ttl=60)
    print(sessions.get("user:7"), sessions.incr("visits", ttl=3600))

    @sessions.cached(ttl=60, key="square:{n}")
    def square(n: int) -> int:
        """Think hard."""
        print("computing once …")
        return n * n

    print(square(12), square(12))
