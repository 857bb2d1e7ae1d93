"""Refusals in the service's words, and calls checked against its algorithm list."""

from __future__ import annotations

from typing import Any

import ee
import pytest
import requests
from serving import PROJECT
from small_world import L1C, S1, SmallWorld

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("client")]


def refusal(value: Any) -> str:
    with pytest.raises(ee.EEException) as refused:
        value.getInfo()
    return str(refused.value)


def some_image(world: SmallWorld) -> Any:
    return ee.Image(world.records(L1C)[0].asset_id)


def post(address: str, expression: Any, path: str = "value:compute") -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    body = {"expression": expression}
    return session.post(f"{address}/v1/projects/{PROJECT}/{path}", json=body, timeout=30)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    named = {key: {"constantValue": value} for key, value in arguments.items()}
    node = {"functionInvocationValue": {"functionName": name, "arguments": named}}
    return {"result": "0", "values": {"0": node}}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: ee.Image("NO/SUCH/image"),
         "Image.load: Image asset 'NO/SUCH/image' not found (does not exist or caller does not "
         "have access)."),
        (lambda: ee.ImageCollection("NO/SUCH").size(),
         "ImageCollection.load: ImageCollection asset 'NO/SUCH' not found (does not exist or "
         "caller does not have access)."),
        (lambda: ee.ImageCollection(L1C).filterDate("1990-01-01", "1991-01-01").first()
         .select("B2"),
         "Image.select: Parameter 'input' is required and may not be null."),
        (lambda: ee.Image(ee.ImageCollection(L1C).filterDate("1990-01-01", "1991-01-01")
                          .toList(1).get(0)),
         "List.get: List index out of range: 0. The list has 0 elements."),
        (lambda: ee.ImageCollection(S1).size(),
         "Give bounds or dates: the search is too wide."),
        (lambda: ee.Image(1).rename(["a", "b"]),
         "Image.rename: The number of names (2) must match the number of bands (1)."),
        (lambda: ee.Date("yesterday"),
         "Date: Invalid date string: 'yesterday'. Expected ISO 8601."),
        (lambda: ee.Projection("EPSG:0"),
         "Projection: The CRS of a map projection could not be parsed: 'EPSG:0'."),
    ],
)  # fmt: skip
def test_refusals_are_worded_as_the_service_does(asked: Any, message: str) -> None:
    assert refusal(asked()) == message


def test_nothing_found_is_null_not_an_error() -> None:
    nothing = ee.ImageCollection(L1C).filterDate("1990-01-01", "1991-01-01")
    assert nothing.first().getInfo() is None
    assert nothing.size().getInfo() == 0
    assert nothing.toList(5).getInfo() == []


def test_wrong_band_names_those_there_are(small_world: SmallWorld) -> None:
    assert refusal(some_image(small_world).select("B99")) == (
        "Image.select: Band pattern 'B99' did not match any bands. Available bands: [B1, B2, B3, "
        "B4, B5, B6, B7, B8, B8A, B9, B10, B11, B12]"
    )
    both = some_image(small_world).select(["B1.", 0], ["x", "y", "z", "w"])
    assert both.bandNames().getInfo() == ["x", "y", "z", "w"]


def test_errors_inside_map_say_where(small_world: SmallWorld) -> None:
    mapped = ee.ImageCollection(L1C).map(lambda image: image.select("B99"))
    index = small_world.records(L1C)[0].index
    assert refusal(mapped.first()).startswith(
        f"Error in map(ID={index}):\nImage.select: Band pattern 'B99' did not match any bands."
    )


def test_wrong_types_name_the_expected_and_the_actual() -> None:
    added = ee.Image(1).add(ee.Image(ee.List(["text"]).get(0)))
    assert refusal(added) == (
        "Image.add, argument 'image2': Invalid type.\nExpected type: Image<unknown bands>.\n"
        "Actual type: String."
    )
    collection = ee.Image(ee.ImageCollection(L1C)).select("B2")
    assert refusal(collection).endswith("Actual type: ImageCollection.")
    size = ee.List(["a"]).get(ee.Number(ee.List(["x"]).get(0)))
    assert refusal(size) == (
        "List.get, argument 'index': Invalid type.\nExpected type: Integer.\nActual type: String."
    )


