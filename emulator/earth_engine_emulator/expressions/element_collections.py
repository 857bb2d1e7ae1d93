"""Collections: images of the world, or anything computed from them, taken one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

from earth_engine_emulator.expressions.elements import Element, Properties
from earth_engine_emulator.expressions.errors import ServiceError
from earth_engine_emulator.expressions.filters import Filter, Search, searches_of
from earth_engine_emulator.expressions.geometries import Geometry, of_shape, union_shape
from earth_engine_emulator.expressions.images import Image
from earth_engine_emulator.worlds import TooManyImagesError, World

Kind = Literal["ImageCollection", "FeatureCollection"]


class Elements:
    """Elements made when they are first wanted, then kept."""

    def __init__(self, source: Iterable[Element]) -> None:
        self._source = iter(source)
        self._made: list[Element] = []

    def __iter__(self) -> Iterator[Element]:
        position = 0
        while True:
            if position == len(self._made):
                made = next(self._source, None)
                if made is None:
                    return
                self._made.append(made)
            yield self._made[position]
            position += 1


class Collection(Element):
    """The service's ImageCollection and FeatureCollection.

    Args:
        kind: which of them.
        elements: makes the elements; called when they are first wanted.
        properties: of the collection.
        asset_id: where it is stored.
    """

    __slots__ = ("_elements", "_make", "asset_id", "kind")

    def __init__(
        self,
        kind: Kind,
        elements: Callable[[], Iterable[Element]],
        properties: Properties,
        asset_id: str | None = None,
    ) -> None:
        super().__init__(properties)
        self.kind = kind
        self.asset_id = asset_id
        self._make = elements
        self._elements: Elements | None = None

    def __iter__(self) -> Iterator[Element]:
        if self._elements is None:
            self._elements = Elements(self._make())
        return iter(self._elements)

    def derived(self, elements: Callable[[], Iterable[Element]]) -> Collection:
        """Return a collection of other elements with these properties."""
        return Collection(self.kind, elements, self.properties, self.asset_id)

    def with_properties(self, properties: Properties) -> Collection:
        """Return a copy with other properties."""
        return Collection(self.kind, lambda: self, properties, self.asset_id)

    def filtered(self, wanted: Filter) -> Collection:
        """Return the elements that pass a filter."""
        return self.derived(lambda: (element for element in self if wanted.test(element)))

    def get(self, name: str) -> Any:
        """Return a property."""
        return self.asset_id if name == "system:id" else super().get(name)

    @property
    def geometry(self) -> Geometry | None:
        """The geometries of all elements together."""
        parts = [element.geometry for element in self]
        return of_shape(union_shape([part for part in parts if part is not None]))


class StoredCollection(Collection):
    """A collection of the world; filters narrow the search before an image is looked at."""

    __slots__ = ("_filters", "_world")

    def __init__(
        self, world: World, asset_id: str, properties: Properties, filters: Sequence[Filter] = ()
    ) -> None:
        super().__init__("ImageCollection", self._search, properties, asset_id)
        self._world = world
        self._filters = tuple(filters)

    def filtered(self, wanted: Filter) -> Collection:
        """Return the collection with one more filter."""
        assert self.asset_id is not None
        return StoredCollection(
            self._world, self.asset_id, self.properties, (*self._filters, wanted)
        )

    def with_properties(self, properties: Properties) -> Collection:
        """Return a copy with other properties."""
        assert self.asset_id is not None
        return StoredCollection(self._world, self.asset_id, properties, self._filters)

    def _search(self) -> Iterator[Element]:
        assert self.asset_id is not None
        searches = searches_of(self._filters)
        found = {record.asset_id: record for search in searches for record in self._records(search)}
        ordered = sorted(found.values(), key=lambda record: (record.time_start_ms, record.index))
        for record in ordered:
            image = Image.of_record(record)
            if all(wanted.test(image) for wanted in self._filters):
                yield image

    def _records(self, search: Search) -> Iterable[Any]:
        if search.indices is not None:
            ids = [f"{self.asset_id}/{index}" for index in sorted(search.indices)]
            found = (self._world.find_image(asset_id) for asset_id in ids)
            return [record for record in found if record is not None]
        try:
            return self._world.find_images(
                str(self.asset_id), search.bounds, search.start_ms, search.end_ms
            )
        except TooManyImagesError as error:
            raise ServiceError(str(error)) from error


def of_elements(kind: Kind, elements: Sequence[Element]) -> Collection:
    """Return a collection of given elements; without an index they get their position."""
    indexed = [
        element
        if element.get("system:index") is not None
        else element.with_property("system:index", str(position))
        for position, element in enumerate(elements)
    ]
    return Collection(kind, lambda: indexed, {})


def take(elements: Iterable[Element], limit: int, most: int) -> list[Element]:
    """Return up to `limit` elements.

    Raises:
        ServiceError: there are more than `most` of them.
    """
    made = list(islice(elements, min(limit, most + 1)))
    if len(made) > most:
        raise ServiceError(f"Collection query aborted after accumulating over {most} elements.")
    return made
