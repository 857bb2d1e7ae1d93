"""Season slots of an import: time order, and which acquisitions of the products belong together.

Pure functions. A slot is a place in time order, not a date window: a published data set says when
an image was taken, not which window it was chosen for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.patches import Acquisition
from storage_schema.products import ProductName, in_order

NUM_SLOTS: Final = 4

Dated = tuple[int, Acquisition]
"""Time (ms since 1970-01-01 UTC) and acquisition: only dated ones can be put in order."""


@dataclass(frozen=True, slots=True)
class SeasonArrangement:
    """What goes into which slot.

    Args:
        slots: per slot, in time order, product -> acquisition; at most four.
        left_out: acquisitions beyond the slots, in time order per product.
    """

    slots: tuple[Mapping[ProductName, Acquisition], ...]
    left_out: tuple[tuple[ProductName, Acquisition], ...] = ()


def arrange_seasons(
    acquisitions: Mapping[ProductName, Sequence[Acquisition]],
) -> SeasonArrangement:
    """Order one location's acquisitions in time and match them across products.

    The slots are the first four acquisitions of the product that has the most (four count as the
    most there can be; ties go by the order of the products). Every other product is matched to
    them by `match_in_order`.

    Args:
        acquisitions: product -> its acquisitions, in any order, each with a time.

    Raises:
        ValueError: an acquisition has no time.
    """
    ordered = {name: _in_time_order(found) for name, found in acquisitions.items() if found}
    if not ordered:
        return SeasonArrangement(())
    # `max` keeps the first of equals.
    slot_product = max(in_order(ordered), key=lambda name: min(len(ordered[name]), NUM_SLOTS))
    slot_dates = ordered[slot_product][:NUM_SLOTS]
    slots: list[dict[ProductName, Acquisition]] = [{} for _ in slot_dates]
    left_out: list[tuple[ProductName, Acquisition]] = []
    for name, dated in ordered.items():
        matches: Sequence[int | None] = (
            range(len(slot_dates)) if name == slot_product else match_in_order(slot_dates, dated)
        )
        for slot, index in zip(slots, matches, strict=True):
            if index is not None:
                slot[name] = dated[index][1]
        taken = set(matches)
        left_out.extend((name, a) for i, (_, a) in enumerate(dated) if i not in taken)
    return SeasonArrangement(tuple(slots), tuple(left_out))


def match_in_order(slots: Sequence[Dated], others: Sequence[Dated]) -> list[int | None]:
    """Match acquisitions to slots without crossing, as many as there can be.

    Among all order-preserving matchings that leave nothing of the shorter side over, take the one
    with the most equal ids, then the least sum of time differences, then the earliest slots.

    Args:
        slots: acquisitions that make the slots, in time order.
        others: another product's acquisitions, in time order.

    Returns:
        For each slot the index into `others`, or None.
    """
    transposed = len(slots) > len(others)
    short, long = (others, slots) if transposed else (slots, others)
    # best[j] = (cost, indices into `long`) for the short items so far, using only long[:j].
    best: list[tuple[tuple[int, int], tuple[int, ...]] | None] = [((0, 0), ())] * (len(long) + 1)
    for short_time, short_acquisition in short:
        row: list[tuple[tuple[int, int], tuple[int, ...]] | None] = [None]
        for j, (long_time, long_acquisition) in enumerate(long):
            choices = [row[j]]
            before = best[j]
            if before is not None:
                (differing, gap_ms), indices = before
                differing += short_acquisition.id != long_acquisition.id
                choices.append(((differing, gap_ms + abs(short_time - long_time)), (*indices, j)))
            row.append(min((c for c in choices if c is not None), default=None))
        best = row
    found = best[-1]
    assert found is not None  # the longer side has room for the shorter one
    if not transposed:
        return list(found[1])
    by_slot: list[int | None] = [None] * len(slots)
    for index, slot in enumerate(found[1]):
        by_slot[slot] = index
    return by_slot


def _in_time_order(acquisitions: Sequence[Acquisition]) -> list[Dated]:
    dated: list[Dated] = []
    for acquisition in acquisitions:
        if acquisition.time_ms is None:
            raise ValueError(f"{acquisition.id} has no time, so it has no place in time order")
        dated.append((acquisition.time_ms, acquisition))
    return sorted(dated, key=lambda item: (item[0], item[1].id))
