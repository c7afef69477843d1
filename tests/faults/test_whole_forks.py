"""Forks after open: a child opens its own clients or is told why not; it never hangs, and the parent feels nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import asyncio, collections, os, signal, sys, threading, traceback
import portable
from portable import aio, errors
from sqlalchemy import text

default = sys.argv[1]
bind = {"main": "sqlite:main.db?durability=process"}
if default != "memory:":
    bind["photos"] = "file:photos?durability=process"
config = portable.Config.from_dict({
    "default_profile": "local",
    "profiles": {"local": {"default": default, "bind": bind}},
    "resources": {
        "photos": {"kind": "bucket"}, "jobs": {"kind": "queue"}, "events": {"kind": "topic"}, "idle": {"kind": "queue"},
        "mailer": {"kind": "subscription", "topic": "events"}, "clicks": {"kind": "stream"},
        "sessions": {"kind": "cache"}, "users": {"kind": "collection"}, "main": {"kind": "database"},
    },
})

def forked(child, *arguments):
    pid = os.fork()
    if pid == 0:
        signal.alarm(90)  # a hang ends as a signal that the parent sees
        code = 1
        try:
            child(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    return pid

def ended(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"the child ended with {code}"

def use_bucket(cloud, who):
    cloud.bucket("photos").put(who, who.encode())
    assert cloud.bucket("photos").get(who) == who.encode()

def use_queue(cloud, who):
    cloud.queue("jobs").send(who)

def use_topic(cloud, who):
    cloud.topic("events").publish(who)

def use_stream(cloud, who):
    cloud.stream("clicks").append(who)

def use_cache(cloud, who):
    assert cloud.cache("sessions").incr("count") > 0

def use_collection(cloud, who):
    assert cloud.collection("users").update("all", increment={"count": 1}).data["count"] > 0

def use_database(cloud, who):
    with cloud.database("main").begin() as connection:
        connection.execute(text("INSERT INTO who VALUES (:who)"), {"who": who})

USES = [use_bucket, use_queue, use_topic, use_stream, use_cache, use_collection, use_database]

def prepared(cloud):
    assert cloud.subscription("mailer").receive(wait=0) == []
    cloud.collection("users").put({"id": "all", "count": 0})
    with cloud.database("main").begin() as connection:
        connection.execute(text("CREATE TABLE who (who TEXT)"))
    for use in USES:
        use(cloud, "first")
    return cloud

def found(cloud):
    '''How many uses of each kind are there to be seen.'''
    def drained(queue):
        count = 0
        while messages := queue.receive(100, wait=0, visibility_timeout=600):
            queue.ack_many(messages)
            count += len(messages)
        return count

    stream = cloud.stream("clicks")
    with cloud.database("main").connect() as connection:
        rows = connection.execute(text("SELECT count(*) FROM who")).scalar_one()
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    return {
        "use_queue": drained(cloud.queue("jobs")),
        "use_topic": drained(cloud.subscription("mailer")),
        "use_stream": sum(len(stream.read(name, limit=10_000_000)) for name in stream.partitions()),
        "use_cache": cloud.cache("sessions").get("count"),
        "use_collection": cloud.collection("users").get("all").data["count"],
        "use_database": rows,
    }
"""

DRIVERS = pytest.mark.parametrize("default", ["memory:", "sqlite:app.db?durability=process"], ids=["memory", "sqlite"])


def run(script: str, cwd: Path, *arguments: str) -> str:
    # Children that end by `os._exit` have nothing to tell of coverage, and measuring slows them down.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-X", "faulthandler", "-c", PRELUDE + script, *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=cwd,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IDLE = """
cloud = prepared(portable.connect(config))
for number in range(10):
    def child():
        for use in USES:
            use(cloud, f"child-{number}")
        if number % 2:
            cloud.close()
    ended(forked(child))
    for use in USES:
        use(cloud, f"parent-{number}")
shared = default != "memory:"
seen = found(cloud)
expected = {use.__name__: 21 if shared or use is use_database else 11 for use in USES[1:]}
assert seen == expected, (seen, expected)
keys = {info.key for info in cloud.bucket("photos").list()}
assert ("child-3" in keys) is shared and {f"parent-{number}" for number in range(10)} <= keys, keys
cloud.close()
assert threading.active_count() == 1, threading.enumerate()
print("done")
"""


@DRIVERS
def test_a_child_of_an_idle_cloud_uses_every_kind(tmp_path: Path, default: str) -> None:
    assert run(IDLE, tmp_path, default) == "done\n"


BUSY = """
FORKS = 60
cloud = prepared(portable.connect(config))
stop = threading.Event()
lock = threading.Lock()
done = collections.Counter()
started = threading.Semaphore(0)

def work(number, uses):
    mine = collections.Counter()
    while not stop.is_set():
        for use in uses:
            use(cloud, f"thread-{number}")
            mine[use.__name__] += 1
            started.release()
    with lock:
        done.update(mine)

def wait():
    while not stop.is_set():
        assert cloud.queue("idle").receive(wait=0.05) == []

halves = [USES[:4], USES[4:], USES, list(reversed(USES))]
threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(halves)]
threads.append(threading.Thread(target=wait, daemon=True))
for thread in threads:
    thread.start()
refused = 0

def child(number):
    for use in USES:
        try:
            use(cloud, f"child-{number}")
        except errors.Closed as error:
            # Where a thread of the parent was in the middle of a transaction, the child is told so, every time.
            assert use is use_database and "forked" in str(error), error
            os._exit(7)

