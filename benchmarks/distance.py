"""A way to a server by which each answer comes later, as from another machine: `HOST PORT SECONDS`; prints its port."""

from __future__ import annotations

import asyncio
import sys


async def main() -> None:
    """Pass on what comes until this process is ended."""
    host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    loop = asyncio.get_running_loop()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_connection(host, port)

        async def passed_on() -> None:
            while data := await answers.read(65536):
                loop.call_later(seconds, writer.write, data)
            loop.call_later(seconds, writer.close)

        passing = asyncio.create_task(passed_on())
        while data := await reader.read(65536):
            asks.write(data)
        asks.close()
        await passing

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
