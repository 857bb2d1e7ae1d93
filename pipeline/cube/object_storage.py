"""Bytes at keys under a cube's root: a local directory or an S3-compatible bucket.

Arrays go through zarr's own stores (`ObjectStorage.zarr_store`). Everything beside them (markers,
the lease, provenance) goes through obstore, which writes atomically on both and knows conditional
writes. What the two do differently is in this module and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, S3Store
from zarr.abc.store import Store
from zarr.storage import LocalStore as ZarrLocalStore
from zarr.storage import ObjectStore as ZarrObjectStore

from groundwork.errors import InputError, LimitReachedError, TransientError
from groundwork.file_writes import make_folder
from groundwork.store_address import (
    BucketAddress,
    FolderAddress,
    bucket_service,
    parse_address,
)

if TYPE_CHECKING:
    from obstore.store import S3Config  # a type of its stubs only

REQUEST_TIMEOUT: Final = timedelta(seconds=120)


class ObjectStorage:
    """A cube's root, by address.

    Args:
        address: a local path, or ``s3://bucket/prefix``. Credentials, region and endpoint of a
            bucket come from the usual ``AWS_*`` variables and are never stored. Instances are
            picklable; every process opens its own connections.

    Raises:
        InputError: the address is of another kind.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        self.address = os.fspath(address)
        self._parsed = parse_address(self.address)
        self.path: Path | None = (
            self._parsed.path if isinstance(self._parsed, FolderAddress) else None
        )
        self._store: LocalStore | S3Store | None = None

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str]]:
        return ObjectStorage, (self.address,)

    def __str__(self) -> str:
        return self.address

    def create_root(self) -> None:
        """Make the local directory; buckets have none."""
        if self.path is not None:
            make_folder(self.path)

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """Return zarr's store of the cube."""
        if self.path is not None:
            return ZarrLocalStore(self.path, read_only=read_only)
        return ZarrObjectStore(self._objects, read_only=read_only)

    def read(self, key: str) -> bytes | None:
        """Return the bytes at a key, None where there are none."""
        if self._is_absent:
            return None
        try:
            return bytes(obstore.get(self._objects, key).bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except BaseError as error:
            raise self.translate(error, f"reading {key}") from error

    def write(self, key: str, value: bytes) -> None:
        """Put bytes at a key, atomically, whatever was there."""
        self.create_root()
        try:
            obstore.put(self._objects, key, value)
        except (BaseError, OSError) as error:
            raise self.translate(error, f"writing {key}") from error

    def create(self, key: str, value: bytes) -> bool:
        """Put bytes at a key unless something is there already; tell whether it was done."""
        self.create_root()
        try:
            obstore.put(self._objects, key, value, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise self.translate(error, f"writing {key}") from error
        return True

    def swap(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Put bytes at a key if it still holds `expected` (None: nothing); tell whether it did.

        One compare-and-swap, whoever else tries: a lock file locally, a conditional PUT on S3.
        """
        if self.path is not None:
            return self._swap_in_folder(self.path, key, expected, value)
        if expected is None:
            return self.create(key, value)
        try:
            found = obstore.get(self._objects, key)
            if bytes(found.bytes()) != expected:
                return False
            obstore.put(self._objects, key, value, mode={"e_tag": found.meta["e_tag"]})
        except (FileNotFoundError, PreconditionError):
            return False
        except BaseError as error:
            raise self.translate(error, f"writing {key}") from error
        return True

    def _swap_in_folder(self, folder: Path, key: str, expected: bytes | None, value: bytes) -> bool:
        # Asked first: without locks a build would write for two minutes, then lose its lease.
        fcntl = _posix_locks()
        if expected is None:
            return self.create(key, value)
        with (folder / f".{Path(key).name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # The system releases it when the file is closed.
            if self.read(key) != expected:
                return False
            self.write(key, value)
            return True

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys; those that are not there are passed over."""
        for key in keys:
            try:
                obstore.delete(self._objects, key)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except BaseError as error:
                raise self.translate(error, f"deleting {key}") from error

    def size(self, key: str) -> int | None:
        """Return the size in bytes of what is at a key, None where there is nothing."""
        if self._is_absent:
            return None
        try:
            return obstore.head(self._objects, key)["size"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except BaseError as error:
            raise self.translate(error, f"looking at {key}") from error

    def list_sizes(self, prefix: str = "") -> dict[str, int]:
        """Return key -> size in bytes of everything under a prefix (whole path segments)."""
        if self.path is not None and not (self.path / prefix).is_dir():
            return {}
        try:
            stream = obstore.list(self._objects, prefix=prefix or None, chunk_size=1000)
            return {meta["path"]: meta["size"] for chunk in stream for meta in chunk}
        except BaseError as error:
            raise self.translate(error, f"listing {prefix or 'the cube'}") from error

    def is_empty(self) -> bool:
        """Tell whether nothing at all is stored here."""
        if self.path is not None:
            return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))
        try:
            stream = obstore.list(self._objects, chunk_size=1)
            return next(iter(stream), None) in (None, [])
        except BaseError as error:
            raise self.translate(error, "listing the cube") from error

    @property
    def _is_absent(self) -> bool:
        return self.path is not None and not self.path.exists()

    @property
    def _objects(self) -> LocalStore | S3Store:
        if self._store is None:
            if isinstance(self._parsed, BucketAddress):
                self._store = _open_bucket(self._parsed)
            else:
                folder = self._parsed.path
                if folder.exists() and not folder.is_dir():
                    raise InputError(f"{folder} is a file: a cube is a folder")
                self._store = LocalStore(folder)
        return self._store

    def translate(self, error: Exception, doing: str) -> Exception:
        """Turn an error of the storage libraries into one of ours, with its sentence."""
        text = str(error)
        if "No space left" in text or "Quota" in text or "os error 28" in text:
            return LimitReachedError(
                f"the disk under {self.address} is full ({doing}): free some space, then run the "
                "same command again, it continues"
            )
        if "Permission denied" in text or "403" in text or "AccessDenied" in text:
            return InputError(f"no permission at {self.address} ({doing}): check owner or keys")
        if "NoSuchBucket" in text:
            return InputError(f"the bucket of {self.address} does not exist: create it first")
        first_line = text.splitlines()[0] if text else type(error).__name__
        if self.path is None:
            return TransientError(
                f"{self.address} did not answer as it should ({doing}): {first_line}"
            )
        return InputError(f"{self.address} cannot be used ({doing}): {first_line}")


def _open_bucket(address: BucketAddress) -> S3Store:
    service = bucket_service()
    config: S3Config = {}
    # A set AWS_ENDPOINT_URL_S3 overrides `endpoint` in obstore 0.11 and later; it is the first
    # variable of `bucket_service` too, so both say the same.
    if service.endpoint is not None:
        config["endpoint"] = service.endpoint
    if service.region is not None:
        config["region"] = service.region
    return S3Store(
        address.bucket,
        prefix=address.prefix or None,
        config=config,
        client_options={"timeout": REQUEST_TIMEOUT, "allow_http": service.allows_http},
    )


def _posix_locks() -> ModuleType:
    # Only building takes locks: looking at a cube works on Windows too, which has no fcntl.
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise InputError(
            "building a cube in a local folder needs POSIX file locks: build it on Linux or macOS, "
            "under WSL, or in a bucket"
        ) from error
    return fcntl
