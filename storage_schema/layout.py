"""The cube, described once: arrays, dimensions, chunks, shards, codecs, attributes.

`describe` turns a `CubeDescription` into a `pydantic_zarr` group specification. A cube is created
from that specification, and checked against it (``conformance.py``). Nothing else in the project
spells out an array's shape, type or attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_zarr.v3 import ArraySpec, GroupSpec

from storage_schema.land_cover import CLASS_NAMES, CLASSES, MASKED, NUM_CLASSES, LabelStatus
from storage_schema.products import (
    FINEST_M,
    PRODUCTS,
    BandGroup,
    NoData,
    Product,
    ProductName,
    Resolution,
    Role,
    of_role,
    patch_size_px,
)
from storage_schema.status import OrbitPass, PatchStatus, Split, StatusReason, flag_attributes

SCHEMA_NAME: Final = "softcon-cube"
SCHEMA_VERSION: Final = 1
NUM_SEASONS: Final = 4
LOCATIONS_PER_BATCH: Final = 64
"""One batch is one shard of every array. Reads hardly depend on it; files and rewrites do."""

TIME_UNITS: Final = "milliseconds since 1970-01-01T00:00:00"
NO_TIME: Final = -(2**63)
NO_ORBIT: Final = -1

AXES: Final = ("east", "north")

SEAL_ATTRIBUTES: Final = frozenset({"digest", "sealed", "patch_table_sha256"})
"""Root attributes the digest cannot cover: itself, and what is written after it."""

ArrayRole = Literal["pixels", "patch", "location", "plan", "coordinate"]
"""pixels: sharded imagery; patch, location: small arrays, a chunk per batch; plan: written at the
start, one chunk; coordinate: names and offsets, written at the start."""


class CubeDescription(BaseModel):
    """What distinguishes one cube from another before any pixel is read.

    All of it is stored in the root attributes and shapes the digest. Execution settings (workers,
    addresses, limits) are not part of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_locations: int = Field(ge=1, description="Locations, N")
    products: tuple[ProductName, ...] = Field(min_length=1, description="Products with arrays")
    source: dict[str, Any] = Field(description="Where the pixels come from")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that shape pixels")
    season_meaning: str = Field(description="What a season slot is")
    radiometric_convention: dict[ProductName, str] = Field(
        default_factory=dict, description="Per product, where it is not the usual one"
    )
    earth_engine_ids: dict[ProductName, str] = Field(
        default_factory=dict, description="Per product, where it is not the usual collection"
    )
    locations_per_batch: int = Field(LOCATIONS_PER_BATCH, ge=1, description="Locations per shard")

    @field_validator("products")
    @classmethod
    def _check_products(cls, products: tuple[str, ...]) -> tuple[str, ...]:
        labels = of_role(Role.LABELS, products)
        if len(labels) > 1:
            raise ValueError(
                f"{' and '.join(labels)} both hold labels: a cube has the class fractions of one"
            )
        owners: dict[str, str] = {}
        for name in products:
            product = PRODUCTS[name]
            for group in product.groups:
                for taken in {group.array, product.dimension_of(group) or group.array}:
                    if owners.setdefault(taken, name) != name:
                        raise ValueError(f"{owners[taken]} and {name} both name {taken}")
        return products

    @property
    def num_batches(self) -> int:
        """Batches, each of `locations_per_batch` locations; the last may be shorter."""
        return -(-self.num_locations // self.locations_per_batch)

    def batch_range(self, batch: int) -> tuple[int, int]:
        """Return the first location of a batch and the one after its last."""
        if not 0 <= batch < self.num_batches:
            raise IndexError(f"batch {batch} of a cube with {self.num_batches} batches")
        start = batch * self.locations_per_batch
        return start, min(start + self.locations_per_batch, self.num_locations)


class Layout(BaseModel):
    """The arrays of one cube: their specifications and their roles."""

    model_config = ConfigDict(frozen=True)

    description: CubeDescription
    arrays: dict[str, ArraySpec]  # type: ignore[type-arg]
    roles: dict[str, ArrayRole]
    attributes: dict[str, Any]

    @property
    def group(self) -> GroupSpec:  # type: ignore[type-arg]
        """The specification to create the cube from."""
        return GroupSpec(attributes=self.attributes, members=self.arrays)

    def names(self, *roles: ArrayRole) -> list[str]:
        """Return the arrays with one of these roles, in the order they are written.

        Raises:
            ValueError: there is no such role.
        """
        if unknown := set(roles) - set(get_args(ArrayRole)):
            raise ValueError(
                f"role of an array {unknown.pop()!r} is unknown; the choices are "
                f"{', '.join(get_args(ArrayRole))}"
            )
        return [name for name in self.arrays if self.roles[name] in roles]


def describe(description: CubeDescription) -> Layout:
    """Return the full layout of a cube."""
    products = [PRODUCTS[name] for name in description.products]
    arrays: dict[str, ArraySpec] = {}  # type: ignore[type-arg]
    roles: dict[str, ArrayRole] = {}

    def add(role: ArrayRole, specs: Mapping[str, ArraySpec]) -> None:  # type: ignore[type-arg]
        arrays.update(specs)
        roles.update(dict.fromkeys(specs, role))

    add("coordinate", _coordinates(products))
    add("plan", _plan_arrays(description))
    for product in products:
        for group in product.groups:
            add("pixels", {group.array: _pixel_array(description, product, group)})
    add("location", _location_arrays(description))
    add("patch", _patch_arrays(description))
    return Layout(
        description=description,
        arrays=arrays,
        roles=roles,
        attributes=_root_attributes(description),
    )


def description_from_attributes(
    attributes: Mapping[str, Any], num_locations: int
) -> CubeDescription:
    """Read back what `describe` stored in the root attributes.

    Raises:
        SchemaVersionError: not a cube, or one of another schema version.
        pydantic.ValidationError: an attribute is missing or malformed.
    """
    check_schema_version(attributes)
    products: Mapping[str, Mapping[str, Any]] = attributes.get("products", {})
    return CubeDescription.model_validate(
        {
            "num_locations": num_locations,
            "products": tuple(products),
            "source": attributes.get("source"),
            "settings": attributes.get("settings"),
            "season_meaning": attributes.get("season_meaning"),
            "locations_per_batch": attributes.get("locations_per_batch"),
            "radiometric_convention": _unusual(products, "radiometric_convention"),
            "earth_engine_ids": _unusual(products, "earth_engine_id"),
        }
    )


def _unusual(products: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Return product -> what its entry says, where that is not the product's usual."""
    return {
        name: entry[key]
        for name, entry in products.items()
        if name in PRODUCTS and entry.get(key) not in (None, getattr(_product(name), key))
    }


def _product(name: str) -> Product:
    return next(product for product in PRODUCTS.values() if product.name == name)


class SchemaVersionError(ValueError):
    """The store is not a cube this version of the software can read."""


def check_schema_version(attributes: Mapping[str, Any]) -> None:
    """Raise `SchemaVersionError`, with what to do, unless the attributes are of this version."""
    if attributes.get("schema_name") != SCHEMA_NAME:
        raise SchemaVersionError(
            f"this Zarr group is not a {SCHEMA_NAME}: its attribute schema_name is "
            f"{attributes.get('schema_name')!r}; give the folder that a build or import wrote"
        )
    found = attributes.get("schema_version")
    if found == SCHEMA_VERSION:
        return
    newer = isinstance(found, int) and found > SCHEMA_VERSION
    remedy = (
        "upgrade softcon-cube"
        if newer
        else "build the cube again, or open it with the release of softcon-cube that wrote it"
    )
    raise SchemaVersionError(
        f"the cube has schema version {found!r}, this software reads version {SCHEMA_VERSION}: "
        f"{remedy}"
    )


# --- arrays -----------------------------------------------------------------------------------

_BYTES: Final = {"name": "bytes", "configuration": {"endian": "little"}}
_BYTE: Final = {"name": "bytes"}
_CRC32C: Final = {"name": "crc32c"}
_ZSTD: Final = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}


def _bytes_codec(dtype: str) -> dict[str, Any]:
    return _BYTE if dtype in {"uint8", "int8"} else _BYTES


def _blosc(typesize: int) -> dict[str, Any]:
    return {
        "name": "blosc",
        "configuration": {
            "typesize": typesize,
            "cname": "zstd",
            "clevel": 3,
            "shuffle": "bitshuffle",
            "blocksize": 0,
        },
    }


def _spec(
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: str,
    *,
    chunk: tuple[int, ...],
    codecs: tuple[dict[str, Any], ...],
    fill: object,
    attributes: Mapping[str, Any],
) -> ArraySpec:  # type: ignore[type-arg]
    return ArraySpec(
        attributes=dict(attributes),
        shape=shape,
        data_type=dtype,
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": chunk}},
        chunk_key_encoding={"name": "default", "configuration": {"separator": "/"}},
        fill_value=fill,
        codecs=codecs,
        dimension_names=dims,
    )


def _pixel_array(description: CubeDescription, product: Product, group: BandGroup) -> ArraySpec:  # type: ignore[type-arg]
    """One chunk per patch, one shard per batch; every chunk carries its checksum."""
    side = group.size_px
    band_dim = product.dimension_of(group)
    dims = (
        "location",
        "season",
        *(() if band_dim is None else (band_dim,)),
        f"y_{group.suffix}",
        f"x_{group.suffix}",
    )
    pixel_shape = (*(() if band_dim is None else (len(group.bands),)), side, side)
    size_bytes = np.dtype(product.dtype).itemsize
    # Shuffling the bits of values of one byte gains nothing on label maps.
    compressor = _ZSTD if size_bytes == 1 else _blosc(typesize=size_bytes)
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": (1, 1, *pixel_shape),
            "codecs": (_bytes_codec(product.dtype), compressor, _CRC32C),
            "index_codecs": (_BYTES, _CRC32C),
            "index_location": "end",
        },
    }
    attributes: dict[str, Any] = {"long_name": product.title, "units": product.unit}
    if product.scale_factor is not None:
        attributes["scale_factor"] = product.scale_factor
    if product.no_data is NoData.EACH_VALUE:
        # Readers mask every such value; where a pixel is judged by all its bands, they must not.
        attributes["_FillValue"] = product.fill_value
    attributes["no_data"] = product.fill_meaning
    attributes["radiometric_convention"] = description.radiometric_convention.get(
        product.name, product.radiometric_convention
    )
    if product.role is Role.LABELS:
        attributes |= {
            "flag_values": [c.id for c in CLASSES],
            "flag_meanings": " ".join(CLASS_NAMES),
            "flag_colours": " ".join(c.colour for c in CLASSES),
        }
    else:
        attributes["resolution_m"] = group.resolution_m
    return _spec(
        dims,
        (description.num_locations, NUM_SEASONS, *pixel_shape),
        product.dtype,
        chunk=(description.locations_per_batch, NUM_SEASONS, *pixel_shape),
        codecs=(sharding,),
        fill=product.fill_value,
        attributes=attributes,
    )


