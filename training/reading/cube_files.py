"""Bytes and arrays of a cube, in a folder or a bucket, through tensorstore alone.

tensorstore aborts in a child that was forked after a read: everything is opened lazily, in the
process that reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from groundwork.errors import InputError
from groundwork.store_address import FolderAddress, bucket_service, parse_address


class CubeFiles:
    """One cube by its address. Picklable; every process opens its own.

    Args:
        address: a folder, or s3://bucket/prefix. Credentials, region and endpoint of a bucket come
            from the usual ``AWS_*`` variables.

    Raises:
        InputError: the address is of another kind.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._spec = _kvstore_spec(address)

    def __reduce__(self) -> tuple[type[CubeFiles], tuple[str]]:
        return CubeFiles, (self.address,)

    def __str__(self) -> str:
        return self.address

    @cached_property
    def _files(self) -> Any:
        import tensorstore

        return tensorstore.KvStore.open(self._spec).result()

    def read(self, key: str) -> bytes | None:
        """Return the bytes at a key, None where there are none.

        Raises:
            InputError: the store cannot be read.
        """
        try:
            found = self._files.read(key).result()
        except Exception as error:  # tensorstore raises ValueError, and others from its drivers
            raise InputError(f"{self.address}: {_first_line(error)}") from error
        return bytes(found.value) if found.state == "value" else None

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The root attributes.

        Raises:
            InputError: there is no cube.
        """
        document = self.read("zarr.json")
        try:
            found = json.loads(document or b"{}")["attributes"]
        except (ValueError, KeyError) as error:
            raise InputError(f"{self.address} holds no cube: check the address") from error
        if found.get("schema_name") != "softcon-cube":
            raise InputError(f"{self.address} holds no cube: check the address")
        return dict(found)

    def array_attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of an array."""
        document = self.read(f"{name}/zarr.json")
        if document is None:
            raise InputError(f"{self.address} has no array {name}")
        return dict(json.loads(document).get("attributes", {}))

    def open_array(self, name: str, context: Any = None, *, may_lack_chunks: bool = True) -> Any:
        """Open an array for reading: a ``tensorstore.TensorStore``.

        Args:
            name: of the array.
            context: shared by several arrays.
            may_lack_chunks: chunks that hold the fill value alone are not stored; they are read as
                such. False refuses to read them: a lost chunk must not pass for pixels without
                data.

        Raises:
            InputError: it does not exist, or its metadata cannot be read.
        """
        import tensorstore

        spec = {
            "driver": "zarr3",
            "kvstore": {**self._spec, "path": f"{self._spec['path']}{name}/"},
            "fill_missing_data_reads": may_lack_chunks,
        }
        try:
            return tensorstore.open(spec, read=True, open=True, context=context).result()
        except ValueError as error:
            raise InputError(
                f"{self.address} has no array {name} that can be read: {_first_line(error)}"
            ) from error


def _kvstore_spec(address: str) -> dict[str, Any]:
    parsed = parse_address(address)
    if isinstance(parsed, FolderAddress):
        if not parsed.path.is_dir():
            raise InputError(f"{address} does not exist: check the address of the cube")
        return {"driver": "file", "path": f"{parsed.path}/"}
    service = bucket_service()
    spec: dict[str, Any] = {
        "driver": "s3",
        "bucket": parsed.bucket,
        "path": f"{parsed.prefix}/" if parsed.prefix else "",
    }
    if service.endpoint is not None:
        spec["endpoint"] = service.endpoint
    if service.region is not None:
        spec["aws_region"] = service.region
    return spec


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
