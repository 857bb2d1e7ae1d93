"""Reducers: statistics over the rows of a table or the pixels of a region.

A row with a null among its inputs is dropped, as in the service: `Reducer.toList(3)` over three
properties loses every element that lacks one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.expressions.errors import AlgorithmError

Column = Any
"""A sequence of values, or a NumPy array of numbers without nulls."""
Weights = npt.NDArray[np.float64] | None
Compute = Callable[[Sequence[Column], Weights], list[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Reducer:
    """The service's Reducer.

    Args:
        num_inputs: columns it takes.
        outputs: names of its results.
        compute: columns without nulls, and weights or None -> results.
        weighted: whether a pixel counts by how much of it lies in the region; otherwise a pixel
            counts whole where its centre lies inside.
        num_optional: how many of the last inputs may be null.
        keeps_nulls: whether rows with nulls are passed on.
        stacked: names in `STACKED`, one for each output; empty where it has no such form.
    """

    num_inputs: int
    outputs: tuple[str, ...]
    compute: Compute
    weighted: bool = False
    num_optional: int = 0
    keeps_nulls: bool = False
    stacked: tuple[str, ...] = ()

    def run(self, columns: Sequence[Column], weights: Weights = None) -> dict[str, Any]:
        """Reduce columns of equal length; return output name -> result."""
        if len(columns) != self.num_inputs:
            raise AlgorithmError(
                f"Need {self.num_inputs} inputs for the reducer, got {len(columns)}."
            )
        return dict(zip(self.outputs, self.results(columns, weights), strict=True))

    def results(self, columns: Sequence[Column], weights: Weights) -> list[Any]:
        """Return the results in the order of `outputs`."""
        if not self.keeps_nulls and not isinstance(columns[0], np.ndarray):
            columns, weights = self._without_nulls(columns, weights)
        return self.compute(columns, weights)

    def _without_nulls(
        self, columns: Sequence[Column], weights: Weights
    ) -> tuple[Sequence[Column], Weights]:
        required = columns[: len(columns) - self.num_optional]
        rows = range(len(columns[0]))
        kept = [i for i in rows if all(column[i] is not None for column in required)]
        if len(kept) == len(rows):
            return columns, weights
        return (
            [[column[i] for i in kept] for column in columns],
            None if weights is None else weights[kept],
        )


def _numbers(column: Column) -> npt.NDArray[np.float64]:
    if isinstance(column, np.ndarray):
        return np.asarray(column, np.float64)
    wrong = [v for v in column if isinstance(v, bool) or not isinstance(v, (int, float))]
    if wrong:
        raise AlgorithmError(f"Cannot reduce '{wrong[0]}': a number is needed.")
    return np.asarray(column, np.float64)


def _number(value: Any) -> Any:
    as_float = float(value)
    return int(as_float) if as_float.is_integer() and abs(as_float) < 2**53 else as_float


def _single(
    output: str,
    function: Callable[[npt.NDArray[np.float64], Weights], Any],
    weighted: bool = False,
    empty: Any = None,
) -> Reducer:
    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        values = _numbers(columns[0])
        return [function(values, weights) if len(values) else empty]

    return Reducer(1, (output,), compute, weighted)


def _mean(values: npt.NDArray[np.float64], weights: Weights) -> Any:
    return float(np.average(values, weights=weights))


def _sum(values: npt.NDArray[np.float64], weights: Weights) -> Any:
    return _number(values.sum() if weights is None else (values * weights).sum())


def _variance(values: npt.NDArray[np.float64], weights: Weights) -> Any:
    centre = np.average(values, weights=weights)
    return float(np.average((values - centre) ** 2, weights=weights))


def _sample_variance(values: npt.NDArray[np.float64], _weights: Weights) -> Any:
    return float(values.var(ddof=1)) if len(values) > 1 else None


def _sample_deviation(values: npt.NDArray[np.float64], _weights: Weights) -> Any:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _mode(values: npt.NDArray[np.float64], _weights: Weights) -> Any:
    found, counts = np.unique(values, return_counts=True)
    return _number(found[counts.argmax()])


_UNNAMED: Mapping[str, Reducer] = {
    "mean": _single("mean", _mean, weighted=True),
    "sum": _single("sum", _sum, weighted=True, empty=0),
    "variance": _single("variance", _variance, weighted=True),
    "stdDev": _single("stdDev", lambda v, w: float(np.sqrt(_variance(v, w))), weighted=True),
    "sampleVariance": _single("variance", _sample_variance),
    "sampleStdDev": _single("stdDev", _sample_deviation),
    "product": _single("product", lambda v, _: _number(v.prod()), empty=1),
    "median": _single("median", lambda v, _: _number(np.median(v))),
    "mode": _single("mode", _mode),
    "anyNonZero": _single("any", lambda v, _: int((v != 0).any()), empty=0),
    "allNonZero": _single("all", lambda v, _: int((v != 0).all()), empty=1),
}

SIMPLE: Mapping[str, Reducer] = {
    name: replace(reducer, stacked=(name,)) for name, reducer in _UNNAMED.items()
}


def _value(value: Any) -> Any:
    return _number(value) if isinstance(value, np.generic) else value


def count() -> Reducer:
    """Count the rows without null."""
    return Reducer(1, ("count",), lambda columns, _: [len(columns[0])], stacked=("count",))


def count_every() -> Reducer:
    """Count the rows."""
    return replace(count(), keeps_nulls=True)


def count_distinct(keeps_nulls: bool) -> Reducer:
    """Count distinct values."""
    return Reducer(
        1,
        ("count",),
        lambda columns, _: [len({_value(v) for v in columns[0]})],
        keeps_nulls=keeps_nulls,
    )


def pick(output: str, index: int, keeps_nulls: bool) -> Reducer:
    """Take the first or the last row."""
    return Reducer(
        1,
        (output,),
        lambda columns, _: [_value(columns[0][index]) if len(columns[0]) else None],
        keeps_nulls=keeps_nulls,
        stacked=(output,),
    )


def extreme(name: str, num_inputs: int) -> Reducer:
    """Take the least or greatest value of the first input, and what the others are there."""
    outputs = (name,) if num_inputs == 1 else (name, *(f"{name}{i}" for i in range(1, num_inputs)))

    def compute(columns: Sequence[Column], _weights: Weights) -> list[Any]:
        if not len(columns[0]):
            return [None] * num_inputs
        if isinstance(columns[0], np.ndarray):
            at = int(columns[0].argmin() if name == "min" else columns[0].argmax())
        else:
            chosen = (min if name == "min" else max)(
                range(len(columns[0])), key=columns[0].__getitem__
            )
            at = int(chosen)
        return [_value(column[at]) for column in columns]

    return Reducer(num_inputs, outputs, compute, stacked=(name,) if num_inputs == 1 else ())


def min_max() -> Reducer:
    """Take the least and the greatest value."""
    least, greatest = extreme("min", 1), extreme("max", 1)
    return combine(least, greatest, "", shared=True)


def to_list(tuple_size: int | None, num_optional: int) -> Reducer:
    """Collect values, or tuples of `tuple_size` inputs."""
    size = 1 if tuple_size is None else tuple_size

    def compute(columns: Sequence[Column], _weights: Weights) -> list[Any]:
        if tuple_size is None:
            return [[_value(v) for v in columns[0]]]
        return [[[_value(v) for v in row] for row in zip(*columns, strict=True)]]

    return Reducer(size, ("list",), compute, num_optional=num_optional)


def frequency_histogram() -> Reducer:
    """Count each value, by weight; keys are the values as text."""

    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        if isinstance(columns[0], np.ndarray):
            found, where = np.unique(columns[0], return_inverse=True)
            counts = np.bincount(where.ravel(), weights=weights, minlength=len(found))
            return [{text_of(v): _number(n) for v, n in zip(found, counts, strict=True)}]
        counted: dict[str, float] = {}
        for value in columns[0]:
            counted[text_of(value)] = counted.get(text_of(value), 0) + 1
        return [dict(sorted(counted.items()))]

    return Reducer(1, ("histogram",), compute, weighted=True)


def text_of(value: Any) -> str:
    """Return a value as the service writes it as a key: whole numbers without a point."""
    if isinstance(value, (np.generic, float, int)) and not isinstance(value, bool):
        return str(_number(value))
    return str(value)


def percentile(percentiles: Sequence[float], names: Sequence[str] | None) -> Reducer:
    """Take percentiles, interpolated between values."""
    outputs = tuple(names) if names else tuple(f"p{text_of(p)}" for p in percentiles)
    if len(outputs) != len(percentiles):
        raise AlgorithmError("Reducer.percentile: 'outputNames' must match 'percentiles'.")

    def compute(columns: Sequence[Column], _weights: Weights) -> list[Any]:
        values = _numbers(columns[0])
        if not len(values):
            return [None] * len(percentiles)
        return [_number(np.percentile(values, p)) for p in percentiles]

    return Reducer(1, outputs, compute)


def fixed_histogram(low: float, high: float, steps: int) -> Reducer:
    """Count values in bins of one width; each row of the result is lower edge, count."""

    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        values = _numbers(columns[0])
        kept = (values >= low) & (values < high)
        edges = np.linspace(low, high, steps + 1)
        counts, _ = np.histogram(
            values[kept], bins=edges, weights=None if weights is None else weights[kept]
        )
        return [[[_number(e), _number(n)] for e, n in zip(edges[:-1], counts, strict=True)]]

    return Reducer(1, ("histogram",), compute, weighted=True)


def repeat(reducer: Reducer, times: int) -> Reducer:
    """Run copies side by side; each output is the list of the copies' results."""
    size = reducer.num_inputs

    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        made = [reducer.results(columns[i * size : (i + 1) * size], weights) for i in range(times)]
        return [[results[i] for results in made] for i in range(len(reducer.outputs))]

    return Reducer(size * times, reducer.outputs, compute, reducer.weighted, keeps_nulls=True)


