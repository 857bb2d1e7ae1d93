"""How a flow ends: done, stopped at a limit, or with the sentence that a user can act on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from time import sleep
from typing import Any, Final, ParamSpec, get_type_hints

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.flows import Flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from groundwork.errors import LimitReachedError, SoftconError, TransientError

P = ParamSpec("P")

PARTIAL: Final = "Partial"
"""Name of the completed state of a run that stopped at a budget, a deadline or a full disk."""
PAUSES_S: Final = (5.0, 15.0, 60.0, 180.0, 600.0)
"""Between tries of a run that a service did not answer."""
MOST_STARTS: Final = 50
"""A run that crashed so often is not started again: something kills it each time."""


def partial(sentence: str) -> State[Any]:
    """Return the state of a run that left work for the next one."""
    return Completed(name=PARTIAL, message=sentence)


def is_partial(state: State[Any]) -> bool:
    """Tell whether a run left work for the next one."""
    return state.name == PARTIAL


def resumable_flow(
    name: str, *, pauses_s: Sequence[float] = PAUSES_S
) -> Callable[[Callable[P, State[Any] | None]], Flow[P, State[Any] | None]]:
    """Make a flow of a function that goes on where it stopped when it is called again.

    Transient errors are waited out, and the function is called again. Everything else that is
    foreseen ends the run at once: a limit as `Partial`, the rest as failed with its sentence.
    """

    def decorate(work: Callable[P, State[Any] | None]) -> Flow[P, State[Any] | None]:
        @functools.wraps(work)
        def run(*args: P.args, **kwargs: P.kwargs) -> State[Any] | None:
            if flow_run.run_count > MOST_STARTS:
                return Failed(message=f"{name} ended {MOST_STARTS} times without a result")
            for pause_s in (*pauses_s, None):
                try:
                    return work(*args, **kwargs)
                except LimitReachedError as error:
                    return partial(str(error))
                except TransientError as error:
                    if pause_s is None:
                        return Failed(message=str(error))
                    get_run_logger().warning("%s; trying again in %g s", error, pause_s)
                    sleep(pause_s)
                except SoftconError as error:
                    return Failed(message=str(error))
            raise AssertionError("unreachable")

        # Prefect makes the form and the checks from the types themselves, not from their names.
        run.__annotations__ = get_type_hints(work, include_extras=True)
        run.__signature__ = inspect.signature(work, eval_str=True)  # type: ignore[attr-defined]
        return flow(name=name)(run)

    return decorate
