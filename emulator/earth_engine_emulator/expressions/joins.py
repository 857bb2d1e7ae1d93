"""Joins: elements of one collection matched with elements of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from earth_engine_emulator.expressions.elements import Element, Feature
from earth_engine_emulator.expressions.filters import Filter


@dataclass(frozen=True, slots=True)
class Join:
    """The service's Join.

    Args:
        kind: simple, inverted, saveFirst, saveAll or inner.
        key: property that receives the matches; the primary's key of an inner join.
        secondary_key: the secondary's key of an inner join.
        ordering: property by which matches are sorted.
        ascending: whether least first.
        outer: whether elements without match are kept.
    """

    kind: str
    key: str = ""
    secondary_key: str = ""
    ordering: str | None = None
    ascending: bool = True
    outer: bool = False

    def apply(
        self, primary: Iterable[Element], secondary: Iterable[Element], condition: Filter
    ) -> Iterator[Element]:
        """Match every primary element; yield the elements of the joined collection."""
        others = list(secondary)
        for element in primary:
            matches = [other for other in others if condition.test(element, other)]
            yield from self._joined(element, self._ordered(matches))

    def _ordered(self, matches: list[Element]) -> list[Element]:
        if self.ordering is None:
            return matches
        name = self.ordering
        known = [match for match in matches if match.get(name) is not None]
        return sorted(known, key=lambda match: match.get(name), reverse=not self.ascending)

    def _joined(self, element: Element, matches: list[Element]) -> Iterator[Element]:
        if self.kind == "inner":
            for match in matches:
                pair: dict[str, Any] = {self.key: element, self.secondary_key: match}
                yield Feature(None, pair)
        elif self.kind == "inverted":
            if not matches:
                yield element
        elif self.kind == "simple":
            if matches:
                yield element
        elif matches or self.outer:
            first = matches[0] if matches else None
            yield element.with_property(self.key, matches if self.kind == "saveAll" else first)
