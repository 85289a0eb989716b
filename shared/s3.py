"""The way to an object store that speaks S3: clients, and what their errors say to a person.

Imports boto3, which takes a while: import this module where a store is used.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from shared.settings import Settings

#: What a call of a client raises.
ERRORS = (BotoCoreError, ClientError)

CONNECT_TIMEOUT_S = 3
#: How long the store may say nothing: of background work, when nobody says otherwise.
READ_TIMEOUT_S = 20
#: Tries of one call in all, with waits between them that grow and are random (botocore's mode `standard`).
ATTEMPTS = 3
#: As many as threads of ours ask at a time; more would be opened and closed each time.
CONNECTIONS = 32

_WORDS = {
    "AccessDenied": "access denied",
    "InvalidAccessKeyId": "it does not know this access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "RequestTimeTooSkewed": "the clocks of the store and of this machine differ too much",
    "NoSuchBucket": "there is no such bucket",
    "SlowDown": "it is asked too often (SlowDown)",
}


_AWS = Config(
    s3={"addressing_style": "virtual"},
    request_checksum_calculation="when_supported",
    response_checksum_validation="when_supported",
)
#: Other stores have no addresses with the bucket in the host's name, and not all know checksums that follow the body.
_OTHERS = Config(
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class S3:
    """One object store, for one process and the processes that it forks.

    connections: kept at most; read_timeout_s: how long the store may say nothing; attempts: tries of a call.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connections: int = CONNECTIONS,
        read_timeout_s: float = READ_TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._settings = settings
        self._config = Config(
            signature_version="s3v4",
            max_pool_connections=connections,
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            tcp_keepalive=True,
            # Only our settings say where the store is, and how it is reached.
            ignore_configured_endpoint_urls=True,
            proxies={},
        )
        self._clients: dict[int, dict[str, Any]] = {}

    @property
    def client(self) -> Any:
        """This process's client, which its threads may share."""
        return self._client(self._settings.s3_endpoint)

    def connect(self) -> None:
        """Make this process's client, before threads ask for it at the same time and each makes its own."""
        self._client(self._settings.s3_endpoint)

    @property
    def public_client(self) -> Any:
        """The client that signs addresses for browsers; it need not reach the store itself."""
        return self._client(self._settings.s3_public_endpoint or self._settings.s3_endpoint)

    def public_address(self, bucket: str) -> str:
        """The address that browsers see of something in the bucket, without a signature. Needs no credentials."""
        endpoint = self._settings.s3_public_endpoint or self._settings.s3_endpoint
        unsigned = self._connect(endpoint, self._config.merge(Config(signature_version=UNSIGNED)))
        address: str = unsigned.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "any"})
        return address

    def _client(self, endpoint: str) -> Any:
        pid = os.getpid()
        if pid not in self._clients:
            # Connections never cross a fork.
            self._clients = {pid: {}}
        clients = self._clients[pid]
        if endpoint not in clients:
            clients[endpoint] = self._connect(endpoint, self._config)
        return clients[endpoint]

    def _connect(self, endpoint: str, config: Config) -> Any:
        """A new client. Nothing is sent yet."""
        settings = self._settings
        # A session of its own, because boto3's common one is not for several threads.
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=settings.s3_region or ("us-east-1" if endpoint else None),
            aws_access_key_id=settings.s3_access_key or None,
            aws_secret_access_key=settings.s3_secret_key or None,
            config=config.merge(_OTHERS if endpoint else _AWS),
        )
        if endpoint:
            # Last, because others still change the body.
            client.meta.events.register_last("before-call.s3.DeleteObjects", _add_md5)
        return client


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Name the body's MD5, which AWS no longer asks for where several objects are deleted, but many stores do."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def code_of(error: Exception) -> str:
    """The store's own word for what went wrong, such as `NoSuchKey` or `404`; "" when it gave no answer."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: Exception) -> bool:
    """Whether the store says that there is no object of that name; a HEAD's answer has no word but the status."""
    return code_of(error) in ("NoSuchKey", "404")


def reason_of(error: Exception) -> str:
    """What went wrong, in a few words for a person, without names of keys or addresses of accounts."""
    if isinstance(error, ClientError):
        code = code_of(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return _WORDS.get(code) or ("access denied" if code == "403" else f"it answers {status} {code}".rstrip())
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return "it cannot be reached"
    if isinstance(error, ReadTimeoutError):
        return "it does not answer in time"
    if isinstance(error, NoCredentialsError):
        return "there are no credentials: set REELMAP_S3_ACCESS_KEY and REELMAP_S3_SECRET_KEY, or give the pod a role"
    if isinstance(error, ConnectionClosedError):
        return "it closed the connection"
    if isinstance(error, SSLError):
        return "there is no secure connection to it; look at its certificate"
    # Their sentences hold addresses.
    return type(error).__name__
