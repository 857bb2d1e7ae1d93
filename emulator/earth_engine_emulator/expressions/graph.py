"""Expression graphs: decoded once into functions, evaluated once for each environment.

A part of a graph that uses no argument of a user's function has one value and is evaluated once,
however often a function is mapped; so is a shared part within one call of a function.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any

from earth_engine_emulator.expressions.algorithms import (
    IMPLEMENTED,
    Argument,
    Implementation,
    Signature,
    signatures,
)
from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.promotion import Promote, WrongTypeError, promote, promoter

Run = Callable[["Environment"], Any]
Node = Mapping[str, Any]
_MISSING = object()


class Environment:
    """Values of a user function's arguments, and of shared parts of its body."""

    __slots__ = ("arguments", "shared")

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.shared: dict[str, Any] = {}


class UserFunction:
    """A function that the expression defines."""

    __slots__ = ("_body", "_names", "_outer")

    def __init__(self, names: tuple[str, ...], body: Run, outer: Environment) -> None:
        self._names = names
        self._body = body
        self._outer = outer

    def __call__(self, *arguments: Any) -> Any:
        """Evaluate the body; surplus arguments are ignored."""
        bound = dict(self._outer.arguments)
        bound.update(zip(self._names, arguments, strict=False))
        return self._body(Environment(bound))

    def call_named(self, arguments: Mapping[str, Any]) -> Any:
        """Evaluate the body with arguments by name."""
        return self._body(Environment({**self._outer.arguments, **arguments}))


class Compiled:
    """A part of a graph: how to evaluate it, and which arguments it uses."""

    __slots__ = ("free", "run")

    def __init__(self, run: Run, free: frozenset[str]) -> None:
        self.run = run
        self.free = free


def _invalid(message: str) -> ServiceError:
    return ServiceError(f"Invalid argument specified for expression: {message}")


def _constant(value: Any) -> Compiled:
    return Compiled(lambda _: value, frozenset())


class Graph:
    """One request's expression.

    Args:
        expression: ``{"values": {name: node}, "result": name}``.
        session: passed to the algorithms that need it.

    Raises:
        ServiceError: the expression is malformed.
    """

    def __init__(self, expression: Any, session: Any) -> None:
        if not isinstance(expression, dict) or "result" not in expression:
            raise _invalid("'result' is missing.")
        self._values: Node = expression.get("values", {})
        self._result: Any = expression["result"]
        self._session = session
        self._named: dict[str, Compiled] = {}
        self._open: set[str] = set()
        self._signatures = signatures()

    def evaluate(self) -> Any:
        """Return the value of the expression.

        Raises:
            ServiceError: the service would refuse it.
        """
        try:
            return self._reference(str(self._result)).run(Environment({}))
        except AlgorithmError as error:
            raise ServiceError(str(error)) from error
        except RecursionError:
            raise ServiceError("Expression is too deeply nested.") from None

    def _reference(self, name: str) -> Compiled:
        found = self._named.get(name)
        if found is None:
            if name not in self._values:
                raise _invalid(f"Reference to unknown value '{name}'.")
            if name in self._open:
                raise _invalid(f"Value '{name}' refers to itself.")
            self._open.add(name)
            found = self._named[name] = _shared(name, self._compile(self._values[name]))
            self._open.discard(name)
        return found

    def _compile(self, node: Any) -> Compiled:
        if not isinstance(node, dict) or len(node) != 1:
            raise _invalid(f"Malformed value node: {str(node)[:200]}.")
        ((kind, content),) = node.items()
        compiler = _COMPILERS.get(kind)
        if compiler is None:
            raise _invalid(f"Unknown kind of value node: '{kind}'.")
        return compiler(self, content)

    def _constant_value(self, content: Any) -> Compiled:
        return _constant(content)

    def _integer_value(self, content: Any) -> Compiled:
        try:
            return _constant(int(content))
        except (TypeError, ValueError):
            raise _invalid(f"Malformed integer '{content}'.") from None

    def _bytes_value(self, content: Any) -> Compiled:
        try:
            return _constant(base64.b64decode(str(content), validate=True))
        except binascii.Error:
            raise _invalid("Malformed bytes.") from None

    def _value_reference(self, content: Any) -> Compiled:
        return self._reference(str(content))

    def _argument_reference(self, content: Any) -> Compiled:
        name = str(content)

        def run(environment: Environment) -> Any:
            found = environment.arguments.get(name, _MISSING)
            if found is _MISSING:
                raise _invalid(f"Undefined argument '{name}'.")
            return found

        return Compiled(run, frozenset([name]))

    def _array_value(self, content: Any) -> Compiled:
        parts = [self._compile(node) for node in content.get("values", [])]
        runs = [part.run for part in parts]
        return Compiled(lambda e: [run(e) for run in runs], _free(parts))

    def _dictionary_value(self, content: Any) -> Compiled:
        parts = {key: self._compile(node) for key, node in content.get("values", {}).items()}
        runs = [(key, part.run) for key, part in parts.items()]
        return Compiled(lambda e: {key: run(e) for key, run in runs}, _free(list(parts.values())))

    def _function_definition(self, content: Any) -> Compiled:
        names = tuple(str(name) for name in content.get("argumentNames", []))
        body = self._reference(str(content["body"]))
        run = body.run
        return Compiled(lambda e: UserFunction(names, run, e), body.free - frozenset(names))

    def _function_invocation(self, content: Any) -> Compiled:
        arguments = {
            name: self._compile(node) for name, node in content.get("arguments", {}).items()
        }
        if "functionReference" in content:
            return self._call_of_value(
                self._reference(str(content["functionReference"])), arguments
            )
        name = str(content.get("functionName", ""))
        signature = self._signatures.get(name)
        if signature is None:
            raise _invalid(f"Unknown function '{name}'.")
        implementation = IMPLEMENTED.get(name)
        if implementation is None:
            raise ServiceError(
                f"{name}: the service has this algorithm, this emulator does not. "
                f"It has {len(IMPLEMENTED)} of {len(self._signatures)}."
            )
        return self._call(signature, implementation, arguments)

    def _call_of_value(self, function: Compiled, arguments: Mapping[str, Compiled]) -> Compiled:
        runs = [(name, part.run) for name, part in arguments.items()]

        def run(environment: Environment) -> Any:
            called = function.run(environment)
            values = {name: part(environment) for name, part in runs}
            if not hasattr(called, "call_named"):
                raise _invalid("The value called is not a function.")
            return called.call_named(values)

        return Compiled(run, _free([function, *arguments.values()]))

    def _call(
        self, signature: Signature, implementation: Implementation, given: Mapping[str, Compiled]
    ) -> Compiled:
        known = {argument.name for argument in signature.arguments}
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ServiceError(
                f"{signature.name}: Unrecognized arguments {unknown}. "
                f"Known: {[argument.name for argument in signature.arguments]}."
            )
        free = _free(list(given.values()))
        readers = [_reader(signature.name, a, given.get(a.name)) for a in signature.arguments]
        run = _runner(signature.name, implementation, readers, self._session)
        return Compiled(run, free) if free else Compiled(_once(run), free)


