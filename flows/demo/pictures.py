"""What a backbone sees as alike: neighbours of a few patches, and all patches in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import zarr
from PIL import Image

from flows.demo.backbones import DemoBackbone, features_folder
from groundwork.errors import unknown_choice
from pages.images import jpeg_uri
from pipeline.patches import Pixels
from pipeline.report.patch_pictures import optical_picture, sar_picture
from storage_schema.land_cover import CLASSES
from storage_schema.products import PRODUCTS, Role, patch_size_px
from storage_schema.status import Split
from training.evaluation.features import LabelledFeatures, labelled_patches
from training.evaluation.knn import unit_length
from training.evaluation.probe import features_of_backbone
from training.reading.patch_index import PatchIndex, open_index
from training.reading.patch_reader import PatchRefs

_PICTURE_PX: Final = patch_size_px() // 2
_UNKNOWN_COLOUR: Final = "#8b949e"


@dataclass(frozen=True, slots=True)
class Picture:
    """One patch, small, with what is known of it."""

    uri: str
    location_id: str
    season: int
    land_cover: str
    similarity: float | None = None
    side_px: int = _PICTURE_PX


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A patch of the test split, and the patches of the train split that come nearest."""

    query: Picture
    found: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Cloud:
    """All patches in the plane of their features' two strongest directions.

    Args:
        points: float (N, 2).
        colours: of the class that covers most of each.
        names: of each.
        explained: share of the features' variance that the plane has.
    """

    points: npt.NDArray[np.floating]
    colours: list[str]
    names: list[str]
    explained: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """The patches of a split and their features."""

    index: PatchIndex
    refs: PatchRefs
    features: LabelledFeatures


def look(backbone: DemoBackbone, splits: Sequence[Split]) -> dict[Split, Any]:
    """Return patches and features of splits; features that a probe kept are not computed again."""
    found = features_of_backbone(
        backbone.weights, backbone.settings.data, splits, cache=features_folder(backbone)
    )
    seen = {}
    for split, features in zip(splits, found, strict=True):
        index = open_index(backbone.settings.data, split)
        seen[split] = _Seen(index, labelled_patches(index), features)
    return seen


def neighbours(backbone: DemoBackbone, num_queries: int, num_found: int) -> list[Neighbours]:
    """Return the nearest training patches of a few test patches, by the cosine of features."""
    seen = look(backbone, (Split.TRAIN, Split.TEST))
    known, asked = seen[Split.TRAIN], seen[Split.TEST]
    similarity = unit_length(asked.features.features) @ unit_length(known.features.features).T
    shown = []
    for row in choose_queries(_dominant(asked), num_queries):
        nearest = np.argsort(-similarity[row], kind="stable")
        # One patch per location: seasons of one place are each other's neighbours already.
        places, at = np.unique(known.refs.rows[nearest], return_index=True)
        del places
        chosen = nearest[np.sort(at)[:num_found]]
        shown.append(
            Neighbours(
                _picture(backbone, asked, row),
                tuple(
                    _picture(backbone, known, int(other), float(similarity[row, other]))
                    for other in chosen
                ),
            )
        )
    return shown


def choose_queries(dominant: npt.NDArray[np.integer], num: int) -> list[int]:
    """Choose rows with as many different classes as there are, rarest class first."""
    classes, counts = np.unique(dominant, return_counts=True)
    rows = {int(c): np.flatnonzero(dominant == c).tolist() for c in classes}
    order = [int(c) for c in classes[np.argsort(counts, kind="stable")]]
    chosen: list[int] = []
    while len(chosen) < min(num, len(dominant)):
        for c in order:
            if rows[c] and len(chosen) < num:
                chosen.append(rows[c].pop(len(rows[c]) // 2))
    return chosen


def cloud(backbone: DemoBackbone) -> Cloud:
    """Return all labelled patches in the plane of the first two principal components."""
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    seen = list(look(backbone, splits).values())
    features = unit_length(np.concatenate([one.features.features for one in seen]))
    centred = features - features.mean(axis=0)
    _, strength, directions = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    # The sign of a direction is the solver's whim: the largest coordinate points upwards.
    plane = directions[:2]
    plane = plane * np.sign(plane[np.arange(2), np.abs(plane).argmax(axis=1)])[:, None]
    dominant = np.concatenate([_dominant(one) for one in seen])
    colours = [CLASSES[c].colour if c >= 0 else _UNKNOWN_COLOUR for c in dominant.tolist()]
    names = [
        f"{one.index.location_id[int(row)]}, slot {season}: {_land_cover(one, at)}"
        for one in seen
        for at, (row, season) in enumerate(zip(one.refs.rows, one.refs.seasons, strict=True))
    ]
    explained = float((strength[:2] ** 2).sum() / (strength**2).sum())
    return Cloud(centred @ plane.T, colours, names, explained)


def _dominant(seen: _Seen) -> npt.NDArray[np.int64]:
    """Return the class that covers most of each patch; -1 where only presence is known."""
    fraction = seen.index.class_fraction[seen.refs.rows, seen.refs.seasons]
    known = np.isfinite(fraction).all(axis=1)
    return np.where(known, np.nan_to_num(fraction).argmax(axis=1), -1)


def _land_cover(seen: _Seen, at: int) -> str:
    fraction = seen.index.class_fraction[seen.refs.rows[at], seen.refs.seasons[at]]
    if not np.isfinite(fraction).all():
        return "fractions not known"
    order = np.argsort(-fraction, kind="stable")[:2]
    parts = [
        f"{CLASSES[c].name.replace('_', ' ')} {fraction[c]:.0%}"
        for c in order.tolist()
        if fraction[c] >= 0.005
    ]
    return ", ".join(parts)


def _picture(
    backbone: DemoBackbone, seen: _Seen, at: int, similarity: float | None = None
) -> Picture:
    row, season = int(seen.refs.rows[at]), int(seen.refs.seasons[at])
    product = backbone.settings.data.modality[0]
    cube = str(seen.index.cubes[int(seen.index.cube[row])])
    array = cast("zarr.Array[Any]", zarr.open_group(cube, mode="r")[_finest(product)])
    stored: Pixels = np.asarray(array[int(seen.index.location[row]), season])
    role = PRODUCTS[product].role
    match role:
        case Role.OPTICAL:
            rgb = optical_picture(product, stored, PRODUCTS[product].true_colour)
        case Role.RADAR:
            rgb = sar_picture(product, stored)
        case Role.LABELS:
            raise ValueError(f"{product} has labels: a backbone does not see them")
        case _:
            raise unknown_choice("role", role, list(Role))
    small = Image.fromarray(rgb).resize((_PICTURE_PX, _PICTURE_PX), Image.Resampling.LANCZOS)
    return Picture(
        jpeg_uri(np.asarray(small)),
        seen.index.location_id[row],
        season,
        _land_cover(seen, at),
        similarity,
    )


def _finest(product: Any) -> str:
    return str(PRODUCTS[product].groups[0].array)
