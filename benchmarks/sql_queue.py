"""The queue on PostgreSQL and MariaDB: against procrastinate, and against functions in the style of pgmq.

All commit each step for good. Procrastinate's is a job, deferred, fetched and finished by its own manager on its own
pool of connections. Pgmq is an extension of functions that put their statements together for the queue that is named;
its server side stands here in the same style, called by psycopg on a connection that commits each statement.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import portable
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving

__all__ = ["measure"]

BODY = b"x" * 200
TEXT = BODY.decode()
BATCH = 100
THREADS = 8
TURN = 0.3

_FUNCTIONS = """
CREATE TABLE q_jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reads integer NOT NULL DEFAULT 0,
    sent timestamptz NOT NULL DEFAULT now(), visible timestamptz NOT NULL, message jsonb);
CREATE INDEX q_jobs_visible ON q_jobs (visible ASC);
CREATE FUNCTION q_send(queue text, messages jsonb[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$ BEGIN
    RETURN QUERY EXECUTE format(
        'INSERT INTO %I (visible, message) SELECT clock_timestamp(), unnest($1) RETURNING id', 'q_' || queue
    ) USING messages; END $$;
CREATE FUNCTION q_read(queue text, seconds integer, quantity integer)
    RETURNS TABLE (id bigint, reads integer, sent timestamptz, visible timestamptz, message jsonb)
    LANGUAGE plpgsql AS $$ BEGIN
    RETURN QUERY EXECUTE format(
        'WITH next AS (SELECT id FROM %1$I WHERE visible <= clock_timestamp() ORDER BY id LIMIT $1
            FOR UPDATE SKIP LOCKED)
        UPDATE %1$I m SET visible = clock_timestamp() + $2, reads = reads + 1 FROM next WHERE m.id = next.id
        RETURNING m.id, m.reads, m.sent, m.visible, m.message', 'q_' || queue
    ) USING quantity, make_interval(secs => seconds); END $$;
CREATE FUNCTION q_delete(queue text, ids bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$ BEGIN
    RETURN QUERY EXECUTE format('DELETE FROM %I WHERE id = ANY($1) RETURNING id', 'q_' || queue) USING ids; END $$;
"""


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure PostgreSQL against its peers, and MariaDB for orientation."""
    with serving("postgres", folder) as url:
        yield from _one_by_one(plan, url)
        yield from _batches(plan, url)
        yield from _side_by_side(plan, url)
    with serving("mariadb", folder) as url, portable.open_queue(url, name="jobs", create="if_missing") as ours:
        samples = interleave(
            {"portable": _repeated(lambda: _through(ours)), f"batches of {BATCH}": _repeated(lambda: _batch(ours))},
            rounds=plan.rounds,
            seconds=plan.slice(TURN),
        )
        seconds = samples.median("portable", "wall")
        yield Figure("sql-queue mariadb: send, receive and ack", seconds * 1e6, "µs", ours=seconds)
        seconds = samples.median(f"batches of {BATCH}", "wall")
        yield Figure(f"sql-queue mariadb: {BATCH} in batches", seconds * 1e6, "µs", ours=seconds)


class Pgmq:
    """Functions in the style of pgmq, on a connection of its own."""

    def __init__(self, url: str) -> None:
        import psycopg

        self.connection = psycopg.connect(url, autocommit=True)
        if self.connection.execute("SELECT to_regclass('q_jobs')").fetchone() == (None,):
            self.connection.execute(_FUNCTIONS)

    def send(self, count: int = 1) -> None:
        messages = [json.dumps(TEXT)] * count
        self.connection.execute("SELECT * FROM q_send('jobs', %s::jsonb[])", (messages,)).fetchall()

    def receive(self, count: int = 1) -> None:
        rows: list[Any] = []
        while not rows:
            # Another thread may have taken one's own, and hold the next.
            rows = self.connection.execute("SELECT * FROM q_read('jobs', 30, %s)", (count,)).fetchall()
        self.connection.execute("SELECT * FROM q_delete('jobs', %s::bigint[])", ([row[0] for row in rows],)).fetchall()

    def through(self, count: int = 1) -> None:
        self.send(count)
        self.receive(count)


class Procrastinate:
    """Jobs of procrastinate, which works on a loop."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        import procrastinate

        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        self.runner = runner
        self.app: Any = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1))
        self.task: Any = self.app.task(name="nothing", queue="jobs")(nothing)
        self.worker = runner.run(self._open())

    async def _open(self) -> int:
        await self.app.open_async()
        await self.app.schema_manager.apply_schema_async()
        return int(await self.app.job_manager.register_worker())

    async def send(self, calls: int) -> None:
        for _ in range(calls):
            await self.task.defer_async(body=TEXT)

    async def through(self, calls: int) -> None:
        from procrastinate.jobs import Status

        for _ in range(calls):
            await self.task.defer_async(body=TEXT)
            job = await self.app.job_manager.fetch_job(queues=["jobs"], worker_id=self.worker)
            assert job is not None
            await self.app.job_manager.finish_job(job, status=Status.SUCCEEDED, delete_job=True)

    async def many(self, calls: int) -> None:
        for _ in range(calls):
            await self.task.batch_defer_async(*[{"body": TEXT}] * BATCH)

    async def clear(self) -> None:
        await self.app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")

    def close(self) -> None:
        self.runner.run(self.app.close_async())


def nothing(body: str) -> None:
    """Do the work of a job."""


def _through(queue: portable.Queue[bytes]) -> None:
    queue.send(BODY)
    (message,) = queue.receive(wait=5)
    message.ack()


def _batch(queue: portable.Queue[bytes]) -> None:
    queue.send_many([BODY] * BATCH)
    messages = queue.receive(BATCH, wait=5)
    assert len(messages) == BATCH
    queue.ack_many(messages)


def _one_by_one(plan: Plan, url: str) -> Iterator[Figure]:
    with asyncio.Runner() as runner, portable.open_queue(url, name="jobs", create="if_missing") as ours:
        pgmq, jobs = Pgmq(url), Procrastinate(url, runner)

        def clear(_: int) -> None:
            ours.purge()
            pgmq.connection.execute("TRUNCATE q_jobs")
            runner.run(jobs.clear())

        sending = {
            "portable": _repeated(lambda: ours.send(BODY), clear),
            "pgmq's style": _repeated(pgmq.send, clear),
            "procrastinate": Contender(lambda calls: runner.run(jobs.send(calls)), clear),
        }
        through = {
            "portable": _repeated(lambda: _through(ours)),
            "pgmq's style": _repeated(pgmq.through),
            "procrastinate": Contender(lambda calls: runner.run(jobs.through(calls))),
        }
        for name, contenders in (("send", sending), ("send, receive and ack", through)):
            clear(0)
            samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
            yield from compare(samples, f"sql-queue postgres: {name}", clock="wall")
        clear(0)
        pgmq.connection.close()
        jobs.close()


def _batches(plan: Plan, url: str) -> Iterator[Figure]:
    """Measure a batch's way through; procrastinate takes batches, and gives one job at a time."""
    with portable.open_queue(url, name="jobs", create="if_missing") as ours:
        pgmq = Pgmq(url)
        contenders = {
            "portable": _repeated(lambda: _batch(ours)),
            "pgmq's style": _repeated(lambda: pgmq.through(BATCH)),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, f"sql-queue postgres: {BATCH} in batches", clock="wall")
        pgmq.connection.close()


def _side_by_side(plan: Plan, url: str) -> Iterator[Figure]:
    """Measure threads that each send, receive and acknowledge."""
    with ThreadPoolExecutor(THREADS) as threads, portable.open_queue(url, name="jobs", create="if_missing") as ours:
        peers = [Pgmq(url) for _ in range(THREADS)]

        def spread(calls: int, work: Callable[[int], object]) -> None:
            def some(number: int) -> None:
                for _ in range(calls):
                    work(number)

            list(threads.map(some, range(THREADS)))

        contenders = {
            "portable": Contender(lambda calls: spread(calls, lambda _: _through(ours))),
            "pgmq's style": Contender(lambda calls: spread(calls, lambda number: peers[number].through())),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(2 * TURN))
        yield from compare(samples, f"sql-queue postgres: {THREADS} threads", clock="wall")
        for peer in peers:
            peer.connection.close()


def _repeated(call: Callable[[], Any], prepare: Callable[[int], object] | None = None) -> Contender:
    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return Contender(run, prepare)
