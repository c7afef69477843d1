"""A queue: jobs, each done by one worker, at least once. Run it: python examples/with_queue.py."""

from dataclasses import dataclass

import portable


@dataclass
class Job:
    """What is to be done."""

    photo: str


with portable.connect() as cloud:
    jobs = cloud.queue("jobs", type=Job)
    jobs.send_many([Job("tom.jpg"), Job("kit.jpg")])
    jobs.consume(lambda message: print("thumbnail of", message.body.photo), idle_timeout=0.2)
    print(jobs.stats().ready, "left")