def _small_array(
    description: CubeDescription,
    dims: tuple[str, ...],
    dtype: str,
    fill: object,
    attributes: Mapping[str, Any],
) -> ArraySpec:  # type: ignore[type-arg]
    """A chunk per batch, so that a batch has one owner in every array."""
    sizes = {
        "location": description.num_locations,
        "season": NUM_SEASONS,
        "product": len(description.products),
        "land_cover_class": NUM_CLASSES,
        "axis": len(AXES),
    }
    shape = tuple(sizes[dim] for dim in dims)
    string = dtype == "string"
    return _spec(
        dims,
        shape,
        dtype,
        chunk=(description.locations_per_batch, *shape[1:]),
        codecs=({"name": "vlen-utf8"} if string else _bytes_codec(dtype), _ZSTD, _CRC32C),
        fill=fill,
        attributes=attributes,
    )


def _patch_arrays(description: CubeDescription) -> dict[str, ArraySpec]:  # type: ignore[type-arg]
    per_class = ("location", "season", "land_cover_class")
    per_patch = ("location", "season")
    per_product = ("location", "season", "product")

    def small(dims: tuple[str, ...], dtype: str, fill: object, **attributes: object) -> ArraySpec:  # type: ignore[type-arg]
        return _small_array(description, dims, dtype, fill, attributes)

    return {
        "class_fraction": small(
            per_class,
            "float32",
            "NaN",
            long_name="share of the valid Dynamic World pixels that have this class",
            units="1",
            comment="NaN where the patch is unlabelled or only class presence is known",
        ),
        "class_present": small(
            per_class,
            "uint8",
            255,
            long_name="whether the class occurs in the patch",
            flag_values=[0, 1, 255],
            flag_meanings="absent present unknown",
        ),
        "labelled_fraction": small(
            per_patch,
            "float32",
            "NaN",
            long_name="valid Dynamic World pixels / all pixels",
            units="1",
            comment="NaN where there is no label map",
        ),
        "label_status": small(
            per_patch,
            "uint8",
            int(LabelStatus.PENDING),
            long_name="where the multi-label comes from, or why there is none",
            **flag_attributes(LabelStatus),
        ),
        "valid_fraction": small(
            per_product,
            "float32",
            "NaN",
            long_name="pixels of the 10 m array that are valid in every band / all pixels",
            units="1",
        ),
        "acquisition_id": small(
            per_product, "string", "", long_name="the provider's system:index; empty where none"
        ),
        "acquisition_time": small(
            per_product,
            "int64",
            NO_TIME,
            long_name="start of sensing, UTC",
            units=TIME_UNITS,
            calendar="proleptic_gregorian",
            _FillValue=NO_TIME,
        ),
        "cloud_percentage": small(
            per_product,
            "float32",
            "NaN",
            long_name="cloud cover of the whole acquisition (CLOUDY_PIXEL_PERCENTAGE)",
            units="percent",
        ),
        "orbit_pass": small(
            per_product,
            "uint8",
            int(OrbitPass.UNKNOWN),
            long_name="flight direction",
            **flag_attributes(OrbitPass),
        ),
        "relative_orbit": small(
            per_product,
            "int16",
            NO_ORBIT,
            long_name="relative orbit number",
            _FillValue=NO_ORBIT,
        ),
        "sun_elevation": small(
            per_product,
            "float32",
            "NaN",
            long_name="mean solar elevation of the acquisition",
            units="degree",
        ),
        "status_reason": small(
            per_product,
            "uint8",
            int(StatusReason.NONE),
            long_name="why the patch has its status",
            **flag_attributes(StatusReason),
        ),
        # Last: a reader who sees "complete" finds every other array of the patch written.
        "patch_status": small(
            per_product,
            "uint8",
            int(PatchStatus.PENDING),
            long_name="what became of the patch",
            **flag_attributes(PatchStatus),
        ),
    }


