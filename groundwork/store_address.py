"""Addresses of cubes, and the ``AWS_*`` variables that say how a bucket is reached.

Builds reach a bucket by obstore and training by tensorstore. The two libraries read different
environment variables, so both are told explicitly what is read here, once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from groundwork.errors import InputError

_SCHEME: Final = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/")
_BUCKET: Final = re.compile(r"^s3://(?P<bucket>[^/]+)/?(?P<prefix>.*)$", re.DOTALL)

# In the order of the AWS SDKs: the service's own variable before the general one. obstore also
# knows AWS_ENDPOINT, so that is taken last.
ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True)
class FolderAddress:
    """A cube in a local folder, whether it exists or not.

    Args:
        path: absolute.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A cube in an S3-compatible bucket.

    Args:
        bucket: name of the bucket.
        prefix: of all keys, without slashes at its ends; empty for the whole bucket.
    """

    bucket: str
    prefix: str


def parse_address(address: str | os.PathLike[str]) -> FolderAddress | BucketAddress:
    """Read the address of a cube.

    Raises:
        InputError: it is neither a path nor ``s3://bucket/prefix``.
    """
    text = os.fspath(address)
    if bucket := _BUCKET.match(text):
        return BucketAddress(bucket["bucket"], bucket["prefix"].strip("/"))
    if _SCHEME.match(text):
        raise InputError(f"{text}: only local folders and s3://bucket/prefix can hold a cube")
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is not a path: give a folder or s3://bucket/prefix")
    return FolderAddress(Path(text).absolute())


@dataclass(frozen=True, slots=True)
class BucketService:
    """The service that holds buckets. Credentials are left to the libraries.

    Args:
        endpoint: URL of an S3-compatible service; None means AWS itself.
        region: None leaves it to the library.
    """

    endpoint: str | None
    region: str | None

    @property
    def allows_http(self) -> bool:
        """Whether requests may go unencrypted: only where the endpoint says so itself."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def bucket_service(environment: Mapping[str, str] | None = None) -> BucketService:
    """Read the ``AWS_*`` variables; an empty variable counts as absent.

    Args:
        environment: defaults to the environment of this process.
    """
    found = os.environ if environment is None else environment

    def first(names: tuple[str, ...]) -> str | None:
        return next((found[name] for name in names if found.get(name)), None)

    return BucketService(first(ENDPOINT_VARIABLES), first(REGION_VARIABLES))
