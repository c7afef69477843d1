"""Cases of buckets: requests that anybody may send."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portable.aio._concurrency import in_thread, sleep
from portable.errors import InvalidArgument
from portable.objects import SignedRequest
from portable.testing.aio.bucket_cases import BucketCases
from portable.testing.aio.suite import needs

__all__ = ["BucketSigningCases"]

_PATIENCE = timedelta(seconds=60)


class BucketSigningCases(BucketCases):
    """Signed requests."""

    async def _send(
        self, bucket: Any, signed: SignedRequest, data: bytes | None = None, *, url: str = "", method: str = ""
    ) -> tuple[int, bytes]:
        """Send a request as a program without credentials does, or one with another method or URL."""
        target, verb = url or signed.url, method or signed.method
        request = urllib.request.Request(target, data=data, headers=signed.headers, method=verb)  # noqa: S310 (the backend's own URL)

        def answer() -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 (the same)
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, b""

        return await in_thread(bucket._host, answer)

    @needs("sign")
    async def test_a_signed_request_reads_an_object(self) -> None:
        bucket = self.open()
        for key in ("a b/é+%.txt", "plain"):
            await bucket.put(key, b"bytes", content_type="text/plain")
            signed = await bucket.sign(key, expires=600)
            assert signed.method == "GET"
            assert abs(signed.expires_at - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=60)
            assert await self._send(bucket, signed) == (200, b"bytes")
        assert (await self._send(bucket, await bucket.sign("missing")))[0] == 404
        assert (await self._send(bucket, await bucket.sign("plain", method="HEAD")))[0] == 200

    @needs("sign")
    async def test_a_signed_request_writes_and_deletes(self) -> None:
        bucket = self.open()
        signed = await bucket.sign("a/new.txt", method="PUT", content_type="text/plain")
        assert 200 <= (await self._send(bucket, signed, b"bytes"))[0] < 300
        head = await bucket.head("a/new.txt")
        assert (head.size, head.content_type) == (5, "text/plain")
        assert await bucket.get("a/new.txt") == b"bytes"
        signed = await bucket.sign("a/new.txt", method="DELETE")
        assert 200 <= (await self._send(bucket, signed))[0] < 300
        assert not await bucket.exists("a/new.txt")

    @needs("sign")
    async def test_a_signed_request_is_good_for_nothing_else(self) -> None:
        bucket = self.open()
        await bucket.put("a.txt", b"bytes")
        await bucket.put("b.txt", b"other")
        signed = await bucket.sign("a.txt")
        without = signed.url.partition("?")[0]
        other = signed.url.replace("a.txt", "b.txt")
        assert (await self._send(bucket, signed, method="DELETE"))[0] in {401, 403}
        # A request that is no upload at all may be refused for that alone.
        assert (await self._send(bucket, signed, b"new", method="PUT"))[0] in {400, 401, 403}
        assert (await self._send(bucket, signed, url=without))[0] in {401, 403}
        assert (await self._send(bucket, signed, url=other))[0] in {401, 403}
        assert await bucket.get("a.txt") == b"bytes"

    @needs("sign")
    async def test_a_signed_request_expires(self) -> None:
        bucket = self.open()
        await bucket.put("a.txt", b"bytes")
        signed = await bucket.sign("a.txt", expires=1)
        deadline = datetime.now(UTC) + _PATIENCE
        while (status := (await self._send(bucket, signed))[0]) == 200 and datetime.now(UTC) < deadline:
            await sleep(0.1)
        # Once it has expired it stays so.
        assert status in {400, 401, 403}

    @needs("sign")
    async def test_what_cannot_be_signed_is_refused(self) -> None:
        bucket = self.open()
        bad: dict[str, Any]
        for bad in ({"method": "POST"}, {"method": "get"}, {"expires": 0}, {"expires": -1}, {"content_type": "a\nb"}):
            with pytest.raises(InvalidArgument):
                await bucket.sign("key", **bad)
