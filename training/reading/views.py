"""From stored patches to augmented views, on the device, for whole batches.

The arrays of a patch cover the same square at 10, 20 and 60 m. Upsampling, crop and flip are one
affine map of that square, so each array is sampled once, straight from its native resolution to the
size of the view. Everything is drawn on the CPU from the seed and the step, so that a view does not
depend on the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from groundwork.errors import InputError, unknown_choice
from storage_schema.products import PRODUCTS, NoData, Product, ProductName, Role
from training.config import ViewSettings
from training.reading.patch_index import BandStatistics, band_order

_NUM_POLARISATIONS: Final = 2
_NUM_STD: Final = 2.0
"""Inputs are scaled so that mean - 2 std becomes 0 and mean + 2 std 1, and clipped (as published
with SoftCon's weights, which then quantise to 8 bits; here nothing is quantised)."""


@dataclass(frozen=True, slots=True)
class ViewParameters:
    """What is drawn for the views of one batch; all float32 on the CPU unless said otherwise.

    Args:
        crop: (B, 4): left, top, width, height as shares of the patch.
        flip: bool (B, 2): horizontally, vertically.
        brightness: (B,), factor; 1 leaves alone.
        contrast: (B,), factor; 1 leaves alone.
        gray: bool (B,).
        blur_sigma: (B,), pixels; 0 leaves alone.
        sar_shift_db: (B, 2), dB.
        sar_contrast: (B,), factor.
    """

    crop: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    gray: Tensor
    blur_sigma: Tensor
    sar_shift_db: Tensor
    sar_contrast: Tensor


def draw_parameters(
    settings: ViewSettings, num: int, view: int, generator: torch.Generator
) -> ViewParameters:
    """Draw the parameters of one view of a batch.

    Args:
        settings: ranges and probabilities.
        num: patches.
        view: 0 or 1; they differ in how often they are blurred.
        generator: of the CPU.
    """

    def uniform(least: float, most: float, *shape: int) -> Tensor:
        return least + (most - least) * torch.rand(num, *shape, generator=generator)

    def happens(probability: float, *shape: int) -> Tensor:
        return torch.rand(num, *shape, generator=generator) < probability

    jitter = happens(settings.jitter)
    one = torch.ones(num)
    brightness = uniform(1 - settings.brightness, 1 + settings.brightness)
    contrast = uniform(1 - settings.contrast, 1 + settings.contrast)
    sigma = uniform(*settings.blur_sigma)
    shift = uniform(-settings.sar_shift_db, settings.sar_shift_db, _NUM_POLARISATIONS)
    sar_contrast = uniform(1 - settings.sar_contrast, 1 + settings.sar_contrast)
    return ViewParameters(
        crop=_draw_crops(settings, num, generator),
        flip=happens(settings.flip, 2),
        brightness=torch.where(jitter, brightness, one),
        contrast=torch.where(jitter, contrast, one),
        gray=happens(settings.gray),
        blur_sigma=torch.where(happens(settings.blur[view]), sigma, torch.zeros(num)),
        sar_shift_db=torch.where(jitter[:, None], shift, torch.zeros_like(shift)),
        sar_contrast=torch.where(jitter, sar_contrast, one),
    )


def _draw_crops(settings: ViewSettings, num: int, generator: torch.Generator) -> Tensor:
    area, ratio, left, top = torch.rand(4, num, generator=generator)
    least, most = settings.crop_scale
    area = least + (most - least) * area
    low, high = (math.log(value) for value in settings.crop_ratio)
    root = torch.exp((low + (high - low) * ratio) / 2)
    width = (area.sqrt() * root).clamp(max=1.0)
    height = (area.sqrt() / root).clamp(max=1.0)
    return torch.stack([left * (1 - width), top * (1 - height), width, height], dim=1)


class ViewMaker(torch.nn.Module):
    """Turns stored patches into inputs of an encoder.

    Args:
        modality: products, whose bands are stacked.
        statistics: mean and standard deviation of every channel.
        settings: of the views.

    Raises:
        InputError: a product of the modality is nothing that views can be made of.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        modality: Sequence[ProductName],
        statistics: BandStatistics,
        settings: ViewSettings,
    ) -> None:
        super().__init__()
        for product in modality:
            _check_modality(PRODUCTS[product])
        self._modality, self._settings = tuple(modality), settings
        self.register_buffer("mean", torch.tensor(statistics.mean), persistent=False)
        self.register_buffer("std", torch.tensor(statistics.std), persistent=False)

    @torch.no_grad()
    def forward(self, pixels: Mapping[str, Tensor], drawn: ViewParameters) -> Tensor:
        """Return augmented views.

        Args:
            pixels: array -> (B, bands, y, x), stored dtype, on this module's device.
            drawn: parameters.

        Returns:
            float32 (B, channels, size, size), 0..1.
        """
        device = self.mean.device
        drawn = ViewParameters(
            *(getattr(drawn, name).to(device) for name in ViewParameters.__slots__)
        )
        parts, first = [], 0
        for product in self._modality:
            num = len(PRODUCTS[product].bands)
            channels = slice(first, first + num)
            view = self._sample(product, pixels, channels, drawn.crop, drawn.flip)
            role = PRODUCTS[product].role
            match role:
                case Role.OPTICAL:
                    view = jitter_reflectance(view, drawn)
                case Role.RADAR:
                    view = jitter_backscatter(view, drawn, self.std[channels])
                case Role.LABELS:
                    raise AssertionError("refused by the constructor")
                case _:
                    raise unknown_choice("role", role, list(Role))
            parts.append(blur(view, drawn.blur_sigma, self._settings.blur_sigma[1]).clamp(0, 1))
            first += num
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def plain(self, pixels: Mapping[str, Tensor], image_size: int | None = None) -> Tensor:
        """Return whole patches, not augmented, at the size of a view (or another)."""
        num = len(next(iter(pixels.values())))
        device = self.mean.device
        crop = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(num, 4)
        flip = torch.zeros(num, 2, dtype=torch.bool, device=device)
        parts, first = [], 0
        for product in self._modality:
            channels = slice(first, first + len(PRODUCTS[product].bands))
            parts.append(self._sample(product, pixels, channels, crop, flip, image_size))
            first = channels.stop
        return torch.cat(parts, dim=1)

    def _sample(
        self,
        product: ProductName,
        pixels: Mapping[str, Tensor],
        channels: slice,
        crop: Tensor,
        flip: Tensor,
        image_size: int | None = None,
    ) -> Tensor:
        """Sample a product's arrays on one grid; normalised, in the order of the channels."""
        size = image_size or self._settings.image_size
        found: dict[str, Tensor] = {}
        for group in PRODUCTS[product].groups:
            values, missing = to_physical(product, pixels[group.array])
            wanted = [band_order(product).index(band) for band in group.bands]
            rows = torch.tensor(wanted, device=values.device) + channels.start
            normalise_(values, self.mean[rows], self.std[rows])
            # Without data: the middle of the range, as far from every value as can be.
            values.masked_fill_(missing, 0.5)
            plane = sample_window(values, crop, flip, size)
            found.update(zip(group.bands, plane.unbind(1), strict=True))
        return torch.stack([found[band] for band in band_order(product)], dim=1)


def _check_modality(product: Product) -> None:
    match product.role:
        case Role.OPTICAL:
            return
        case Role.RADAR:
            # A shift is drawn per polarisation; how many are drawn shapes every number after it.
            if len(product.bands) != _NUM_POLARISATIONS:
                raise InputError(
                    f"{product.name} has {len(product.bands)} bands: views are made of radar with "
                    f"{_NUM_POLARISATIONS} polarisations; leave it out of data.modality"
                )
        case Role.LABELS:
            raise InputError(
                f"{product.name} holds labels, which no encoder sees: leave it out of data.modality"
            )
        case _:
            raise unknown_choice("role", product.role, list(Role))


def to_physical(product: ProductName, stored: Tensor) -> tuple[Tensor, Tensor]:
    """Return stored integers as float32 in the product's unit, and where there is no data.

    Args:
        product: which.
        stored: (B, bands, y, x).

    Returns:
        Values, and a bool mask that broadcasts against them.
    """
    spec = PRODUCTS[product]
    # PyTorch compares few uint16 tensors on few devices; float32 holds all of them exactly.
    values = stored.to(torch.float32, copy=True)
    missing = values == spec.fill_value
    match spec.no_data:
        case NoData.EVERY_BAND:
            missing = missing.all(dim=1, keepdim=True)
        case NoData.EACH_VALUE:
            pass
        case _:
            raise unknown_choice("rule of no data", spec.no_data, list(NoData))
    if spec.scale_factor is not None:
        values = values * spec.scale_factor
    return values, missing


def normalise_(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Scale mean - 2 std .. mean + 2 std to 0..1, clipped, in place: a batch is large.

    Args:
        values: float32 (B, channels, y, x), in the product's unit; changed.
        mean: (channels,).
        std: (channels,).
    """
    low = (mean - _NUM_STD * std)[:, None, None]
    span = (2 * _NUM_STD * std).clamp(min=1e-6)[:, None, None]
    return values.sub_(low).div_(span).clamp_(0, 1)


def sample_window(values: Tensor, crop: Tensor, flip: Tensor, size: int) -> Tensor:
    """Sample windows bilinearly to (B, channels, size, size).

    Args:
        values: (B, channels, y, x); pixels are areas, as in GDAL: the square's edge is the outer
            edge of its pixels. Beyond the middle of the outermost pixel, its value goes on.
        crop: (B, 4): left, top, width, height as shares of the square.
        flip: bool (B, 2).
        size: pixels of the result.

    A window of many more pixels than the result is averaged by a whole factor first.
    """
    factor = values.shape[-1] // (2 * size)
    if factor > 1:
        while values.shape[-1] % factor:
            factor -= 1
        values = F.avg_pool2d(values, factor)
    left, top, width, height = crop.unbind(1)
    sign = 1 - 2 * flip.to(values.dtype)
    theta = torch.zeros(len(values), 2, 3, device=values.device, dtype=values.dtype)
    theta[:, 0, 0] = width * sign[:, 0]
    theta[:, 0, 2] = 2 * left + width - 1
    theta[:, 1, 1] = height * sign[:, 1]
    theta[:, 1, 2] = 2 * top + height - 1
    grid = F.affine_grid(theta, [len(values), values.shape[1], size, size], align_corners=False)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter_reflectance(view: Tensor, drawn: ViewParameters) -> Tensor:
    """Brightness, contrast about the view's mean over all bands, and band-mean gray."""
    view = view * drawn.brightness[:, None, None, None]
    centre = view.mean(dim=(1, 2, 3), keepdim=True)
    view = centre + (view - centre) * drawn.contrast[:, None, None, None]
    view = view.clamp(0, 1)
    return torch.where(drawn.gray[:, None, None, None], view.mean(dim=1, keepdim=True), view)


def jitter_backscatter(view: Tensor, drawn: ViewParameters, std: Tensor) -> Tensor:
    """Shift each polarisation by some dB and stretch it about its mean; no gray."""
    view = view + (drawn.sar_shift_db / (2 * _NUM_STD * std))[:, :, None, None]
    centre = view.mean(dim=(2, 3), keepdim=True)
    return centre + (view - centre) * drawn.sar_contrast[:, None, None, None]


def blur(view: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Blur each sample by a Gaussian of its own width, in two passes; beyond the edge, mirrored.

    Args:
        view: (B, channels, y, x).
        sigma: (B,), pixels; 0 leaves a sample as it is.
        most: the greatest sigma that occurs; the kernel reaches three times as far.
    """
    reach = min(math.ceil(3 * most), view.shape[-1] - 1)
    offsets = torch.arange(-reach, reach + 1, device=view.device, dtype=view.dtype)
    weights = torch.exp(-0.5 * (offsets[None] / sigma.clamp(min=1e-3)[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    num, channels, height, width = view.shape
    # All samples as the channels of one image: each has a kernel of its own.
    planes = view.reshape(1, num * channels, height, width)
    kernel = weights.repeat_interleave(channels, dim=0)
    planes = F.pad(planes, (reach, reach, 0, 0), mode="reflect")
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=num * channels)
    planes = F.pad(planes, (0, 0, reach, reach), mode="reflect")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=num * channels)
    return planes.reshape(num, channels, height, width)
