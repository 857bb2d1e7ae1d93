"""Which patches of the cubes a run can use, and what their labels say: a few arrays in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError, unknown_choice
from storage_schema.land_cover import CLASS_NAMES, NUM_CLASSES
from storage_schema.layout import NUM_SEASONS, SCHEMA_VERSION
from storage_schema.products import PRODUCTS, ProductName, published_statistics
from storage_schema.status import PatchStatus, Split
from training.config import DataSettings
from training.reading.cube_files import CubeFiles

_TABLE: Final = "patches.parquet"


@dataclass(frozen=True, slots=True)
class PatchIndex:
    """The locations of one split, over all cubes.

    Args:
        cubes: where their patches are.
        cube: int32 (N,), position in `cubes`.
        location: int32 (N,), position in that cube.
        location_id: of each.
        complete: bool (N, 4): seasons in which every product of the modality is complete.
        class_fraction: float32 (N, 4, 9), NaN where not known.
        class_present: bool (N, 4, 9).
        labelled: bool (N, 4): whether `class_present` says anything.
    """

    cubes: tuple[CubeFiles, ...]
    cube: npt.NDArray[np.int32]
    location: npt.NDArray[np.int32]
    location_id: tuple[str, ...]
    complete: npt.NDArray[np.bool_]
    class_fraction: npt.NDArray[np.float32]
    class_present: npt.NDArray[np.bool_]
    labelled: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cube)

    def take(self, rows: npt.NDArray[np.integer]) -> PatchIndex:
        """Return some of the locations."""
        return PatchIndex(
            self.cubes,
            self.cube[rows],
            self.location[rows],
            tuple(self.location_id[int(row)] for row in rows),
            self.complete[rows],
            self.class_fraction[rows],
            self.class_present[rows],
            self.labelled[rows],
        )

    def label_vectors(
        self, rows: npt.NDArray[np.integer], seasons: npt.NDArray[np.integer], *, fractions: bool
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return the labels of patches, float32 (B, 9), and whether there are any, bool (B,).

        Args:
            rows: positions in this index.
            seasons: of each.
            fractions: class fractions instead of presence; patches of which only presence is known
                then count as unlabelled.
        """
        labelled = self.labelled[rows, seasons]
        if not fractions:
            return self.class_present[rows, seasons].astype(np.float32), labelled
        found = self.class_fraction[rows, seasons]
        known = np.isfinite(found).all(axis=-1)
        return np.where(known[:, None], found, 0.0).astype(np.float32), labelled & known


def open_index(settings: DataSettings, split: Split) -> PatchIndex:
    """Read what the cubes have for a split.

    Raises:
        InputError: a cube is missing, unsealed, of another schema, or lacks a product; or
            no location of the split has a complete patch.
    """
    cubes = tuple(CubeFiles(address) for address in settings.cubes)
    parts = [_read_cube(cube, settings, split) for cube in cubes]
    numbers = np.repeat(np.arange(len(parts)), [len(part["location"]) for part in parts])

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([part[name] for part in parts])

    index = PatchIndex(
        cubes=cubes,
        cube=numbers.astype(np.int32),
        location=joined("location"),
        location_id=tuple(name for part in parts for name in part["location_id"]),
        complete=joined("complete"),
        class_fraction=joined("class_fraction"),
        class_present=joined("class_present"),
        labelled=joined("labelled"),
    )
    usable = np.flatnonzero(index.complete.any(axis=1))
    if settings.num_locations is not None:
        usable = usable[: settings.num_locations]
    if not usable.size:
        raise InputError(
            f"no location of the {split.name.lower()} split has complete patches of "
            f"{' and '.join(settings.modality)} in {', '.join(settings.cubes)}: choose another "
            "modality, or cubes with more locations"
        )
    return index.take(usable)


def _read_cube(cube: CubeFiles, settings: DataSettings, split: Split) -> dict[str, Any]:
    """Read one cube's patch table, or its small arrays while it is not sealed."""
    attributes = cube.attributes
    if attributes.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{cube} has schema version {attributes.get('schema_version')}, this program reads "
            f"{SCHEMA_VERSION}"
        )
    missing = [name for name in settings.modality if name not in attributes["products"]]
    if missing:
        raise InputError(f"{cube} has no {missing[0]}: choose another data.modality")
    if attributes.get("sealed"):
        facts = _from_table(cube, settings.modality)
    elif settings.unsealed:
        facts = _from_arrays(cube, settings.modality)
    else:
        raise InputError(
            f"{cube} is not sealed, so its content may change: run softcon seal, or set "
            "data.unsealed=true"
        )
    rows = np.flatnonzero(facts.pop("split") == int(split))
    found: dict[str, Any] = {"location": rows.astype(np.int32)}
    found["location_id"] = [facts["location_id"][int(row)] for row in rows]
    fraction = facts["class_fraction"][rows]
    present = facts["class_present"][rows]
    if settings.min_class_fraction > 0:
        known = np.isfinite(fraction).all(axis=-1, keepdims=True)
        present = np.where(known, fraction > settings.min_class_fraction, present)
    found |= {
        "complete": facts["complete"][rows],
        "class_fraction": fraction,
        "class_present": present,
        "labelled": facts["labelled"][rows],
    }
    return found


