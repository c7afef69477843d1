# Generated from portable/testing/aio/bucket_signing.py by tools/generate_sync.py; change that file, not this one.
"""Cases of buckets: requests that anybody may send."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portable._concurrency import in_thread, sleep
from portable.errors import InvalidArgument
from portable.objects import SignedRequest
from portable.testing.bucket_cases import BucketCases
from portable.testing.suite import needs

__all__ = ["BucketSigningCases"]

_PATIENCE = timedelta(seconds=60)


class BucketSigningCases(BucketCases):
    """Signed requests."""

    def _send(
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

        return in_thread(bucket._host, answer)

    @needs("sign")
    def test_a_signed_request_reads_an_object(self) -> None:
        bucket = self.open()
        for key in ("a b/é+%.txt", "plain"):
            bucket.put(key, b"bytes", content_type="text/plain")
            signed = bucket.sign(key, expires=600)
            assert signed.method == "GET"
            assert abs(signed.expires_at - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=60)
            assert self._send(bucket, signed) == (200, b"bytes")
        assert (self._send(bucket, bucket.sign("missing")))[0] == 404
        assert (self._send(bucket, bucket.sign("plain", method="HEAD")))[0] == 200

    @needs("sign")
    def test_a_signed_request_writes_and_deletes(self) -> None:
        bucket = self.open()
        signed = bucket.sign("a/new.txt", method="PUT", content_type="text/plain")
        assert 200 <= (self._send(bucket, signed, b"bytes"))[0] < 300
        head = bucket.head("a/new.txt")
        assert (head.size, head.content_type) == (5, "text/plain")
        assert bucket.get("a/new.txt") == b"bytes"
        signed = bucket.sign("a/new.txt", method="DELETE")
        assert 200 <= (self._send(bucket, signed))[0] < 300
        assert not bucket.exists("a/new.txt")

    @needs("sign")
    def test_a_signed_request_is_good_for_nothing_else(self) -> None:
        bucket = self.open()
        bucket.put("a.txt", b"bytes")
        bucket.put("b.txt", b"other")
        signed = bucket.sign("a.txt")
        without = signed.url.partition("?")[0]
        other = signed.url.replace("a.txt", "b.txt")
        assert (self._send(bucket, signed, method="DELETE"))[0] in {401, 403}
        # A request that is no upload at all may be refused for that alone.
        assert (self._send(bucket, signed, b"new", method="PUT"))[0] in {400, 401, 403}
        assert (self._send(bucket, signed, url=without))[0] in {401, 403}
        assert (self._send(bucket, signed, url=other))[0] in {401, 403}
        assert bucket.get("a.txt") == b"bytes"

    @needs("sign")
    def test_a_signed_request_expires(self) -> None:
        bucket = self.open()
        bucket.put("a.txt", b"bytes")
        signed = bucket.sign("a.txt", expires=1)
        deadline = datetime.now(UTC) + _PATIENCE
        while (status := (self._send(bucket, signed))[0]) == 200 and datetime.now(UTC) < deadline:
            sleep(0.1)
        # Once it has expired it stays so.
        assert status in {400, 401, 403}

    @needs("sign")
    def test_what_cannot_be_signed_is_refused(self) -> None:
        bucket = self.open()
        bad: dict[str, Any]
        for bad in ({"method": "POST"}, {"method": "get"}, {"expires": 0}, {"expires": -1}, {"content_type": "a\nb"}):
            with pytest.raises(InvalidArgument):
                bucket.sign("key", **bad)
