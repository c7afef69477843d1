"""Tokens as Google's Managed Service for Apache Kafka takes them: an access token within what looks like a signed one.

Vendor pages: cloud.google.com/managed-service-for-apache-kafka/docs/authentication-kafka, and the form in
github.com/googleapis/managedkafka (`kafka-auth-local-server`, `GcpLoginCallbackHandler.java`).
"""

from __future__ import annotations

import base64
import time

import msgspec

__all__ = ["kafka_token"]


def kafka_token(access_token: str, principal: str, ends: float) -> str:
    """Give the token that a broker is shown.

    Args:
        access_token: of Google's OAuth 2.0.
        principal: whom it names, such as a service account's email address.
        ends: when it does, in seconds since the epoch.
    """
    head = {"typ": "JWT", "alg": "GOOG_OAUTH2_TOKEN"}
    claims = {"exp": int(ends), "iat": int(time.time()), "iss": "Google", "scope": "kafka", "sub": principal}
    parts = (msgspec.json.encode(head), msgspec.json.encode(claims), access_token.encode())
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