children = []

def reap():
    global refused
    code = os.waitstatus_to_exitcode(os.waitpid(children.pop(0), 0)[1])
    assert code in {0, 7}, f"a child ended with {code}"
    refused += code == 7

for number in range(FORKS):
    assert started.acquire(timeout=60)
    children.append(forked(child, number))
    if len(children) == 3:
        reap()
while children:
    reap()
stop.set()
for thread in threads:
    thread.join(60)
    assert not thread.is_alive(), "a thread of the parent hangs"
shared = default != "memory:"
seen = found(cloud)
expected = {
    use.__name__: 1 + done[use.__name__] + (FORKS if shared or use is use_database else 0) for use in USES[1:]
}
expected["use_database"] -= refused
assert seen == expected, (seen, expected, refused)
keys = {info.key for info in cloud.bucket("photos").list()}
assert keys == {"first", "thread-0", "thread-2", "thread-3", *(f"child-{n}" for n in range(FORKS) if shared)}, keys
cloud.close()
assert threading.active_count() == 1, threading.enumerate()
print("done")
"""


@DRIVERS
def test_hundreds_of_forks_while_threads_work_on_every_kind(tmp_path: Path, default: str) -> None:
    assert run(BUSY, tmp_path, default) == "done\n"


TOGETHER = """
cloud = prepared(portable.connect(config))
cloud.queue("jobs").purge()
ready, told = os.pipe()

def child():
    cloud.queue("jobs").stats()
    os.write(told, b"x")
    (message,) = cloud.queue("jobs").receive(wait=60)
    message.ack()
    with cloud.cache("sessions").lock("turn", ttl=60, wait=60):
        cloud.queue("jobs").send(b"answer")
    cloud.close()

with cloud.cache("sessions").lock("turn", ttl=60, wait=0):
    pid = forked(child)
    assert os.read(ready, 1) == b"x"
    cloud.queue("jobs").send(b"question")
    while cloud.queue("jobs").stats().ready:
        cloud.cache("sessions").get("anything")
(answer,) = cloud.queue("jobs").receive(wait=60)
assert answer.body == b"answer"
ended(pid)
print("done")
"""


def test_parent_and_child_wait_for_each_other(tmp_path: Path) -> None:
    assert run(TOGETHER, tmp_path, "sqlite:app.db?durability=process") == "done\n"


HELD = """
cloud = prepared(portable.connect(config))
cloud.queue("jobs").purge()
cloud.queue("jobs").send(b"held")
(message,) = cloud.queue("jobs").receive(visibility_timeout=600)
writer = cloud.bucket("photos").open("half", "wb")
writer.write(b"half")
consumer = cloud.stream("clicks").consumer("group")
record, = consumer.poll()

def child():
    # What the parent holds is the parent's.
    assert cloud.queue("jobs").receive(wait=0) == []
    assert not cloud.bucket("photos").exists("half")
    try:
        consumer.poll(0.01)
    except errors.Closed as error:
        assert "fork" in str(error), error
    else:
        raise SystemExit("two processes read as one member")
    cloud.close()

ended(forked(child))
message.ack()
writer.write(b" whole")
writer.close()
assert cloud.bucket("photos").get("half") == b"half whole"
consumer.commit()
cloud.stream("clicks").append(b"second")
assert [one.data for one in consumer.poll(60)] == [b"second"]
assert cloud.queue("jobs").stats().leased in {0, None}
cloud.close()
print("done")
"""


@DRIVERS
def test_what_the_parent_holds_stays_its_own(tmp_path: Path, default: str) -> None:
    assert run(HELD, tmp_path, default) == "done\n"


ASYNC = """
async def use(cloud, who):
    await cloud.bucket("photos").put(who, b"1")
    await cloud.queue("jobs").send(who)
    await cloud.topic("events").publish(who)
    await cloud.stream("clicks").append(who)
    await cloud.cache("sessions").incr("count")
    await cloud.collection("users").put({"id": who})
    async with cloud.database("main").begin() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS who (who TEXT)"))
        await connection.execute(text("INSERT INTO who VALUES (:who)"), {"who": who})

def ours():
    # aiosqlite's threads end a moment after their connections.
    return [thread for thread in threading.enumerate() if thread.name.startswith("portable")]

async def main():
    async with aio.connect(config) as cloud:
        await use(cloud, "first")
        waiting = [asyncio.ensure_future(cloud.queue("idle").receive(wait=600)) for _ in range(5)]
        for number in range(20):
            together = [asyncio.ensure_future(use(cloud, f"parent-{number}-{n}")) for n in range(3)]
            await asyncio.sleep(0)

            async def in_child():
                try:
                    await use(cloud, f"child-{number}")
                except errors.Closed as error:
                    assert "forked while a transaction" in str(error), error
                await cloud.close()
                assert not ours(), ours()

            pid = forked(lambda: asyncio.run(in_child()))
            await asyncio.gather(*together)
            await asyncio.to_thread(ended, pid)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        expected = 1 + 20 * 3 + (20 if default != "memory:" else 0)
        assert await cloud.cache("sessions").get("count") == expected
        assert await cloud.collection("users").query(allow_scan=True).count() == expected
        assert len([one async for one in cloud.bucket("photos").list()]) == expected

asyncio.run(main())
assert not ours(), ours()
print("done")
"""


@DRIVERS
def test_children_of_the_async_face_run_a_loop_of_their_own(tmp_path: Path, default: str) -> None:
    assert run(ASYNC, tmp_path, default) == "done\n"
