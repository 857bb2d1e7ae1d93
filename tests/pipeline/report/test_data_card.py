"""The data card of a cube: from its own records, with the terms of its products."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundwork.errors import InputError
from pipeline.build.rebuild import rebuild_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from pipeline.places.settings import SplitSettings
from pipeline.report.data_card import write_data_card
from pipeline.sources.ssl4eo_s12.settings import ImportSettings
from tests.ssl4eo_s12_layout import write_layout


@pytest.fixture
def storage(tmp_path: Path) -> ObjectStorage:
    layout = write_layout(tmp_path / "ssl4eo", 2, seed=3)
    storage = ObjectStorage(str(tmp_path / "cube.zarr"))
    split = SplitSettings(train=0.0, validation=0.0, test=1.0)
    summary = rebuild_cube(
        ImportSettings(
            root=str(layout.root), cube=str(storage), labels=str(layout.labels), split=split
        )
    )
    assert not summary.failures
    return storage


def test_a_card_states_digest_products_splits_labels_and_terms(
    storage: ObjectStorage, tmp_path: Path
) -> None:
    digest = seal_cube(storage).digest
    write_data_card(storage, tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text()
    assert f"`{digest}`" in card
    assert "| locations | 2 (2 test) |" in card
    assert "COPERNICUS/S2 |" in card
    assert "| split.test | 1.0 |" in card
    assert "contains modified Copernicus Sentinel data" in card
    assert "CC-BY-4.0" in card
    assert "| trees |" in card
    write_data_card(storage, tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text() == card


def test_an_unsealed_cube_gets_no_card(storage: ObjectStorage, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run softcon seal"):
        write_data_card(storage, tmp_path / "card.md")
    assert not (tmp_path / "card.md").exists()
