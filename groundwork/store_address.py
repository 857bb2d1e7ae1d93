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
from groundwork.settings_text import shown

_SCHEME: Final = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/")
_BUCKET: Final = re.compile(r"s3://(?P<bucket>[^/]+)(?:/(?P<prefix>.*?)/?)?", re.DOTALL)
_BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
# URL parsers decode or cut at %, ? and #, and obstore refuses empty and dotted segments: such a
# prefix could name one place for a build and another one for training.
_NOT_IN_A_PREFIX: Final = re.compile(r"[%?#\\\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")
_ENDPOINT: Final = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#@]*)?")

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
    if found := _BUCKET.fullmatch(text):
        return _bucket_address(text, found["bucket"], found["prefix"] or "")
    if _SCHEME.match(text):
        raise InputError(
            f"{shown(text)}: only local folders and s3://bucket/prefix can hold a cube"
        )
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is not a path: give a folder or s3://bucket/prefix")
    return FolderAddress(Path(text).absolute())


def _bucket_address(text: str, bucket: str, prefix: str) -> BucketAddress:
    if not _BUCKET_NAME.fullmatch(bucket):
        raise InputError(
            f"{shown(text)}: s3://bucket/prefix names a bucket by letters, digits, '.', '-' and '_'"
        )
    if prefix and _NOT_IN_A_PREFIX.search(prefix):
        raise InputError(
            f"{shown(text)}: the prefix in s3://bucket/prefix has no %, ?, #, backslash or control "
            "character, and no part that is empty, '.' or '..'"
        )
    return BucketAddress(bucket, prefix)


@dataclass(frozen=True, slots=True)
class BucketService:
    """The service that holds buckets. Credentials are left to the libraries.

    Args:
        endpoint: URL of an S3-compatible service, without a slash at its end; None means AWS
            itself.
        region: None leaves it to the library.
    """

    endpoint: str | None
    region: str | None

    @property
    def allows_http(self) -> bool:
        """Whether requests may go unencrypted: only where the endpoint says so itself."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def bucket_service(environment: Mapping[str, str] | None = None) -> BucketService:
    """Read the ``AWS_*`` variables. The first endpoint variable that is set decides.

    Args:
        environment: defaults to the environment of this process.

    Raises:
        InputError: the endpoint is not the URL of a service.
    """
    found = os.environ if environment is None else environment
    name = next((name for name in ENDPOINT_VARIABLES if name in found), None)
    region = next((found[name] for name in REGION_VARIABLES if found.get(name)), None)
    return BucketService(None if name is None else _endpoint(name, found[name]), region)


def _endpoint(variable: str, url: str) -> str:
    # obstore reads these variables too, and panics on an empty one or one without a scheme:
    # passing it nothing does not help.
    if not _ENDPOINT.fullmatch(url):
        raise InputError(
            f"{variable} is {shown(url)}: set it to the URL of a service, such as "
            "https://host:9000, or unset it"
        )
    # tensorstore appends "/bucket" and gets an error for "//bucket"; obstore strips the slash.
    return url.rstrip("/")
