"""One reading of addresses and of the ``AWS_*`` variables, for builds and for training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundwork.errors import InputError
from groundwork.store_address import (
    ENDPOINT_VARIABLES,
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


@pytest.mark.parametrize(
    "address",
    [
        "gs://b/c", "s3:/b/c", "s3://", "s3:///b", "file:///data", "", " ", "\0",
        "s3://key:secret@b/c", "s3://b c/d", "s3://b/c%20d", "s3://b/c?d", "s3://b/c#d",
        "s3://b//c", "s3://b/c//d", "s3://b/c//", "s3://b/./c", "s3://b/c/..", "s3://b/c\\d",
        "s3://b/c\n",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_in_one_sentence(address: str) -> None:
    with pytest.raises(InputError, match=r"s3://bucket/prefix") as refused:
        parse_address(address)
    assert "secret" not in str(refused.value)


def test_the_services_own_variable_comes_first() -> None:
    everything = {name: f"https://{name.lower().replace('_', '-')}" for name in ENDPOINT_VARIABLES}
    for name in ENDPOINT_VARIABLES:
        assert bucket_service(everything) == BucketService(everything.pop(name), None)
    assert bucket_service({}) == BucketService(None, None)


def test_an_empty_region_counts_as_absent() -> None:
    assert bucket_service({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}).region == "a"
    assert bucket_service({"AWS_REGION": "", "AWS_DEFAULT_REGION": "b"}).region == "b"
    assert bucket_service({"AWS_REGION": ""}).region is None


@pytest.mark.parametrize("variable", ENDPOINT_VARIABLES)
@pytest.mark.parametrize(
    "url", ["", " ", "host:9000", "localhost", "ftp://host", "http://", "http://k:secret@h", "h\n"]
)
def test_an_endpoint_that_is_no_url_is_refused_in_one_sentence(
    variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the refusal, obstore panics on some of these: nothing that a caller could catch.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(InputError, match=f"{variable} is .*such as https://host:9000") as refused:
        bucket_service({variable: url})
    assert "secret" not in str(refused.value)
    for read in (
        ObjectStorage("s3://cubes/x").read,
        lambda key: CubeFiles("s3://cubes/x").read(key),
    ):
        with pytest.raises(InputError, match="AWS_ENDPOINT_URL_S3 is"):
            read("object")


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
@pytest.mark.parametrize("prefix", ["a b", "\u00fc/caf\u00e9", "it's+(1)!", "end/"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_builds_and_training_read_an_address_alike(
    prefix: str, slash: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint + slash)
    address = f"s3://cubes/addresses/{prefix}"
    ObjectStorage(address).write("object", prefix.encode())
    assert CubeFiles(address).read("object") == prefix.encode()
    ours = ObjectStorage("s3://cubes/addresses").list_sizes()
    assert f"{prefix.rstrip('/')}/object" in ours


@pytest.mark.server
def test_either_region_variable_is_enough(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = os.environ["AWS_REGION"]
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    ObjectStorage("s3://cubes/region").write("object", b"here")
    assert CubeFiles("s3://cubes/region").read("object") == b"here"