def combine(one: Reducer, two: Reducer, prefix: str, shared: bool) -> Reducer:
    """Run two reducers, on the same inputs or on their own."""
    if shared and one.num_inputs != two.num_inputs:
        raise AlgorithmError(
            "Reducer.combine: reducers that share inputs must have the same number of inputs."
        )

    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        others = columns if shared else columns[one.num_inputs :]
        return one.results(columns[: one.num_inputs], weights) + two.results(others, weights)

    outputs = one.outputs + tuple(prefix + name for name in two.outputs)
    if len(set(outputs)) != len(outputs):
        raise AlgorithmError(f"Reducer.combine: duplicate output names in {list(outputs)}.")
    inputs = one.num_inputs if shared else one.num_inputs + two.num_inputs
    stacked = one.stacked + two.stacked if shared and one.stacked and two.stacked else ()
    weighted = one.weighted or two.weighted
    return Reducer(inputs, outputs, compute, weighted, keeps_nulls=True, stacked=stacked)


def for_each(reducer: Reducer, names: Sequence[str]) -> Reducer:
    """Run a copy for each name; outputs carry the names."""
    size = reducer.num_inputs
    single = len(reducer.outputs) == 1

    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        parts = (columns[i * size : (i + 1) * size] for i in range(len(names)))
        return [result for part in parts for result in reducer.results(part, weights)]

    outputs = tuple(
        name if single else f"{name}_{output}" for name in names for output in reducer.outputs
    )
    return Reducer(size * len(names), outputs, compute, reducer.weighted, keeps_nulls=True)


