"""A web application on `portable.aio`: notes that are kept, cached, and announced to a queue.

pip install starlette uvicorn
uvicorn --app-dir examples starlette_app:app

curl -d '{"text": "buy tea"}' localhost:8000/notes
"""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from portable import aio
from portable.errors import NotFound


class NewNote(msgspec.Struct, forbid_unknown_fields=True):
    """What is posted."""

    text: str


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Connect when the application starts, and close when it ends."""
    async with aio.connect() as cloud:
        app.state.cloud = cloud
        yield


async def post_note(request: Request) -> JSONResponse:
    """Keep a note, and tell whoever works on notes."""
    cloud: aio.Cloud = request.app.state.cloud
    try:
        note = msgspec.json.decode(await request.body(), type=NewNote)
    except msgspec.DecodeError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    document = await cloud.collection("notes").create({"id": uuid.uuid4().hex, "text": note.text})
    await cloud.queue("new-notes").send(document.data["id"])
    return JSONResponse(document.data, status_code=201)


async def get_note(request: Request) -> JSONResponse:
    """Give a note, from the cache for a minute."""
    cloud: aio.Cloud = request.app.state.cloud
    key = request.path_params["id"]

    async def read() -> dict[str, Any]:
        return (await cloud.collection("notes").get(key)).data

    try:
        return JSONResponse(await cloud.cache("recent").get_or_set(key, read, ttl=60))
    except NotFound:
        return JSONResponse({"error": f"there is no note {key!r}"}, status_code=404)


async def health(request: Request) -> JSONResponse:
    """Probe every resource that the config declares."""
    results = await request.app.state.cloud.check()
    broken = {result.name: str(result.error) for result in results if not result.ok}
    return JSONResponse({"broken": broken}, status_code=503 if broken else 200)


app = Starlette(
    routes=[
        Route("/notes", post_note, methods=["POST"]),
        Route("/notes/{id}", get_note),
        Route("/health", health),
    ],
    lifespan=lifespan,
)
