"""Algorithms on collections and elements: filter, map, sort, reduce, properties."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.element_collections import Collection, of_elements, take
from earth_engine_emulator.expressions.elements import Element, Feature, plain_properties
from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.filters import Filter
from earth_engine_emulator.expressions.geometries import Geometry
from earth_engine_emulator.expressions.image_algorithms import stack_bands
from earth_engine_emulator.expressions.images import Image, ImageBand, add_bands
from earth_engine_emulator.expressions.joins import Join
from earth_engine_emulator.expressions.pixel_types import PixelType, union
from earth_engine_emulator.expressions.projections import WGS84
from earth_engine_emulator.expressions.promotion import Callee, promote
from earth_engine_emulator.expressions.rasters import Constant, Layered, Raster
from earth_engine_emulator.expressions.reducers import (
    SIMPLE,
    Reducer,
    count,
    extreme,
    frequency_histogram,
)
from earth_engine_emulator.expressions.session import Session

_INDEX = "system:index"


@algorithm("ImageCollection.load", with_session=True)
def _load(session: Session, asset_id: str, _version: int | None) -> Collection:
    return session.load_collection(asset_id)


@algorithm("ImageCollection.fromImages")
def _from_images(images: list[Image | None]) -> Collection:
    return of_elements("ImageCollection", [image for image in images if image is not None])


@algorithm("Collection")
def _from_features(features: list[Element | None]) -> Collection:
    return of_elements("FeatureCollection", [f for f in features if f is not None])


@algorithm("Collection.loadTable", with_session=True)
def _load_table(session: Session, asset_id: str, _column: str | None, _version: int) -> Collection:
    try:
        return session.load_collection(asset_id)
    except AlgorithmError:
        raise AlgorithmError(
            f"Collection asset '{asset_id}' not found (does not exist or caller does not have "
            f"access)."
        ) from None


@algorithm("Collection.filter")
def _filter(collection: Collection, wanted: Any) -> Collection:
    if isinstance(wanted, str):
        raise AlgorithmError("The emulator does not parse filters from text; use ee.Filter.")
    return collection.filtered(promote(wanted, "Filter", "Collection.filter", "filter"))


def _sort_key(name: str) -> Callable[[Element], tuple[int, Any]]:
    def key(element: Element) -> tuple[int, Any]:
        value = element.get(name)
        if isinstance(value, (int, float)):
            return (0, value)
        return (1, str(value))

    return key


def sorted_elements(elements: Iterable[Element], name: str, ascending: bool) -> list[Element]:
    """Sort by a property; elements without it come last."""
    known: list[Element] = []
    unknown: list[Element] = []
    for element in elements:
        (unknown if element.get(name) is None else known).append(element)
    return sorted(known, key=_sort_key(name), reverse=not ascending) + unknown


@algorithm("Collection.limit")
def _limit(
    collection: Collection, limit: int | None, name: str | None, ascending: bool
) -> Collection:
    if limit is not None and limit < 0:
        raise AlgorithmError("'limit' must not be negative.")

    def limited() -> Iterator[Element]:
        elements: Iterable[Element] = collection
        if name is not None:
            elements = sorted_elements(collection, name, ascending)
        return iter(elements) if limit is None else islice(elements, limit)

    return collection.derived(limited)


@algorithm("Collection.size")
def _size(collection: Collection) -> int:
    return sum(1 for _ in collection)


@algorithm("Collection.first")
def _first(collection: Collection) -> Element | None:
    return next(iter(collection), None)


@algorithm("Collection.toList", with_session=True)
def _to_list(session: Session, collection: Collection, number: int, offset: int) -> list[Element]:
    if number < 0 or offset < 0:
        raise AlgorithmError("'count' and 'offset' must not be negative.")
    rest = islice(collection, offset, None)
    return take(rest, number, session.limits.max_elements)


@algorithm("Collection.map")
def _map(collection: Collection, function: Callee, drop_nulls: bool) -> Collection:
    def mapped() -> Iterator[Element]:
        for element in collection:
            made = _call_on(function, element)
            if made is None and drop_nulls:
                continue
            yield _as_element(made, element)

    return collection.derived(mapped)


def _call_on(function: Callee, element: Element) -> Any:
    try:
        return function(element)
    except (ServiceError, AlgorithmError) as error:
        raise ServiceError(f"Error in map(ID={element.get(_INDEX)}):\n{error}") from error


def _as_element(made: Any, source: Element) -> Element:
    if isinstance(made, Geometry):
        made = Feature(made, {})
    if not isinstance(made, Element):
        raise ServiceError("Collection.map: A mapped algorithm must return a Feature or Image.")
    index = source.get(_INDEX)
    return made if made.get(_INDEX) == index else made.with_property(_INDEX, index)


@algorithm("Collection.iterate")
def _iterate(collection: Collection, function: Callee, first: Any) -> Any:
    result = first
    for element in collection:
        result = function(element, result)
    return result


@algorithm("Collection.merge", "ImageCollection.merge")
def _merge(one: Collection, two: Collection) -> Collection:
    def merged() -> Iterator[Element]:
        for number, part in enumerate((one, two), start=1):
            for element in part:
                yield element.with_property(_INDEX, f"{number}_{element.get(_INDEX)}")

    return one.derived(merged)


@algorithm("Collection.flatten")
def _flatten(collection: Collection) -> Collection:
    def flat() -> Iterator[Element]:
        for outer in collection:
            if not isinstance(outer, Collection):
                raise AlgorithmError("The collection's elements are not collections.")
            for element in outer:
                index = f"{outer.get(_INDEX)}_{element.get(_INDEX)}"
                yield element.with_property(_INDEX, index)

    return collection.derived(flat)


@algorithm("Collection.distinct")
def _distinct(collection: Collection, properties: Any) -> Collection:
    names = [properties] if isinstance(properties, str) else list(properties)

    def distinct() -> Iterator[Element]:
        seen: set[str] = set()
        for element in collection:
            key = repr([_key_of(element, name) for name in names])
            if key not in seen:
                seen.add(key)
                yield element

    return collection.derived(distinct)


def _key_of(element: Element, name: str) -> Any:
    if name in {".geo", ".all"}:
        geometry = element.geometry
        return None if geometry is None else geometry.describe()
    return element.get(name)


@algorithm("Collection.geometry", "Collection.bounds")
def _geometry(collection: Collection, _max_error: Any, _projection: Any = None) -> Geometry:
    found = collection.geometry
    assert found is not None
    return found


@algorithm("Collection.reduceColumns")
def _reduce_columns(
    collection: Collection, reducer: Reducer, selectors: list[str], weights: list[str] | None
) -> dict[str, Any]:
    if weights:
        raise AlgorithmError("The emulator does not have weightSelectors.")
    if len(selectors) != reducer.num_inputs:
        raise AlgorithmError(
            f"Need {reducer.num_inputs} selectors for the reducer, got {len(selectors)}: "
            f"{selectors}."
        )
    rows = [[_column(element, name) for name in selectors] for element in collection]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in selectors]
    return reducer.run(columns)


def _column(element: Element, name: str) -> Any:
    return element.geometry if name in {".geo", ".all"} else element.get(name)


def _aggregate(name: str, reducer: Reducer, output: Callable[[Any], Any] = lambda v: v) -> None:
    def aggregated(collection: Collection, property_name: str) -> Any:
        values = [_column(element, property_name) for element in collection]
        (result,) = reducer.run([values]).values()
        return output(result)

    algorithm(f"AggregateFeatureCollection.{name}")(aggregated)


for _name, _reducer in {
    "count": count(),
    "min": extreme("min", 1),
    "max": extreme("max", 1),
    "mean": SIMPLE["mean"],
    "sum": SIMPLE["sum"],
    "product": SIMPLE["product"],
    "total_sd": SIMPLE["stdDev"],
    "total_var": SIMPLE["variance"],
    "sample_sd": SIMPLE["sampleStdDev"],
    "sample_var": SIMPLE["sampleVariance"],
    "histogram": frequency_histogram(),
}.items():
    _aggregate(_name, _reducer)


@algorithm("AggregateFeatureCollection.array")
def _aggregate_array(collection: Collection, name: str) -> list[Any]:
    values = (_column(element, name) for element in collection)
    return [value for value in values if value is not None]


@algorithm("AggregateFeatureCollection.first")
def _aggregate_first(collection: Collection, name: str) -> Any:
    return next((_column(element, name) for element in collection), None)


@algorithm("AggregateFeatureCollection.count_distinct")
def _aggregate_distinct(collection: Collection, name: str) -> int:
    return len({repr(value) for value in _aggregate_array(collection, name)})


def _bands_by_name(images: list[Image]) -> dict[str, list[ImageBand]]:
    """Return the stack of every band of the first image; others need the same bands."""
    stacks: dict[str, list[ImageBand]] = {band.name: [] for band in images[0].bands}
    for image in images:
        for band in image.bands:
            if band.name in stacks:
                stacks[band.name].append(band)
    return stacks


def _images(collection: Collection) -> list[Image]:
    return [promote(e, "Image<unknown bands>", "Collection", "collection") for e in collection]


@algorithm("ImageCollection.mosaic")
def _mosaic(collection: Collection) -> Image:
    images = _images(collection)
    if not images:
        return Image([], {})
    out = []
    for name, bands in _bands_by_name(images).items():
        pixel_type = _united([band.pixel_type for band in bands])
        rasters: list[Raster] = [band.raster for band in reversed(bands)]
        # A composite lies on no lattice: its default projection is one degree, as in the service.
        out.append(ImageBand(name, pixel_type, WGS84, Layered(rasters, pixel_type.dtype)))
    return Image(out, {})


def _united(types: list[PixelType]) -> PixelType:
    out = types[0]
    for other in types[1:]:
        out = union(out, other)
    return out


@algorithm("ImageCollection.reduce")
def _reduce(collection: Collection, reducer: Reducer, _scale: float = 1.0) -> Image:
    images = _images(collection)
    if not images:
        return Image([], {})
    if not reducer.stacked:
        raise AlgorithmError(
            f"The emulator does not have the reducer of outputs {list(reducer.outputs)} for a "
            f"stack of images."
        )
    bands = [
        _unprojected(band)
        for name, stack in _bands_by_name(images).items()
        for band in stack_bands(reducer, stack, name)
    ]
    return Image(bands, {})


def _unprojected(band: ImageBand) -> ImageBand:
    return ImageBand(band.name, band.pixel_type, WGS84, band.raster)


def _register_shortcut(name: str, reducer: Reducer) -> None:
    def reduced(collection: Collection) -> Image:
        image = _reduce(collection, reducer)
        names = list(dict.fromkeys(band.name.rsplit("_", 1)[0] for band in image.bands))
        bands = zip(names, image.bands, strict=True)
        # The shortcuts, `ImageCollection.mean()`, keep the names of the bands.
        return Image([ImageBand(n, b.pixel_type, b.projection, b.raster) for n, b in bands], {})

    algorithm(f"reduce.{name}")(reduced)


for _name, _reducer in {
    "mean": SIMPLE["mean"],
    "sum": SIMPLE["sum"],
    "median": SIMPLE["median"],
    "product": SIMPLE["product"],
    "min": extreme("min", 1),
    "max": extreme("max", 1),
    "count": count(),
}.items():
    _register_shortcut(_name, _reducer)


@algorithm("ImageCollection.toBands")
def _to_bands(collection: Collection) -> Image:
    out = Image([], {})
    for image in _images(collection):
        index = image.get(_INDEX)
        renamed = [
            ImageBand(f"{index}_{b.name}", b.pixel_type, b.projection, b.raster, b.dimensions)
            for b in image.bands
        ]
        out = add_bands(out, Image(renamed, {}))
    return out


@algorithm("Image.linkCollection")
def _link_collection(
    image: Image, collection: Collection, bands: Any, properties: Any, match: str
) -> Image:
    wanted = image.get(match)
    found = next((other for other in collection if other.get(match) == wanted), None)
    names = _names(bands)
    if names:
        image = _linked_bands(image, found, names)
    for name in _names(properties):
        value = None if found is None else found.get(name)
        image = image.with_properties({**image.properties, name: value})
    return image


def _names(given: Any) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def _linked_bands(image: Image, found: Element | None, names: list[str]) -> Image:
    if isinstance(found, Image):
        return add_bands(image, found, names, overwrite=True)
    masked = [
        ImageBand(n, PixelType("int", 0, 0), WGS84, Constant(0, "uint8", valid=False))
        for n in names
    ]
    return add_bands(image, Image(masked, {}), overwrite=True)


@algorithm("Feature")
def _feature(geometry: Geometry | None, metadata: dict[str, Any] | None, _key: Any) -> Feature:
    return Feature(geometry, metadata or {})


@algorithm("Element.get")
def _get(element: Element, name: str) -> Any:
    return element.get(name)


@algorithm("Element.getNumber")
def _get_number(element: Element, name: str) -> Any:
    value = element.get(name)
    return None if value is None else promote(value, "Number", "Element.getNumber", name)


@algorithm("Element.getString")
def _get_string(element: Element, name: str) -> Any:
    value = element.get(name)
    return None if value is None else promote(value, "String", "Element.getString", name)


@algorithm("Element.set")
def _set(element: Element, name: str, value: Any) -> Element:
    return element.with_property(name, value)


@algorithm("Element.setMulti")
def _set_multi(element: Element, properties: dict[str, Any]) -> Element:
    return element.with_properties({**element.properties, **properties})


@algorithm("Element.propertyNames")
def _property_names(element: Element) -> list[str]:
    return element.property_names()


@algorithm("Element.toDictionary")
def _to_dictionary(element: Element, names: list[str] | None) -> dict[str, Any]:
    if names is None:
        return plain_properties(element)
    return {name: element.get(name) for name in names}


@algorithm("Element.copyProperties", "Image.copyProperties")
def _copy_properties(
    destination: Element | None,
    source: Element | None,
    names: list[str] | None,
    exclude: list[str] | None,
) -> Element | None:
    if destination is None or source is None:
        return destination
    if names is None:
        copied = plain_properties(source)
        copied = {k: v for k, v in copied.items() if k not in (exclude or ())}
    else:
        copied = {name: source.get(name) for name in names}
    known = {name: value for name, value in copied.items() if value is not None}
    return destination.with_properties({**destination.properties, **known})


@algorithm("Feature.select")
def _select(
    element: Element, selectors: list[str], names: list[str] | None, keep_geometry: bool
) -> Element:
    new_names = selectors if names is None else names
    if len(new_names) != len(selectors):
        raise AlgorithmError("'newProperties' must match 'propertySelectors'.")
    chosen = {
        new: element.get(old)
        for old, new in zip(selectors, new_names, strict=True)
        if element.get(old) is not None
    }
    return Feature(element.geometry if keep_geometry else None, chosen)


@algorithm("Feature.setGeometry")
def _set_geometry(element: Element, geometry: Geometry | None) -> Element:
    return Feature(geometry, element.properties)


@algorithm("Join.apply")
def _join(join: Join, primary: Collection, secondary: Collection, condition: Filter) -> Collection:
    return Collection(primary.kind, lambda: join.apply(primary, secondary, condition), {})


@algorithm("Join.simple")
def _join_simple() -> Join:
    return Join("simple")


@algorithm("Join.inverted")
def _join_inverted() -> Join:
    return Join("inverted")


@algorithm("Join.saveFirst")
def _join_save_first(
    key: str, ordering: str | None, ascending: bool, measure: str | None, outer: bool
) -> Join:
    _refuse_measure(measure)
    return Join("saveFirst", key, "", ordering, ascending, outer)


@algorithm("Join.saveAll")
def _join_save_all(
    key: str, ordering: str | None, ascending: bool, measure: str | None, outer: bool
) -> Join:
    _refuse_measure(measure)
    return Join("saveAll", key, "", ordering, ascending, outer)


@algorithm("Join.inner")
def _join_inner(primary: str, secondary: str, measure: str | None) -> Join:
    _refuse_measure(measure)
    return Join("inner", primary, secondary)


def _refuse_measure(measure: str | None) -> None:
    if measure is not None:
        raise AlgorithmError("The emulator does not have measureKey.")
