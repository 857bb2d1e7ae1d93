"""Exact statistics, against numpy on all pixels at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cube.statistics import (
    count_values,
    decode_counts,
    derive_statistics,
    encode_counts,
    merge_counts,
    statistics_attributes,
)
from storage_schema.products import DYNAMIC_WORLD, S1_GRD, S2_L1C, Product


def random_pixels(product: Product, seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    rng = np.random.default_rng(seed)
    if product.dtype == "uint16":
        values = rng.integers(0, rng.integers(2, 65536), shape).astype(np.uint16)
        values[rng.random(shape[:2]) < 0.3] = 0
        return values
    values = rng.integers(-9000, 4000, shape).astype(np.int16)
    values[rng.random(shape) < 0.2] = -32768
    return values


def valid_values(
    product: Product, pixels: npt.NDArray[np.generic], band: int
) -> npt.NDArray[np.float64]:
    """The reference: one band's valid pixels in physical units, all in memory."""
    values = pixels[:, :, band]
    valid = (pixels != 0).any(axis=2) if product.dtype == "uint16" else values != -32768
    return values[valid].astype(np.float64) * (product.scale_factor or 1)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), product=st.sampled_from([S2_L1C, S1_GRD]))
def test_merged_statistics_equal_one_pass_over_all_pixels(seed: int, product: Product) -> None:
    pixels = random_pixels(product, seed, (6, 2, 2, 5, 7))
    parts = [{"a": count_values(product, part)} for part in np.array_split(pixels, 3)]
    merged = merge_counts(parts)["a"]
    for band in range(2):
        reference = valid_values(product, pixels, band)
        found = derive_statistics(product, merged[band])
        assert found.num_valid_pixels == reference.size
        if not reference.size:
            assert found.mean is found.std is found.p01 is None
            continue
        assert found.mean == pytest.approx(reference.mean(), rel=1e-9)
        assert found.std == pytest.approx(reference.std(), rel=1e-9, abs=1e-9)
        assert found.min == pytest.approx(reference.min(), rel=1e-12)
        assert found.max == pytest.approx(reference.max(), rel=1e-12)
        for quantile, value in ((0.01, found.p01), (0.99, found.p99)):
            wanted = np.quantile(reference, quantile, method="inverted_cdf")
            assert value == pytest.approx(wanted, rel=1e-12)


def test_merging_in_another_order_changes_no_bit() -> None:
    parts = [
        {"a": count_values(S2_L1C, random_pixels(S2_L1C, seed, (2, 2, 3, 8, 8)))}
        for seed in range(4)
    ]
    forward, backward = merge_counts(parts)["a"], merge_counts(reversed(parts))["a"]
    np.testing.assert_array_equal(forward, backward)
    assert statistics_attributes(S2_L1C, forward) == statistics_attributes(S2_L1C, backward)


def test_merging_leaves_its_input_alone() -> None:
    part = {"a": count_values(S2_L1C, random_pixels(S2_L1C, 1, (1, 1, 2, 4, 4)))}
    before = part["a"].copy()
    merge_counts([part, part])
    np.testing.assert_array_equal(part["a"], before)


def test_pixel_is_no_data_only_where_every_band_is_zero() -> None:
    pixels = np.zeros((1, 1, 2, 1, 3), dtype=np.uint16)
    pixels[0, 0, :, 0] = [[0, 0, 7], [0, 5, 7]]
    counts = count_values(S2_L1C, pixels)
    assert counts[0, 0] == 1, "dark in one band is a measurement"
    assert counts.sum(axis=1).tolist() == [2, 2]


def test_masked_labels_are_not_counted() -> None:
    label = np.array([[[[0, 8], [255, 255]]]], dtype=np.uint8)
    counts = count_values(DYNAMIC_WORLD, label)
    assert np.flatnonzero(counts[0]).tolist() == [0, 8]


def test_histogram_counts_every_valid_pixel_and_outer_bins_are_open() -> None:
    pixels = np.full((1, 1, 1, 2, 2), 60_000, dtype=np.uint16)
    pixels[0, 0, 0, 0] = [1, 150]
    attributes = statistics_attributes(S2_L1C, count_values(S2_L1C, pixels))
    (counts,) = attributes["histogram"]["counts"]
    assert sum(counts) == 4
    edges = attributes["histogram"]["edges"]
    assert (counts[0], counts[edges.index(150.0)], counts[-1]) == (1, 1, 2)
    assert len(attributes["histogram"]["edges"]) == len(counts) + 1


def test_decibel_on_an_edge_falls_into_the_bin_above() -> None:
    pixels = np.full((1, 1, 1, 1, 1), -1200, dtype=np.int16)
    histogram = statistics_attributes(S1_GRD, count_values(S1_GRD, pixels))["histogram"]
    assert histogram["edges"][int(np.argmax(histogram["counts"][0]))] == -12.0


def test_counts_survive_packing() -> None:
    counts = {
        "a": count_values(S2_L1C, random_pixels(S2_L1C, 3, (2, 2, 3, 8, 8))),
        "b": np.zeros((1, 65536), dtype=np.int64),
    }
    packed = encode_counts(counts)
    assert packed == encode_counts(counts)
    unpacked = decode_counts(packed)
    for name, array in counts.items():
        np.testing.assert_array_equal(unpacked[name], array)