def set_outputs(reducer: Reducer, names: Sequence[str]) -> Reducer:
    """Rename the outputs; fewer names drop the last ones."""
    if len(names) > len(reducer.outputs):
        raise AlgorithmError(
            f"Reducer.setOutputs: {len(names)} names for {len(reducer.outputs)} outputs."
        )

    def compute(columns: Sequence[Column], weights: Weights) -> list[Any]:
        return reducer.results(columns, weights)[: len(names)]

    return replace(
        reducer,
        outputs=tuple(names),
        compute=compute,
        keeps_nulls=True,
        stacked=reducer.stacked[: len(names)],
    )


def unweighted(reducer: Reducer) -> Reducer:
    """Count every pixel whole."""
    return replace(reducer, weighted=False)


# Statistics along axis 0 of a stack of rasters, with validity of the same shape.
Stack = npt.NDArray[np.float64]
ValidStack = npt.NDArray[np.bool_]
StackStatistic = Callable[[Stack, ValidStack], tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]


def _over(function: Callable[[Stack], npt.NDArray[Any]]) -> StackStatistic:
    def statistic(
        values: Stack, valid: ValidStack
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        any_valid: npt.NDArray[np.bool_] = np.asarray(valid.any(axis=0))
        masked = np.where(valid, values, np.nan)
        masked[:, ~any_valid] = 0.0
        return function(masked), any_valid

    return statistic


def _stack_count(
    values: Stack, valid: ValidStack
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    return valid.sum(axis=0), np.ones(values.shape[1:], np.bool_)


def _picked(last: bool) -> StackStatistic:
    def statistic(
        values: Stack, valid: ValidStack
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        order = slice(None, None, -1) if last else slice(None)
        at = valid[order].argmax(axis=0)
        picked = np.take_along_axis(values[order], at[None], axis=0)[0]
        return picked, np.asarray(valid.any(axis=0))

    return statistic


STACKED: Mapping[str, StackStatistic] = {
    "mean": _over(lambda v: np.nanmean(v, axis=0)),
    "sum": _over(lambda v: np.nansum(v, axis=0)),
    "product": _over(lambda v: np.nanprod(v, axis=0)),
    "min": _over(lambda v: np.nanmin(v, axis=0)),
    "max": _over(lambda v: np.nanmax(v, axis=0)),
    "median": _over(lambda v: np.nanmedian(v, axis=0)),
    "stdDev": _over(lambda v: np.nanstd(v, axis=0)),
    "variance": _over(lambda v: np.nanvar(v, axis=0)),
    "first": _picked(last=False),
    "last": _picked(last=True),
    "count": _stack_count,
}