def _location_arrays(
    description: CubeDescription,
) -> dict[str, ArraySpec]:  # type: ignore[type-arg]
    def small(dtype: str, fill: object, **attributes: object) -> ArraySpec:  # type: ignore[type-arg]
        return _small_array(description, ("location",), dtype, fill, attributes)

    offsets = {
        f"offset_{resolution_m}m": _small_array(
            description,
            ("location", "axis"),
            "float32",
            "NaN",
            {
                "long_name": f"where the {resolution_m} m arrays start, east and north of "
                "x_origin, y_origin",
                "units": "m",
                "comment": "0 where all resolutions share the corner; NaN where not known",
            },
        )
        for resolution_m in coarse_resolutions(description.products)
    }
    return offsets | {
        "longitude": small(
            "float64",
            "NaN",
            standard_name="longitude",
            long_name="longitude of the patch centre",
            units="degrees_east",
        ),
        "latitude": small(
            "float64",
            "NaN",
            standard_name="latitude",
            long_name="latitude of the patch centre",
            units="degrees_north",
        ),
        "epsg": small(
            "int32", 0, long_name="EPSG code of the patch's UTM zone", comment="0 where unknown"
        ),
        "x_origin": small(
            "float64",
            "NaN",
            long_name="easting of the patch's upper-left corner in its UTM zone",
            units="m",
        ),
        "y_origin": small(
            "float64",
            "NaN",
            long_name="northing of the patch's upper-left corner in its UTM zone",
            units="m",
        ),
        "georeference_error_m": small(
            "float32",
            "NaN",
            long_name="estimated error of x_origin, y_origin",
            units="m",
            comment="an estimate where the grid had to be recovered; 0 where the provider gave it",
        ),
        "split": small(
            "uint8", int(Split.TRAIN), long_name="use of the location", **flag_attributes(Split)
        ),
    }