def _from_table(cube: CubeFiles, modality: Sequence[ProductName]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    content = cube.read(_TABLE)
    if content is None:
        raise InputError(f"{cube} lacks {_TABLE}: run softcon seal again")
    columns = ["location_index", "season", "location_id", "split", "label_status"]
    columns += [f"class_fraction_{name}" for name in CLASS_NAMES]
    columns += [f"class_present_{name}" for name in CLASS_NAMES]
    columns += [f"{name}_status" for name in modality]
    table = pq.read_table(io.BytesIO(content), columns=columns).to_pandas()
    location = table["location_index"].to_numpy()
    season = table["season"].to_numpy()
    num = int(location.max()) + 1 if len(location) else 0
    facts = _empty(num)
    names = np.full(num, "", dtype=object)
    names[location] = table["location_id"].to_numpy()
    facts["location_id"] = names
    splits = {member.name.lower(): int(member) for member in Split}
    facts["split"][location] = table["split"].map(splits).to_numpy()
    complete = np.ones(len(table), dtype=bool)
    for name in modality:
        complete &= (table[f"{name}_status"] == "complete").to_numpy()
    facts["complete"][location, season] = complete
    facts["labelled"][location, season] = (table["label_status"] == "labelled").to_numpy()
    for position, class_name in enumerate(CLASS_NAMES):
        fraction = table[f"class_fraction_{class_name}"]
        facts["class_fraction"][location, season, position] = fraction
        present = table[f"class_present_{class_name}"].fillna(value=False).to_numpy(dtype=bool)
        facts["class_present"][location, season, position] = present
    return facts


def _from_arrays(cube: CubeFiles, modality: Sequence[ProductName]) -> dict[str, Any]:
    products = list(cube.attributes["products"])

    def read(name: str) -> npt.NDArray[Any]:
        return np.asarray(cube.open_array(name).read().result())

    status = read("patch_status")
    facts = _empty(len(status))
    chosen = [products.index(name) for name in modality]
    facts["complete"] = (status[:, :, chosen] == PatchStatus.COMPLETE).all(axis=2)
    facts["split"] = read("split").astype(np.int64)
    # tensorstore reads no strings; while a cube grows, positions have to do as names.
    facts["location_id"] = np.asarray([f"location {i}" for i in range(len(status))], dtype=object)
    facts["class_fraction"] = read("class_fraction").astype(np.float32)
    present = read("class_present")
    facts["class_present"] = present == 1
    facts["labelled"] = (present <= 1).all(axis=2)
    return facts


def _empty(num: int) -> dict[str, Any]:
    return {
        "split": np.full(num, -1, dtype=np.int64),
        "complete": np.zeros((num, NUM_SEASONS), dtype=bool),
        "labelled": np.zeros((num, NUM_SEASONS), dtype=bool),
        "class_fraction": np.full((num, NUM_SEASONS, NUM_CLASSES), np.nan, dtype=np.float32),
        "class_present": np.zeros((num, NUM_SEASONS, NUM_CLASSES), dtype=bool),
    }


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Mean and standard deviation per band of the encoder's input, in stored physical units.

    Args:
        bands: `s2_l1c B1`, ... in the order of the channels.
        mean: DN for Sentinel-2, dB for Sentinel-1.
        std: likewise.
        origin: `published`, or the cubes they were taken from.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str


def band_order(product: ProductName) -> tuple[str, ...]:
    """Return a product's bands in the order of the channels."""
    return PRODUCTS[product].channels


def read_statistics(settings: DataSettings) -> BandStatistics:
    """Return the statistics that inputs are normalised by.

    Raises:
        InputError: a cube has none, or the conventions of the cubes differ.
        ValueError: `settings.statistics` is no choice that there is.
    """
    bands: list[str] = []
    mean: list[float] = []
    std: list[float] = []
    origin = ""
    cubes = [CubeFiles(address) for address in settings.cubes]
    for product in settings.modality:
        conventions = {
            str(cube.attributes["products"][product]["radiometric_convention"]) for cube in cubes
        }
        if len(conventions) > 1:
            raise InputError(
                f"the cubes store {product} by different conventions "
                f"({' / '.join(sorted(conventions))}): train on them one at a time"
            )
        match settings.statistics:
            case "published":
                found, origin = _published_statistics(product), "published"
            case "cube":
                found = _statistics_of_cubes(cubes, product)
                origin = ", ".join(settings.cubes)
            case _:
                choices = get_args(DataSettings.model_fields["statistics"].annotation)
                raise unknown_choice("data.statistics", settings.statistics, choices)
        for band in band_order(product):
            bands.append(f"{product} {band}")
            mean.append(found[band][0])
            std.append(found[band][1])
    return BandStatistics(tuple(bands), tuple(mean), tuple(std), origin)


def _published_statistics(product: ProductName) -> dict[str, tuple[float, float]]:
    found = published_statistics(product)
    if not found:
        raise InputError(f"no statistics are published for {product}: set data.statistics=cube")
    return found


def _statistics_of_cubes(
    cubes: Sequence[CubeFiles], product: ProductName
) -> dict[str, tuple[float, float]]:
    """Pool the statistics that sealing stored, weighted by valid pixels."""
    found: dict[str, tuple[float, float]] = {}
    for group in PRODUCTS[product].groups:
        parts = [cube.array_attributes(group.array).get("statistics") for cube in cubes]
        if any(part is None for part in parts):
            raise InputError(
                f"a cube has no statistics of {group.array}: seal it, or set "
                "data.statistics=published"
            )
        for position, band in enumerate(group.bands):
            rows = [
                (part["num_valid_pixels"][position], part["mean"][position], part["std"][position])
                for part in parts
                if part is not None and part["num_valid_pixels"][position]
            ]
            if not rows:
                raise InputError(f"no cube has a valid pixel of {product} {band}")
            total = sum(n for n, _, _ in rows)
            mean = sum(n * m for n, m, _ in rows) / total
            square = sum(n * (s * s + m * m) for n, m, s in rows) / total
            found[band] = mean, max(square - mean * mean, 0.0) ** 0.5
    return found
