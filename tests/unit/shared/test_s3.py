"""Clients of object stores: how each store is spoken to, and what is said of its errors."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ProxyConnectionError, SSLError

from shared.s3 import S3, reason_of
from shared.settings import Settings

AWS = {"s3_region": "eu-central-1", "s3_access_key": "a", "s3_secret_key": "b"}
OTHER = AWS | {"s3_endpoint": "http://minio:9000"}
SIGNED = "https://store.test:9000/bucket/pictures/1.jpg?X-Amz-Credential=AKIA"


def address(client: Any) -> str:
    given: str = client.generate_presigned_url("get_object", Params={"Bucket": "my-bucket", "Key": "1.jpg"})
    return given.partition("?")[0]


@pytest.mark.parametrize(
    ("settings", "own", "public"),
    [
        (AWS, *["https://my-bucket.s3.eu-central-1.amazonaws.com/1.jpg"] * 2),
        (OTHER, *["http://minio:9000/my-bucket/1.jpg"] * 2),
        (
            AWS | {"s3_public_endpoint": "https://cdn.test"},
            "https://my-bucket.s3.eu-central-1.amazonaws.com/1.jpg",
            "https://cdn.test/my-bucket/1.jpg",
        ),
        (
            OTHER | {"s3_public_endpoint": "https://cdn.test"},
            "http://minio:9000/my-bucket/1.jpg",
            "https://cdn.test/my-bucket/1.jpg",
        ),
    ],
)
def test_the_bucket_is_in_the_path_where_an_endpoint_is_named_and_in_the_host_at_aws(settings, own, public):
    store = S3(Settings(**settings))
    assert address(store.client) == own
    assert address(store.public_client) == public
    assert store.public_address("my-bucket") == public.replace("1.jpg", "any")


class Seen(Exception):
    """The request, in place of its answer."""

    def __init__(self, request: Any) -> None:
        self.request = request


@pytest.fixture
def sent_deletion():
    """What a client under these settings sends to delete an object. Nothing leaves this process."""

    def sent_deletion(settings: dict[str, Any]) -> Any:
        def see(request: Any, **_: Any) -> None:
            raise Seen(request)

        client = S3(Settings(**settings)).client
        client.meta.events.register("before-send.s3.DeleteObjects", see)
        with pytest.raises(Seen) as seen:
            client.delete_objects(Bucket="my-bucket", Delete={"Objects": [{"Key": "a\r1.jpg"}], "Quiet": True})
        return seen.value.request

    return sent_deletion


def test_other_stores_get_the_md5_of_a_deletion_signed_with_the_rest(sent_deletion):
    request = sent_deletion(OTHER)
    # As it is sent: a carriage return is escaped after the body was made.
    assert b"&#xD;1.jpg" in request.body
    assert request.headers["Content-MD5"] == base64.b64encode(hashlib.md5(request.body).digest())
    assert b"content-md5" in request.headers["Authorization"]


def test_aws_gets_a_deletion_as_boto3_makes_it(sent_deletion):
    request = sent_deletion(AWS)
    assert "Content-MD5" not in request.headers and "x-amz-checksum-crc32" in request.headers


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionClosedError(endpoint_url=SIGNED), "it closed the connection"),
        (SSLError(endpoint_url=SIGNED, error="x"), "there is no secure connection to it; look at its certificate"),
        (ProxyConnectionError(proxy_url=SIGNED), "ProxyConnectionError"),
        (HTTPClientError(error=SIGNED), "HTTPClientError"),
    ],
)
def test_a_reason_names_no_address_and_no_key(error, reason):
    assert "store.test" in str(error)
    assert reason_of(error) == reason