def _plan_arrays(description: CubeDescription) -> dict[str, ArraySpec]:  # type: ignore[type-arg]
    n = description.num_locations
    return {
        "location_id": _spec(
            ("location",),
            (n,),
            "string",
            chunk=(n,),
            codecs=({"name": "vlen-utf8"}, _ZSTD, _CRC32C),
            fill="",
            attributes={"long_name": "stable id of the location"},
        )
    }


def _coordinates(products: list[Product]) -> dict[str, ArraySpec]:  # type: ignore[type-arg]
    def coordinate(
        dim: str, values: tuple[object, ...], dtype: str, **attributes: object
    ) -> ArraySpec:  # type: ignore[type-arg]
        string = dtype == "string"
        return _spec(
            (dim,),
            (len(values),),
            dtype,
            chunk=(len(values),),
            codecs=({"name": "vlen-utf8"} if string else _bytes_codec(dtype), _ZSTD),
            fill="" if string else "NaN" if dtype.startswith("float") else 0,
            attributes=attributes,
        )

    return {
        dim: coordinate(dim, values, dtype, **attributes)
        for dim, (values, dtype, attributes) in coordinate_values(
            tuple(p.name for p in products)
        ).items()
    }


def coordinate_values(
    products: tuple[ProductName, ...],
) -> dict[str, tuple[tuple[object, ...], str, dict[str, object]]]:
    """Return dimension -> (values, dtype, attributes) of every coordinate variable of the cube."""
    resolutions: set[Resolution] = set()
    found: dict[str, tuple[tuple[object, ...], str, dict[str, object]]] = {
        "season": (tuple(range(NUM_SEASONS)), "uint8", {"long_name": "season slot"}),
        "product": (tuple(products), "string", {"long_name": "product"}),
        "land_cover_class": (CLASS_NAMES, "string", {"long_name": "Dynamic World class"}),
    }
    for name in products:
        for group in PRODUCTS[name].groups:
            resolutions.add(group.resolution_m)
            dim = PRODUCTS[name].dimension_of(group)
            if dim is not None:
                found[dim] = (group.bands, "string", {"long_name": f"bands of {group.array}"})
    if coarse_resolutions(products):
        found["axis"] = (AXES, "string", {"long_name": "axis of the UTM zone"})
    for resolution in sorted(resolutions):
        centres = [resolution * (i + 0.5) for i in range(patch_size_px(resolution))]
        for axis, sign, way in (("x", 1, "east of x_origin"), ("y", -1, "north of y_origin")):
            found[f"{axis}_{resolution}m"] = (
                tuple(sign * c for c in centres),
                "float32",
                {"long_name": f"pixel centre {way}", "units": "m"},
            )
    return found


