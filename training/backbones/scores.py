"""What a backbone scored, as its card keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Scores on the test split.

    Args:
        method: how.
        micro: mAP over all (patch, class) pairs, with the ends of its 95 % interval.
        macro: mean over classes, likewise.
        per_class: class -> average precision; None where it does not occur.
        num_train: patches the head was fitted on.
        num_test: patches it was scored on.
        detail: what was chosen on the validation split.
        accuracy: share of images whose highest score is their class; None where they have several.
        notes: what a reader of the scores has to know.
    """

    method: str
    micro: tuple[float, float, float]
    macro: tuple[float, float, float]
    per_class: dict[str, float | None]
    num_train: int
    num_test: int
    detail: dict[str, Any]
    accuracy: float | None = None
    notes: tuple[str, ...] = ()
