"""Earth Engine's table of collections: complete, and in agreement with what the products are."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.sources.earth_engine.collections import ANCHOR, COLLECTIONS
from storage_schema.products import PRODUCT_NAMES, PRODUCTS, Pairing


def test_every_product_of_the_recipe_has_a_collection_in_the_same_order() -> None:
    assert tuple(COLLECTIONS) == PRODUCT_NAMES


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_collection_lists_what_its_pairing_needs(name: str) -> None:
    product, collection = PRODUCTS[name], COLLECTIONS[name]
    columns = set(collection.columns)
    assert {"system:index", "system:time_start"} <= columns
    # The footprint decides on images that are chosen; twins share that of their anchor.
    chosen = product.pairing is not Pairing.SAME_IMAGE
    assert ("contains_patch" in columns) is chosen
    assert ({"crs", "transform"} <= columns) is chosen
    assert (collection.lattice_band in product.bands) is chosen
    # Which bands an image has is asked only where images of one collection differ in them.
    assert ("band_names" in columns) is (product.pairing is Pairing.NEAREST_IN_TIME)
    assert {"CLOUDY_PIXEL_PERCENTAGE", "MGRS_TILE"} <= columns or name != ANCHOR


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_reply_holds_every_value_and_tells_masked_pixels(name: str) -> None:
    product, collection = PRODUCTS[name], COLLECTIONS[name]
    if product.scale_factor is None:
        assert collection.reply_dtype == product.dtype
        assert collection.reply_fill == product.fill_value
    else:
        assert np.issubdtype(collection.reply_dtype, np.floating)
        # Half the fill separates it from values; see `_to_grid`.
        assert collection.reply_fill / 2 < product.valid_range[0] * product.scale_factor
