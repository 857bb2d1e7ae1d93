"""Features, and what images, features and collections share: an id and properties."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from earth_engine_emulator.expressions.geometries import Geometry

Properties = Mapping[str, Any]


class Element(ABC):
    """Something with properties.

    Args:
        properties: name -> value.
    """

    __slots__ = ("properties",)

    def __init__(self, properties: Properties) -> None:
        self.properties = properties

    def get(self, name: str) -> Any:
        """Return a property; None where there is none."""
        return self.properties.get(name)

    def property_names(self) -> list[str]:
        """Return the names of all properties."""
        return list(self.properties)

    @abstractmethod
    def with_properties(self, properties: Properties) -> Element:
        """Return a copy with other properties."""

    def with_property(self, name: str, value: Any) -> Element:
        """Return a copy with one more property; null removes it."""
        changed = dict(self.properties)
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
        return self.with_properties(changed)

    @property
    def geometry(self) -> Geometry | None:
        """Its geometry, None where it has none."""
        return None


class Feature(Element):
    """A geometry with properties."""

    __slots__ = ("_geometry",)

    def __init__(self, geometry: Geometry | None, properties: Properties) -> None:
        super().__init__(properties)
        self._geometry = geometry

    @property
    def geometry(self) -> Geometry | None:
        """Its geometry, None where it has none."""
        return self._geometry

    def with_properties(self, properties: Properties) -> Feature:
        """Return a copy with other properties."""
        return Feature(self._geometry, properties)


def plain_properties(element: Element) -> dict[str, Any]:
    """Return the properties that are not the system's."""
    return {
        name: value for name, value in element.properties.items() if not name.startswith("system:")
    }
