"""Logins by IAM: at databases of RDS, and at caches of ElastiCache.

Vendor pages: docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html,
docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import urlencode

from botocore.awsrequest import prepare_request_dict
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from portable.errors import ConfigError
from portable.identities import Login, Logins, Sought, credentials
from portable_aws.options import AwsCredentials
from portable_aws.service_errors import translating
from portable_aws.sessions import opened

__all__ = ["logins"]

TOKEN_LASTS = 900
"""Seconds within which a token opens a connection."""

CACHE_LASTS = 11 * 3600.0
"""Seconds that a connection to a cache is used: ElastiCache ends it after twelve hours."""

_RDS = re.compile(r"\.([a-z]+(?:-[a-z]+)+-[0-9]+)\.rds\.amazonaws\.com$|\.rds\.([a-z0-9-]+)\.amazonaws\.com\.cn$")
_SERVERLESS = re.compile(r"([a-z0-9-]+)-[a-z0-9]+\.serverless\.[a-z0-9]+\.cache\.amazonaws\.com(?:\.cn)?")
_GROUP = re.compile(
    r"(?:(?:master|replica|clustercfg)\.)?([a-z0-9-]+)(?:\.[a-z0-9-]+)+\.cache\.amazonaws\.com(?:\.cn)?"
)


def logins(sought: Sought) -> Logins:
    """Give what makes logins: tokens are signed here, and only credentials may have to be asked for.

    Raises:
        ConfigError: it is no server for which IAM makes logins, or something is missing.
    """
    if sought.protocol not in {"postgresql", "mysql", "redis"}:
        raise ConfigError(f"auth=aws-iam does not serve {sought.protocol}:")
    if sought.username is None:
        raise ConfigError("auth=aws-iam needs the user in the URL: user@host")
    username = sought.username
    with translating():
        session = opened(credentials(sought, AwsCredentials), sought.region)
        region = sought.region or _region(sought.host) or session.region_name
    if region is None:
        raise ConfigError("no region is set; write region= into the URL")
    if sought.protocol == "redis":
        cache, is_serverless = _cache(sought)
        asked = {"Action": "connect", "User": username}
        if is_serverless:
            asked["ResourceType"] = "ServerlessCache"

        def to_cache() -> Login:
            token = _signed(session, "elasticache", region, cache, asked)
            return Login(username, token, time.time() + CACHE_LASTS)

        return to_cache

    def to_database() -> Login:
        place = f"{sought.host}:{sought.port}"
        return Login(username, _signed(session, "rds-db", region, place, {"Action": "connect", "DBUser": username}))

    return to_database


def _region(host: str) -> str | None:
    match = _RDS.search(host)
    return match and (match[1] or match[2])


def _cache(sought: Sought) -> tuple[str, bool]:
    """Give the name of a cache, which is what its token is for, and whether it is serverless."""
    host = sought.host.lower()
    serverless, group = _SERVERLESS.fullmatch(host), _GROUP.fullmatch(host)
    found = sought.cache or (serverless and serverless[1]) or (group and group[1])
    if not found:
        raise ConfigError("the host does not say which cache of ElastiCache it is; write cache=NAME")
    return found.lower(), ".serverless." in host


def _signed(session: Any, service: str, region: str, place: str, asked: dict[str, str]) -> str:
    """Sign a request that nobody sends: the server has it checked, as proof of who made it."""
    with translating():
        core = session._session  # noqa: SLF001 (boto3 has no other way to the events that a signer needs)
        signer = RequestSigner(
            ServiceId(service), region, service, "v4", session.get_credentials(), core.get_component("event_emitter")
        )
        request: dict[str, Any] = {
            "url_path": f"/?{urlencode(asked)}",
            "query_string": {},
            "headers": {},
            "body": {},
            "method": "GET",
        }
        prepare_request_dict(request, f"https://{place}")
        signed = signer.generate_presigned_url(
            request, operation_name="connect", region_name=region, expires_in=TOKEN_LASTS, signing_name=service
        )
    return str(signed).removeprefix("https://")
