"""Views for whole batches, each against a slow reference for one sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from storage_schema.products import PRODUCTS, published_statistics
from training.config import ViewSettings
from training.reading.patch_index import BandStatistics, band_order
from training.reading.views import (
    ViewMaker,
    ViewParameters,
    blur,
    draw_parameters,
    jitter_backscatter,
    jitter_reflectance,
    normalise_,
    sample_window,
)

SIZE = 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def statistics(*products: str) -> BandStatistics:
    values = [
        (f"{name} {band}", *pair) for name in products
        for band, pair in published_statistics(name).items()
    ]  # fmt: skip
    return BandStatistics(*zip(*values, strict=True), "published")


def pixels(num: int, *products: str, seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    found = {}
    for name in products:
        for group in PRODUCTS[name].groups:
            shape = (num, len(group.bands), group.size_px, group.size_px)
            low, high = (-3000, 500) if name == "s1_grd" else (1, 6000)
            values = rng.integers(low, high, shape).astype(PRODUCTS[name].dtype)
            found[group.array] = torch.from_numpy(values)
    return found


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """Sample at a position in pixels of which the middles lie at halves; edges go on."""
    height, width = plane.shape
    y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return float(
        plane[top, left] * (1 - dy) * (1 - dx)
        + plane[top, right] * (1 - dy) * dx
        + plane[bottom, left] * dy * (1 - dx)
        + plane[bottom, right] * dy * dx
    )


@pytest.mark.parametrize("side", [12, 24, 60])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_a_window_is_sampled_as_a_slow_loop_does(side: int, flips: tuple[bool, bool]) -> None:
    size = 15
    values = torch.rand(1, 1, side, side, generator=generator())
    crop = torch.tensor([[0.1, 0.25, 0.6, 0.5]])
    found = sample_window(values, crop, torch.tensor([flips]), size)[0, 0].numpy()
    plane = values[0, 0].numpy()
    factor = max(1, side // (2 * size))
    if factor > 1:
        plane = plane.reshape(side // factor, factor, -1, factor).mean(axis=(1, 3))
    scale = plane.shape[0]
    for row in range(size):
        for column in range(size):
            v, u = (row + 0.5) / size, (column + 0.5) / size
            u, v = (1 - u if flips[0] else u), (1 - v if flips[1] else v)
            x, y = (0.1 + 0.6 * u) * scale, (0.25 + 0.5 * v) * scale
            assert found[row, column] == pytest.approx(bilinear(plane, y, x), abs=1e-4)


def test_all_resolutions_show_the_same_place() -> None:
    """A ramp across the square, stored at 10, 20 and 60 m, is one ramp in every band of a view."""
    stored = {}
    for group in PRODUCTS["s2_l1c"].groups:
        middle = (np.arange(group.size_px) + 0.5) * group.resolution_m
        plane = np.broadcast_to(1000 + middle, (group.size_px, group.size_px))
        stored[group.array] = torch.from_numpy(
            np.tile(plane.round().astype(np.uint16), (1, len(group.bands), 1, 1))
        )
    stats = BandStatistics(statistics("s2_l1c").bands, (2000.0,) * 13, (1000.0,) * 13, "made up")
    maker = ViewMaker(["s2_l1c"], stats, ViewSettings(image_size=88))
    view = maker.plain(stored)[0]
    inner = view[:, :, 4:-4]
    # 60 m pixels are stored rounded and sampled between their middles.
    assert (inner - inner[1:2]).abs().max() < 0.002
    assert (inner.diff(dim=2) > 0).all()


def test_bands_come_by_wavelength_and_normalised() -> None:
    stored = pixels(2, "s2_l1c", "s1_grd")
    maker = ViewMaker(
        ["s2_l1c", "s1_grd"], statistics("s2_l1c", "s1_grd"), ViewSettings(image_size=264)
    )
    view = maker.plain(stored)
    assert view.shape == (2, 15, 264, 264)
    group = PRODUCTS["s2_l1c"].groups[0]
    for position, band in enumerate(group.bands):
        mean, std = published_statistics("s2_l1c")[band]
        expected = (stored[group.array][:, position].float() - (mean - 2 * std)) / (4 * std)
        channel = band_order("s2_l1c").index(band)
        torch.testing.assert_close(view[:, channel], expected.clamp(0, 1), atol=1e-4, rtol=0)
    mean, std = published_statistics("s1_grd")["VH"]
    expected = (stored["s1_grd"][:, 1].float() * 0.01 - (mean - 2 * std)) / (4 * std)
    torch.testing.assert_close(view[:, 14], expected.clamp(0, 1), atol=1e-4, rtol=0)


def test_no_data_becomes_the_middle_of_the_range() -> None:
    stored = pixels(1, "s2_l1c", "s1_grd")
    stored["s2_l1c_10m"][:, :, :40] = 0
    stored["s2_l1c_10m"][:, 0, 100:140] = 0  # one dark band is a measurement
    stored["s1_grd"][:, 1, :40] = -32768
    maker = ViewMaker(
        ["s2_l1c", "s1_grd"], statistics("s2_l1c", "s1_grd"), ViewSettings(image_size=264)
    )
    view = maker.plain(stored)[0]
    assert (view[band_order("s2_l1c").index("B2"), :39] == 0.5).all()
    assert (view[band_order("s2_l1c").index("B2"), 101:139] != 0.5).all()
    assert (view[14, :39] == 0.5).all()
    assert (view[13, :39] != 0.5).any()


def parameters(num: int, **changes: Tensor) -> ViewParameters:
    plain = {
        "crop": torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(num, 1),
        "flip": torch.zeros(num, 2, dtype=torch.bool),
        "brightness": torch.ones(num),
        "contrast": torch.ones(num),
        "gray": torch.zeros(num, dtype=torch.bool),
        "blur_sigma": torch.zeros(num),
        "sar_shift_db": torch.zeros(num, 2),
        "sar_contrast": torch.ones(num),
    }
    return ViewParameters(**(plain | changes))


def test_reflectance_jitter_equals_a_loop_over_samples() -> None:
    view = torch.rand(5, 3, SIZE, SIZE, generator=generator())
    drawn = parameters(
        5,
        brightness=torch.tensor([0.6, 1.4, 1.0, 0.8, 1.1]),
        contrast=torch.tensor([1.4, 0.6, 1.0, 1.2, 0.9]),
        gray=torch.tensor([False, True, False, True, False]),
    )
    found = jitter_reflectance(view, drawn)
    for at in range(5):
        image = view[at].numpy() * float(drawn.brightness[at])
        image = image.mean() + (image - image.mean()) * float(drawn.contrast[at])
        image = image.clip(0, 1)
        if drawn.gray[at]:
            image = np.broadcast_to(image.mean(axis=0), image.shape)
        np.testing.assert_allclose(found[at].numpy(), image, atol=1e-5)


def test_backscatter_jitter_shifts_by_decibels() -> None:
    view = torch.rand(3, 2, SIZE, SIZE, generator=generator())
    std = torch.tensor([5.257, 5.912])
    drawn = parameters(
        3,
        sar_shift_db=torch.tensor([[1.0, -1.0], [0.0, 0.5], [0.0, 0.0]]),
        sar_contrast=torch.tensor([1.0, 1.2, 0.8]),
    )
    found = jitter_backscatter(view, drawn, std)
    for at in range(3):
        for band in range(2):
            image = view[at, band].numpy()
            image = image + float(drawn.sar_shift_db[at, band]) / (4 * float(std[band]))
            image = image.mean() + (image - image.mean()) * float(drawn.sar_contrast[at])
            np.testing.assert_allclose(found[at, band].numpy(), image, atol=1e-5)


def test_blur_equals_a_loop_with_a_sigma_of_its_own() -> None:
    view = torch.rand(4, 2, SIZE, SIZE, generator=generator())
    sigma = torch.tensor([0.0, 0.1, 0.9, 2.0])
    found = blur(view, sigma, 2.0)
    torch.testing.assert_close(found[0], view[0])
    for at in range(4):
        s = max(float(sigma[at]), 1e-3)
        weight = np.exp(-0.5 * (np.arange(-6, 7) / s) ** 2)
        weight /= weight.sum()
        for band in range(2):
            padded = np.pad(view[at, band].numpy(), 6, mode="reflect")
            rows = sum(w * padded[:, i : i + SIZE] for i, w in enumerate(weight))
            image = sum(w * rows[i : i + SIZE] for i, w in enumerate(weight))
            np.testing.assert_allclose(found[at, band].numpy(), image, atol=1e-5)


def test_views_are_a_function_of_the_seed_and_lie_in_range() -> None:
    settings = ViewSettings(image_size=SIZE)
    stored = pixels(6, "s2_l1c", "s1_grd")
    maker = ViewMaker(["s2_l1c", "s1_grd"], statistics("s2_l1c", "s1_grd"), settings)
    first, again = (maker(stored, draw_parameters(settings, 6, 0, generator(7))) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (6, 15, SIZE, SIZE)
    assert ((first >= 0) & (first <= 1)).all()
    assert not torch.equal(first, maker(stored, draw_parameters(settings, 6, 0, generator(8))))


def test_drawn_parameters_follow_the_settings() -> None:
    settings = ViewSettings(crop_scale=(0.3, 0.5), blur=(1.0, 0.0), gray=0.25, jitter=0.5)
    drawn = draw_parameters(settings, 4000, 0, generator())
    area = drawn.crop[:, 2] * drawn.crop[:, 3]
    assert float(area.min()) >= 0.3 - 1e-5
    assert float(area.max()) <= 0.5 + 1e-5
    assert (drawn.crop[:, :2] >= 0).all()
    assert (drawn.crop[:, :2] + drawn.crop[:, 2:] <= 1 + 1e-6).all()
    assert float(drawn.gray.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float((drawn.brightness == 1).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert (drawn.blur_sigma > 0).all()
    assert (draw_parameters(settings, 100, 1, generator()).blur_sigma == 0).all()


def test_normalisation_clips_at_two_standard_deviations() -> None:
    values = torch.tensor([-5.0, 0.0, 1.0, 2.0, 9.0]).reshape(1, 1, 1, 5)
    found = normalise_(values, torch.tensor([1.0]), torch.tensor([0.5]))
    assert found.flatten().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
