"""Every violation of the contract in an opened cube, as a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from pydantic import ValidationError
from pydantic_zarr.v3 import ArraySpec

from storage_schema.layout import (
    CubeDescription,
    Layout,
    check_schema_version,
    coordinate_values,
    describe,
    description_from_attributes,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a cube is not what it should be.

    Args:
        where: array name, ``array attribute``, or ``cube`` for the root; where it applies followed
            by batch, location and season.
        expected: what the contract asks for.
        found: what is there.
    """

    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


def read_layout(group: zarr.Group) -> Layout:
    """Return the layout that a cube's own attributes promise.

    Raises:
        SchemaVersionError: not a cube, or of another schema version.
        pydantic.ValidationError, KeyError: the attributes are incomplete or malformed.
    """
    location_id = group["location_id"]
    return describe(
        description_from_attributes(dict(group.attrs.asdict()), location_id.shape[0])  # type: ignore[union-attr]
    )


def find_violations(group: zarr.Group) -> list[Violation]:
    """Compare a cube's structure and coordinates with the contract.

    Args:
        group: the cube, opened for reading.

    Returns:
        every violation; empty where the cube conforms. Contents beyond the coordinates are the
        audit's matter.

    Raises:
        SchemaVersionError: not a cube, or of another schema version.
    """
    check_schema_version(group.attrs.asdict())
    members = _own_members(group)
    if "location_id" not in members:
        return [Violation("location_id", "an array of location ids", "nothing")]
    try:
        layout = read_layout(group)
    except ValidationError as error:
        return [
            Violation(
                f"cube attribute {'.'.join(str(part) for part in problem['loc'])}",
                problem["msg"],
                repr(problem["input"]),
            )
            for problem in error.errors()
        ]
    violations: list[Violation] = []
    _compare_attributes("cube", layout.attributes, group.attrs.asdict(), violations)
    for name, expected in layout.arrays.items():
        if name not in members:
            violations.append(Violation(name, "an array", "nothing"))
        elif not isinstance(members[name], zarr.Array):
            violations.append(Violation(name, "an array", "a group"))
        else:
            _compare_arrays(name, expected, members[name], violations)
    violations += _consolidated_violations(group, layout, members)
    if not violations:
        _compare_coordinates(layout.description, members, violations)
    return violations


def _own_members(group: zarr.Group) -> dict[str, Any]:
    """Open what the root names, and what the layout asks for, by each member's own metadata."""
    own = zarr.open_group(group.store_path, mode="r", use_consolidated=False)
    names = set(_consolidated(group)) | {"location_id"}
    try:
        description = description_from_attributes(group.attrs.asdict(), num_locations=1)
        names |= set(describe(description).arrays)
    except ValidationError:
        pass  # Reported by the caller, attribute by attribute.
    members = {}
    for name in names:
        try:
            members[name] = own[name]
        except KeyError:
            continue
    return members


def _consolidated(group: zarr.Group) -> dict[str, Any]:
    consolidated = group.metadata.consolidated_metadata
    return {} if consolidated is None else dict(consolidated.metadata)


def _consolidated_violations(
    group: zarr.Group, layout: Layout, members: dict[str, Any]
) -> list[Violation]:
    """The root's copy of the metadata is what xarray reads: it must be that of the arrays."""
    copies = _consolidated(group)
    violations = [
        Violation(name, "nothing: it is no array of this schema version", "an array or group")
        for name in sorted(set(copies) - set(layout.arrays))
    ]
    for name in layout.arrays:
        if name not in copies:
            violations.append(Violation(f"{name}, root metadata", "a copy of its metadata", "none"))
        elif name in members and copies[name].to_dict() != members[name].metadata.to_dict():
            violations.append(
                Violation(f"{name}, root metadata", "the array's own metadata", "other metadata")
            )
    return violations


def _compare_arrays(
    name: str,
    expected: ArraySpec,  # type: ignore[type-arg]
    array: zarr.Array,  # type: ignore[type-arg]
    violations: list[Violation],
) -> None:
    found: ArraySpec = ArraySpec.from_zarr(array)  # type: ignore[type-arg]
    for field in (
        "dimension_names",
        "shape",
        "data_type",
        "chunk_grid",
        "chunk_key_encoding",
        "codecs",
        "fill_value",
    ):
        wanted, got = _plain(getattr(expected, field)), _plain(getattr(found, field))
        if wanted != got:
            violations.append(Violation(f"{name} {field}", repr(wanted), repr(got)))
    _compare_attributes(name, expected.attributes, found.attributes, violations)


def _compare_attributes(
    where: str, expected: Mapping[str, Any], found: Mapping[str, Any], violations: list[Violation]
) -> None:
    """Expected attributes have to be there; sealing and users may add others."""
    for key, value in expected.items():
        if key == "sealed":
            wrong = not isinstance(found.get(key), bool)
        elif key == "products":
            wrong = _without_years(found.get(key)) != _without_years(value)
        else:
            wrong = _plain(found.get(key)) != _plain(value)
        if wrong:
            got = repr(found[key]) if key in found else "nothing"
            violations.append(Violation(f"{where} attribute {key}", repr(value), got))


def _without_years(products: Any) -> Any:
    """Sealing fills the years into the attribution; everything else has to agree."""
    if not isinstance(products, dict):
        return products
    return {
        name: {key: value for key, value in entry.items() if key != "attribution"}
        for name, entry in products.items()
        if isinstance(entry, dict)
    }


def _compare_coordinates(
    description: CubeDescription, members: dict[str, Any], violations: list[Violation]
) -> None:
    for dim, (values, dtype, _) in coordinate_values(description.products).items():
        found: Any = members[dim][:]
        wanted = np.asarray(values, dtype=object if dtype == "string" else dtype)
        if not np.array_equal(np.asarray(found, dtype=wanted.dtype), wanted):
            violations.append(Violation(dim, _short(wanted), _short(found)))


def _short(values: Any) -> str:
    text = ", ".join(str(value) for value in list(values)[:9])
    return f"[{text}{', ...' if len(values) > 9 else ''}]"


def _plain(value: Any) -> Any:
    """Turn tuples into lists, and drop the empty configurations some writers add."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if not (k == "configuration" and not v)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and np.isnan(value):
        return "NaN"
    return value
