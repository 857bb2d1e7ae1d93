"""What changes from step to step: learning rate and momentum, as functions of the step."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to 0.

    Args:
        step: optimiser steps done so far, from 0.
        peak: the highest.
        warmup_steps: steps until it is reached.
        total_steps: of the run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def ema_momentum(step: int, *, start: float, total_steps: int) -> float:
    """Return the momentum of the exponential moving average: from `start` to 1 by half a cosine.

    Source: MoCo-v3, which adjusts it per step as well.
    """
    share = min(1.0, step / max(1, total_steps))
    return 1.0 - 0.5 * (1 + math.cos(math.pi * share)) * (1.0 - start)
