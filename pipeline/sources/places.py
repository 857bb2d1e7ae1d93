"""The places that a configuration asks for, as sources take them and cubes remember them."""

from __future__ import annotations

from typing import Any

from pipeline.patches import Place
from pipeline.places.files import Locations
from storage_schema.status import Split


def places_of(locations: Locations) -> dict[str, Place]:
    """Return location id -> where it is wanted.

    Args:
        locations: the whole list.
    """
    columns = zip(
        locations.location_id,
        locations.longitude,
        locations.latitude,
        locations.split,
        strict=True,
    )
    return {
        name: Place(float(longitude), float(latitude), Split(int(split)))
        for name, longitude, latitude, split in columns
    }


def describe_places(locations: Locations) -> dict[str, Any]:
    """Return what the description of a cube says of its places, for `CubeDescription.source`.

    Args:
        locations: the whole list.
    """
    return {
        "locations": dict(locations.provenance),
        # The places themselves: a list with the same ids elsewhere is another cube.
        "locations_sha256": locations.digest,
    }
