"""A cube's multi-labels back in the SSL4EO-S12-ML format."""

from __future__ import annotations

from collections import Counter

import numpy as np

from groundwork.errors import InputError
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.patch_table import read_small_arrays
from storage_schema.land_cover import PRESENT, LabelStatus
from storage_schema.products import Role, of_role

LISTED = {LabelStatus.LABELLED, LabelStatus.EMPTY_LIST, LabelStatus.MASKED}
"""Statuses that appear in the file; a masked patch has the empty list, which means "no label"."""


def export_labels(store: PatchStore) -> tuple[dict[str, dict[str, list[str]]], Counter[str]]:
    """Collect location id -> season id -> class ids, and how many patches have which status.

    The season id is that of the Sentinel-2 L1C acquisition, or of the L2A one in a cube without
    L1C. Of an import with a label file this is the inverse, but for entries without imagery.

    Raises:
        InputError: the cube has no Sentinel-2 product, so labels have no season id.
    """
    products = store.description.products
    optical = [products.index(name) for name in of_role(Role.OPTICAL, products)]
    if not optical:
        raise InputError(
            f"{store.storage} has no Sentinel-2 product: SSL4EO-S12-ML files labels under the "
            "Sentinel-2 id, so there is nothing to file them under"
        )
    labels: dict[str, dict[str, list[str]]] = {}
    statuses: Counter[str] = Counter()
    for _, small in read_small_arrays(store.group, store.layout):
        for index, season in np.argwhere(small["label_status"] != LabelStatus.PENDING):
            ids = [str(small["acquisition_id"][index, season, i]) for i in optical]
            season_id = next((name for name in ids if name), "")
            if not season_id:
                continue
            status = LabelStatus(small["label_status"][index, season])
            statuses[status.name.lower()] += 1
            if status in LISTED:
                present = np.flatnonzero(small["class_present"][index, season] == PRESENT)
                seasons = labels.setdefault(str(small["location_id"][index]), {})
                seasons[season_id] = (
                    [str(value) for value in present] if status == LabelStatus.LABELLED else []
                )
    return labels, statuses
