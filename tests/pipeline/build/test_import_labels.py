"""A label file that says other things than the label maps: what the cube keeps of each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.build.rebuild import rebuild_cube
from pipeline.cube.label_export import export_labels
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.sources.ssl4eo_s12.settings import ImportSettings
from storage_schema.land_cover import LabelStatus
from tests.ssl4eo_s12_layout import write_layout

PUBLISHED, EMPTY, ABSENT, UNKNOWN_CLASS = range(4)
"""What the file says of the four seasons."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectStorage, Any, Any]:
    """The cube, the counts of its import, and the label file it was given."""
    folder = tmp_path_factory.mktemp("labels")
    layout = write_layout(folder / "root", 1, seed=5)
    assert layout.labels is not None
    labels = json.loads(layout.labels.read_text())
    (seasons,) = labels.values()
    names = sorted(seasons)
    missing_from_the_map = next(c for c in "012345678" if c not in seasons[names[PUBLISHED]])
    seasons[names[PUBLISHED]] = sorted([*seasons[names[PUBLISHED]], missing_from_the_map])
    seasons[names[EMPTY]] = []
    del seasons[names[ABSENT]]
    seasons[names[UNKNOWN_CLASS]] = ["0", "9"]
    layout.labels.write_text(json.dumps(labels))
    storage = ObjectStorage(folder / "cube.zarr")
    summary = rebuild_cube(
        ImportSettings(root=str(layout.root), cube=str(storage), labels=str(layout.labels))
    )
    return storage, summary, (labels, names)


def test_label_file_decides_presence_and_status_and_the_map_the_fractions(
    imported: tuple[ObjectStorage, Any, Any],
) -> None:
    storage, _, (labels, names) = imported
    group: Any = zarr.open_group(str(storage), mode="r")
    (seasons,) = labels.values()
    assert group["label_status"][0].tolist() == [
        LabelStatus.LABELLED,
        LabelStatus.EMPTY_LIST,
        LabelStatus.ABSENT_FROM_FILE,
        LabelStatus.UNKNOWN_CLASS,
    ]
    present = group["class_present"][0]
    listed = [str(i) for i in np.flatnonzero(present[PUBLISHED] == 1)]
    assert listed == seasons[names[PUBLISHED]]
    assert (present[[EMPTY, ABSENT, UNKNOWN_CLASS]] == 255).all(), "unlabelled is not all absent"
    np.testing.assert_allclose(group["class_fraction"][0].sum(axis=-1), 1, atol=1e-6)


def test_disagreement_and_unknown_classes_are_counted(
    imported: tuple[ObjectStorage, Any, Any],
) -> None:
    _, summary, _ = imported
    assert summary.counts["label_disagreements"] == 1
    assert summary.counts["unknown_label_class"] == 1
    assert any("9" in warning for warning in summary.warnings)


def test_export_gives_back_lists_empty_lists_and_gaps(
    imported: tuple[ObjectStorage, Any, Any],
) -> None:
    storage, _, (labels, names) = imported
    exported, statuses = export_labels(PatchStore.open(storage))
    (wanted,) = labels.values()
    wanted = {name: classes for name, classes in wanted.items() if name != names[UNKNOWN_CLASS]}
    assert list(exported.values()) == [wanted]
    assert statuses["unknown_class"] == statuses["absent_from_file"] == 1
