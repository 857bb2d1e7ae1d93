"""One reading of addresses and of the ``AWS_*`` variables, for builds and for training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundwork.errors import InputError
from groundwork.store_address import (
    ENDPOINT_VARIABLES,
    REGION_VARIABLES,
    BucketAddress,
    BucketService,
    FolderAddress,
    bucket_service,
    parse_address,
)
from pipeline.cube.object_storage import ObjectStorage
from training.reading.cube_files import CubeFiles

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nobody listens."""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://cubes", BucketAddress("cubes", "")),
        ("s3://cubes/", BucketAddress("cubes", "")),
        ("s3://cubes/a/b.zarr/", BucketAddress("cubes", "a/b.zarr")),
        ("/data/cube.zarr", FolderAddress(Path("/data/cube.zarr"))),
        ("cube.zarr", FolderAddress(Path.cwd() / "cube.zarr")),
        ("a:b/cube.zarr", FolderAddress(Path.cwd() / "a:b" / "cube.zarr")),
    ],
)
def test_address_is_a_folder_or_a_bucket(
    address: str, expected: FolderAddress | BucketAddress
) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["gs://b/c", "s3:/b/c", "s3://", "file:///data", "", " ", "\0"])
def test_other_addresses_are_refused_in_one_sentence(address: str) -> None:
    with pytest.raises(InputError, match=r"s3://bucket/prefix"):
        parse_address(address)


def test_the_services_own_variable_comes_first_and_empty_ones_do_not_count() -> None:
    names = [*ENDPOINT_VARIABLES, *REGION_VARIABLES]
    everything = {name: f"https://{name.lower().replace('_', '-')}.example" for name in names}
    assert bucket_service(everything) == BucketService(
        everything["AWS_ENDPOINT_URL_S3"], everything["AWS_REGION"]
    )
    everything["AWS_ENDPOINT_URL_S3"] = everything["AWS_REGION"] = ""
    assert bucket_service(everything) == BucketService(
        everything["AWS_ENDPOINT_URL"], everything["AWS_DEFAULT_REGION"]
    )
    assert bucket_service({}) == BucketService(None, None)


@pytest.mark.parametrize(
    ("endpoint", "allowed"), [("http://h:1", True), ("https://h", False), (None, False)]
)
def test_http_is_allowed_where_the_endpoint_says_so(endpoint: str | None, allowed: bool) -> None:
    assert BucketService(endpoint, None).allows_http is allowed


@pytest.mark.server
@pytest.mark.parametrize("variable", ENDPOINT_VARIABLES)
def test_builds_and_training_reach_the_same_bucket_by_every_variable(
    variable: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, s3_endpoint)
    # A variable that comes later in the order must not win, whatever the libraries read.
    for name in ENDPOINT_VARIABLES[ENDPOINT_VARIABLES.index(variable) + 1 :]:
        monkeypatch.setenv(name, NOWHERE)
    address = f"s3://cubes/variables/{variable.lower()}"
    ObjectStorage(address).write("object", b"written by a build")
    assert CubeFiles(address).read("object") == b"written by a build"


@pytest.mark.server
def test_either_region_variable_is_enough(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = os.environ["AWS_REGION"]
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    ObjectStorage("s3://cubes/region").write("object", b"here")
    assert CubeFiles("s3://cubes/region").read("object") == b"here"