def test_known_algorithms_that_are_not_here_say_so(small_world: SmallWorld) -> None:
    message = refusal(some_image(small_world).hsvToRgb())
    assert message.startswith(
        "Image.hsvToRgb: the service has this algorithm, this emulator does not."
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (call("Image.fly"), "Unknown function 'Image.fly'"),
        (call("Number.add", left=1, right=2, third=3), "Unrecognized arguments ['third']"),
        (call("Number.add", left=1), "Number.add: Parameter 'right' is required"),
        (call("Number.add", left=1, right=None), "Number.add: Parameter 'right' is required"),
        ({"values": {}}, "'result' is missing"),
        ({"result": "7", "values": {}}, "Reference to unknown value '7'"),
        ({"result": "0", "values": {"0": {"valueReference": "0"}}}, "refers to itself"),
        ({"result": "0", "values": {"0": {"strangeValue": 1}}}, "Unknown kind of value node"),
        ({"result": "0", "values": {"0": {"argumentReference": "x"}}}, "Undefined argument 'x'"),
        (None, "'result' is missing"),
    ],
)
def test_malformed_expressions_are_refused_in_the_error_shape(
    address: str, expression: Any, message: str
) -> None:
    reply = post(address, expression)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "status"}
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert message in error["message"]


def chain(length: int) -> dict[str, Any]:
    """Return the expression of 1 + 1 + 1 + ..., each sum a value of its own."""
    values: dict[str, Any] = {"0": {"constantValue": 1}}
    for number in range(1, length + 1):
        arguments = {"left": {"valueReference": str(number - 1)}, "right": {"constantValue": 1}}
        invocation = {"functionName": "Number.add", "arguments": arguments}
        values[str(number)] = {"functionInvocationValue": invocation}
    return {"result": str(length), "values": values}


def test_deep_expressions_are_evaluated_and_bottomless_ones_refused(address: str) -> None:
    assert post(address, chain(500)).json() == {"result": 501}
    reply = post(address, chain(50_000))
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "Expression is too deeply nested."


def test_pixels_need_an_image_a_known_format_and_a_sound_grid(address: str) -> None:
    session = requests.Session()
    session.trust_env = False
    url = f"{address}/v1/projects/{PROJECT}/image:computePixels"
    image = call("Image.constant", value=1)
    sound = {"dimensions": {"width": 2, "height": 2}}
    for body, message in (
        ({"expression": call("Number.add", left=1, right=2), "fileFormat": "NPY"}, "an Image"),
        ({"expression": image, "fileFormat": "PNG"}, "Unsupported file format 'PNG'"),
        ({"expression": image, "fileFormat": "NPY"}, "unbounded image"),
        (
            {"expression": image, "fileFormat": "NPY", "grid": {"dimensions": {"width": 2}}},
            "'height' is not",
        ),
        (
            {
                "expression": image,
                "fileFormat": "NPY",
                "grid": {**sound, "affineTransform": {"scaleX": 10}, "crsCode": "EPSG:32618"},
            },
            "not invertible",
        ),
        (
            {
                "expression": image,
                "fileFormat": "NPY",
                "grid": {
                    **sound,
                    "affineTransform": {"scaleX": 1, "scaleY": -1},
                    "crsCode": "EPSG:99",
                },
            },
            "could not be parsed: 'EPSG:99'",
        ),
        (
            {"expression": image, "fileFormat": "NPY", "visualizationOptions": {"a": 1}},
            "visualizationOptions",
        ),
    ):
        reply = session.post(url, json=body, timeout=30)
        assert reply.status_code == 400, body
        assert message in reply.json()["error"]["message"]