def coarse_resolutions(products: tuple[ProductName, ...]) -> list[Resolution]:
    """Return the resolutions of these products beyond 10 m."""
    found = {g.resolution_m for name in products for g in PRODUCTS[name].groups}
    return sorted(found - {FINEST_M})


def _root_attributes(description: CubeDescription) -> dict[str, Any]:
    return {
        "Conventions": "CF-1.11",
        "title": "Sentinel-1/2 patches with Dynamic World class fractions",
        "schema_name": SCHEMA_NAME,
        "schema_version": SCHEMA_VERSION,
        "source": description.source,
        "settings": description.settings,
        "season_meaning": description.season_meaning,
        "locations_per_batch": description.locations_per_batch,
        "products": {
            name: {
                "title": PRODUCTS[name].title,
                "earth_engine_id": description.earth_engine_ids.get(
                    name, PRODUCTS[name].earth_engine_id
                ),
                "radiometric_convention": description.radiometric_convention.get(
                    name, PRODUCTS[name].radiometric_convention
                ),
                "licence": PRODUCTS[name].licence,
                # Sealing knows the years.
                "attribution": PRODUCTS[name].attribution.replace(" [years]", ""),
            }
            for name in description.products
        },
        "masked_label": MASKED,
        # xarray makes these variables coordinates.
        "coordinates": "location_id longitude latitude epsg x_origin y_origin split",
        "sealed": False,
    }
