"""What became of every product of every slot, counted, with what the codes mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.small_arrays import SmallArrays, code_name
from storage_schema.land_cover import LabelStatus
from storage_schema.status import Coded, PatchStatus, StatusReason


@dataclass(frozen=True, slots=True)
class StatusCount:
    """Product patches that share a status and a reason."""

    product: str
    status: str
    reason: str
    count: int

    @property
    def meaning(self) -> str:
        """What the reason says, or the status where there is none."""
        code: Coded | None
        if self.reason == "none":
            code = PatchStatus.__members__.get(self.status.upper())
        else:
            code = StatusReason.__members__.get(self.reason.upper())
        return "" if code is None else code.meaning  # A code of a later release has none here.


def status_counts(arrays: SmallArrays, products: tuple[str, ...]) -> tuple[StatusCount, ...]:
    """Count product patches by status and reason, in the order of products and codes."""
    counts = []
    for index, product in enumerate(products):
        # Both are uint8: one number carries the two.
        pair = arrays.patch_status[..., index].astype(np.int64) << 8
        number_of = np.bincount((pair | arrays.status_reason[..., index]).ravel())
        counts += [
            StatusCount(
                product,
                code_name(PatchStatus, code >> 8),
                code_name(StatusReason, code & 0xFF),
                int(number_of[code]),
            )
            for code in np.flatnonzero(number_of).tolist()
        ]
    return tuple(counts)


def status_table(statuses: Sequence[StatusCount]) -> dict[str, list[int]]:
    """Return product -> count of every status, in the order of the codes."""
    table = {count.product: [0] * len(PatchStatus) for count in statuses}
    names = [status.name.lower() for status in PatchStatus]
    for count in statuses:
        # A code of a later release has no column; the table of reasons shows it.
        if count.status in names:
            table[count.product][names.index(count.status)] += count.count
    return table


def seal_mismatch(
    sealed_counts: Mapping[str, Mapping[str, int]] | None, statuses: Sequence[StatusCount]
) -> list[str]:
    """Return what sealing counted differently: a sealed cube must not have changed since."""
    if sealed_counts is None:
        return []
    now = Counter[tuple[str, str]]()
    for count in statuses:
        now[count.product, count.status] += count.count
    sealed = Counter(
        {
            (product, status): int(number)
            for product, numbers in sealed_counts.items()
            for status, number in numbers.items()
        }
    )
    return [
        f"{product}, {status}: {sealed[product, status]:,} when sealed, "
        f"{now[product, status]:,} now"
        for product, status in sorted(sealed.keys() | now.keys())
        if sealed[product, status] != now[product, status]
    ]


def label_status_counts(arrays: SmallArrays) -> dict[LabelStatus, int]:
    """Return label status -> location-seasons, among those that have a patch."""
    statuses = arrays.label_status[arrays.has_patch]
    counts = {status: int(np.count_nonzero(statuses == status)) for status in LabelStatus}
    return {status: count for status, count in counts.items() if count}