_COMPILERS: Mapping[str, Callable[[Graph, Any], Compiled]] = {
    "constantValue": Graph._constant_value,
    "integerValue": Graph._integer_value,
    "bytesValue": Graph._bytes_value,
    "valueReference": Graph._value_reference,
    "argumentReference": Graph._argument_reference,
    "arrayValue": Graph._array_value,
    "dictionaryValue": Graph._dictionary_value,
    "functionDefinitionValue": Graph._function_definition,
    "functionInvocationValue": Graph._function_invocation,
}


def _free(parts: list[Compiled]) -> frozenset[str]:
    return frozenset().union(*(part.free for part in parts))


def _once(run: Run) -> Run:
    """Evaluate a part without arguments at most once."""
    kept: list[Any] = []

    def run_once(_: Environment) -> Any:
        if not kept:
            kept.append(run(Environment({})))
        return kept[0]

    return run_once


def _shared(name: str, compiled: Compiled) -> Compiled:
    """Evaluate a named part at most once in each environment."""
    run = compiled.run
    if not compiled.free:
        return Compiled(_once(run), compiled.free)

    def run_shared(environment: Environment) -> Any:
        found = environment.shared.get(name, _MISSING)
        if found is _MISSING:
            found = environment.shared[name] = run(environment)
        return found

    return Compiled(run_shared, compiled.free)


def _reader(name: str, argument: Argument, given: Compiled | None) -> Run:
    """Return the function that evaluates, checks and promotes one argument."""
    check = promoter(argument.type)
    if given is None:
        if not argument.optional:
            raise _required(name, argument)
        default = argument.default
        if default is not None:
            default = promote(_unfloat(default), argument.type, name, argument.name)
        return lambda _: default
    return _checked(name, argument, given.run, check)


def _checked(name: str, argument: Argument, run: Run, check: Promote) -> Run:
    # A required argument of any type may be null, as in `Filter.eq` or `ee.List([null])`.
    nullable = argument.optional or argument.type == "Object"

    def read(environment: Environment) -> Any:
        value = run(environment)
        if value is None:
            if nullable:
                return None
            raise _required(name, argument)
        try:
            return check(value)
        except WrongTypeError:
            return promote(value, argument.type, name, argument.name)

    return read


def _unfloat(value: Any) -> Any:
    return (
        int(value)
        if isinstance(value, float) and math.isfinite(value) and (value.is_integer())
        else value
    )


def _required(name: str, argument: Argument) -> ServiceError:
    return ServiceError(f"{name}: Parameter '{argument.name}' is required and may not be null.")


def _runner(name: str, implementation: Implementation, readers: list[Run], session: Any) -> Run:
    function = implementation.function
    prefix = [session] if implementation.with_session else []

    def run(environment: Environment) -> Any:
        try:
            if implementation.lazy:
                later = [lambda r=reader: r(environment) for reader in readers]
                return function(*prefix, *later)
            return function(*prefix, *[reader(environment) for reader in readers])
        except AlgorithmError as error:
            text = str(error)
            raise ServiceError(
                text if text.startswith((f"{name}:", f"{name},")) else f"{name}: {text}"
            ) from error

    return run
