"""Mistakes that both type checkers must see: an ignore that nothing needs is itself an error."""

# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from dataclasses import dataclass

import portable
from portable import aio


@dataclass
class Job:
    path: str


def wrong(cloud: portable.Cloud) -> None:
    jobs = cloud.queue("jobs", type=Job)
    jobs.send(5)  # type: ignore[arg-type]
    jobs.send(Job("a"), dely=1.0)  # type: ignore[call-arg]
    jobs.receive()[0].body.size  # type: ignore[attr-defined]  # noqa: B018 (the mistake)
    cloud.cache("jobs", type=Job).set("a", "b")  # type: ignore[arg-type]
    cloud.collection("jobs", type=Job).put({"path": "a"})  # type: ignore[arg-type]
    cloud.bucket("photos").get(b"key")  # type: ignore[arg-type]
    cloud.bucket("photos").open("a", "r")  # type: ignore[call-overload]
    cloud.bucket("photos").copy("a", "b", to=cloud.queue("c"))  # type: ignore[arg-type]
    cloud.topic("events", type=Job).publish(5)  # type: ignore[arg-type]
    cloud.cache("any").lock("a")  # type: ignore[call-arg]
    cloud.collection("plain").transact([Job("a")])  # type: ignore[list-item]
    cloud.queue("raw").consume(len)  # type: ignore[arg-type]


async def wrong_face(cloud: aio.Cloud, plain: portable.Cloud) -> None:
    async with cloud.queue("raw") as queue:
        queue.receive()[0]  # type: ignore[index]
    async with plain.queue("raw"):  # type: ignore[attr-defined]
        pass
