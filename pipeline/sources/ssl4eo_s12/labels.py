"""The label file of SSL4EO-S12-ML: location -> season id -> class ids, as JSON.

The format is the published one: class ids are decimal strings, an empty list means "no label",
keys are sorted and indented by one space. What `read_labels` reads, `write_labels` writes back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from pipeline.patches import Label, LocationPatches, SeasonPatches
from storage_schema.land_cover import ABSENT, NUM_CLASSES, PRESENT, LabelStatus
from storage_schema.products import Role, in_order, of_role

SeasonLabels = Mapping[str, Sequence[str]]
"""Season id (the Sentinel-2 ``system:index``) -> class ids."""

_CLASS_IDS: Final = tuple(str(class_id) for class_id in range(NUM_CLASSES))
_EXPECTED: Final = '{"0000200": {"20200604T054639_20200604T054831_T43RCP": ["0", "4"]}}'


def read_labels(path: Path) -> dict[str, dict[str, list[str]]]:
    """Read a label file.

    Class ids are returned as they stand (integers as decimal strings); whether a class is known is
    decided where labels are attached to patches, because one bad id must not stop an import.

    Returns:
        location id -> season id -> class ids.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not of this form.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"label file {path} cannot be read ({error.strerror}): give the path of a JSON file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"label file {path} is not JSON ({error}): it has to look like {_EXPECTED}"
        ) from error
    if not isinstance(content, dict):
        raise _wrong_form(path, "the whole file", "an object of locations", content)
    for location_id, seasons in content.items():
        if not isinstance(seasons, dict):
            raise _wrong_form(path, f"location {location_id}", "an object of seasons", seasons)
        for season_id, classes in seasons.items():
            where = f"location {location_id}, season {season_id}"
            if not isinstance(classes, list):
                raise _wrong_form(path, where, "a list of class ids", classes)
            if not all(type(value) in (str, int) for value in classes):
                raise _wrong_form(path, where, "a list of class ids such as '4'", classes)
            seasons[season_id] = [str(value) for value in classes]
    return content


def write_labels(path: Path, labels: Mapping[str, SeasonLabels]) -> None:
    """Write a label file in the published format; readers never see half of it.

    Args:
        path: the file; replaced if it exists.
        labels: location id -> season id -> class ids.
    """
    text = json.dumps(labels, indent=1, sort_keys=True, default=list)
    write_atomically(path, text)


def attach_labels(
    location: LocationPatches, labels_of_location: SeasonLabels | None
) -> LocationPatches:
    """Give every season the label that a label file has for it.

    Labels are filed under the L1C image, or under the L2A image where a season has no L1C.

    Args:
        location: a location as read; it is not changed.
        labels_of_location: its entry in the label file; None if it has none.

    Returns:
        The location with a label on every season. `notes` counts ``unknown_label_class`` and
        ``labels_without_season`` (entries for seasons that were not read).
    """
    labels = labels_of_location or {}
    notes: Counter[str] = Counter(location.notes)
    sentences = list(location.warnings)
    seasons: list[SeasonPatches] = []
    unused = set(labels)
    for season in location.seasons:
        season_id = _label_key(season)
        unused.discard(season_id)
        label = _parse_label(labels.get(season_id))
        if label.status is LabelStatus.UNKNOWN_CLASS:
            notes["unknown_label_class"] += 1
            strange = sorted(set(labels[season_id]).difference(_CLASS_IDS))
            sentences.append(
                f"label file: location {location.location_id}, season {season_id} names "
                f"{', '.join(map(repr, strange))}, not among the classes 0 to {NUM_CLASSES - 1}"
            )
        seasons.append(replace(season, label=label))
    if unused:
        notes["labels_without_season"] += len(unused)
    return replace(location, seasons=tuple(seasons), notes=notes, warnings=tuple(sentences))


def _label_key(season: SeasonPatches) -> str:
    """Return the id under which a season's label is filed; empty if it has no Sentinel-2 image."""
    for name in of_role(Role.OPTICAL, in_order(season.products)):
        acquisition = season.products[name].acquisition
        if acquisition is not None:
            return acquisition.id
    return ""


def _parse_label(classes: Sequence[str] | None) -> Label:
    if classes is None:
        return Label(LabelStatus.ABSENT_FROM_FILE)
    if not classes:
        return Label(LabelStatus.EMPTY_LIST)
    if not set(classes).issubset(_CLASS_IDS):
        return Label(LabelStatus.UNKNOWN_CLASS)
    present = np.full(NUM_CLASSES, ABSENT, np.uint8)
    present[[int(class_id) for class_id in classes]] = PRESENT
    return Label(LabelStatus.LABELLED, present)


def _wrong_form(path: Path, where: str, expected: str, found: object) -> InputError:
    shown = json.dumps(found)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return InputError(
        f"label file {path}: {where} is {shown}, not {expected}; it has to look like {_EXPECTED}"
    )
