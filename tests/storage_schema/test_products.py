"""Descriptions of products: plain values that do not contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from storage_schema.products import (
    DYNAMIC_WORLD,
    PATCH_SIZE_M,
    PRODUCTS,
    S1_GRD,
    S2_L1C,
    ImageryName,
    NoData,
    Product,
    ProductName,
    Role,
    of_role,
    optical_twins,
    patch_size_px,
)
from tests.synthetic import describe_cube


class Form(BaseModel):
    """Settings as a form shows them."""

    product: ProductName = "s2_l1c"
    modality: ImageryName = "s2_l1c"


def changed(product: Product, **changes: Any) -> Product:
    return Product.model_validate(product.model_dump() | changes)


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=lambda p: p.name)
def test_a_description_survives_json(product: Product) -> None:
    assert Product.model_validate_json(product.model_dump_json()) == product


@pytest.mark.parametrize(
    ("product", "changes", "sentence"),
    [
        (S2_L1C, {"true_colour": ("B4", "B3")}, "three bands of groups"),
        (S2_L1C, {"true_colour": ()}, "three bands of groups"),
        (S2_L1C, {"false_colour": ("B12", "B4", "B3")}, "three bands of groups"),
        (S2_L1C, {"band_dimension": "band"}, "one band_dimension, band"),
        (S2_L1C, {"groups": ()}, "at least 1 item"),
        (S1_GRD, {"published": S2_L1C.published}, "statistics of other bands"),
        (S1_GRD, {"unit": "1"}, "stored in dB, not in 1"),
        (S1_GRD, {"groups": [{**S1_GRD.groups[0].model_dump(), "bands": ("VV", "VV")}]}, "twice"),
        (DYNAMIC_WORLD, {"fill_value": 0}, "255 where masked"),
        (DYNAMIC_WORLD, {"valid_range": (0, 10)}, "classes 0 to 8"),
        (DYNAMIC_WORLD, {"dtype": "int16"}, "one band of uint8"),
    ],
)
def test_a_contradiction_is_named(product: Product, changes: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        changed(product, **changes)


def test_channels_are_all_bands_by_wavelength_or_as_stored() -> None:
    assert S2_L1C.channels[:3] == ("B1", "B2", "B3")
    assert changed(S2_L1C, published=()).channels == S2_L1C.bands


def test_two_products_with_one_array_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRODUCTS, "copy", S1_GRD.model_copy(update={"name": "copy"}))
    with pytest.raises(ValidationError, match="s1_grd and copy both name"):
        describe_cube(1, ("s1_grd", "copy"))
    assert describe_cube(1, ("copy",)).products == ("copy",)


def test_forms_list_the_registry_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def enums() -> tuple[list[str], list[str]]:
        shown = Form.model_json_schema()["properties"]
        return shown["product"]["enum"], shown["modality"]["enum"]

    imagery = ["s2_l1c", "s2_l2a", "s1_grd"]
    assert enums() == ([*imagery, "dynamic_world"], imagery)
    monkeypatch.setitem(PRODUCTS, "copy", S1_GRD.model_copy(update={"name": "copy"}))
    assert enums() == ([*imagery, "dynamic_world", "copy"], [*imagery, "copy"])


def test_units_are_shown_as_people_say_them() -> None:
    shown = {name: product.shown_unit for name, product in PRODUCTS.items()}
    assert shown == {"s2_l1c": "DN", "s2_l2a": "DN", "s1_grd": "dB", "dynamic_world": "1"}


def test_products_are_found_by_what_they_are() -> None:
    assert of_role(Role.OPTICAL, ("s1_grd", "s2_l2a")) == ("s2_l2a",)
    assert optical_twins(PRODUCTS) == (("s2_l1c", "s2_l2a"),)
    assert optical_twins(("s2_l2a", "dynamic_world")) == ()
    # A lone band at 0 is dark water: readers must not mask it, so such arrays have no _FillValue.
    rules = {name: product.no_data is NoData.EVERY_BAND for name, product in PRODUCTS.items()}
    assert rules == {"s2_l1c": True, "s2_l2a": True, "s1_grd": False, "dynamic_world": False}


def test_the_patch_side_is_whole_at_every_resolution() -> None:
    groups = [group for product in PRODUCTS.values() for group in product.groups]
    assert {group.resolution_m: group.size_px for group in groups} == {10: 264, 20: 132, 60: 44}
    assert all(patch_size_px(g.resolution_m) * g.resolution_m == PATCH_SIZE_M for g in groups)
