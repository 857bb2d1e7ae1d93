"""Arithmetic written as text: `Image.parseExpression`, behind `ee.Image.expression`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from earth_engine_emulator.expressions.algorithms import IMPLEMENTED, algorithm
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.images import Image, constant_image, select_bands

_OPERATORS: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.Lt: "lt",
    ast.LtE: "lte",
    ast.Gt: "gt",
    ast.GtE: "gte",
    ast.Eq: "eq",
    ast.NotEq: "neq",
    ast.And: "and",
    ast.Or: "or",
    ast.BitAnd: "bitwiseAnd",
    ast.BitOr: "bitwiseOr",
    ast.LShift: "leftShift",
    ast.RShift: "rightShift",
}
_CONSTANTS = {"PI": 3.141592653589793, "E": 2.718281828459045}
_CALLED = re.compile(r"(min|max|abs|sqrt|exp|log|log10|floor|ceil|round|sin|cos|tan|pow)$")


class TextFunction:
    """The function of images that an expression's text means."""

    __slots__ = ("_default", "_name", "_names", "_tree")

    def __init__(self, text: str, default: str, names: Sequence[str]) -> None:
        self._default = default
        self._names = tuple(names)
        self._name, self._tree = _parse(text)

    def __call__(self, *images: Image) -> Image:
        """Evaluate with images in the order of the names."""
        return self.call_named(dict(zip(self._names, images, strict=False)))

    def call_named(self, images: Mapping[str, Image]) -> Image:
        """Evaluate with images by name."""
        out = _Evaluation(images, self._default).value(self._tree)
        return select_bands(out, [".*"], [self._name]) if self._name else out


@algorithm("Image.parseExpression")
def _parse_expression(text: str, default: str, names: list[str], map_free: bool) -> TextFunction:
    if map_free:
        raise AlgorithmError("The emulator does not have mapFreeVarsToDefaultImageBands.")
    return TextFunction(text, default, names)


def _parse(text: str) -> tuple[str | None, ast.expr]:
    python = re.sub(r"&&", " and ", re.sub(r"\|\|", " or ", text))
    python = re.sub(r"!(?!=)", " not ", _ternary(python)).replace("^", "**").strip()
    try:
        (statement,) = ast.parse(python).body
    except (SyntaxError, ValueError):
        raise AlgorithmError(f"Unable to parse the expression '{text}'.") from None
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value
    if isinstance(statement, ast.Expr):
        return None, statement.value
    raise AlgorithmError(f"Unable to parse the expression '{text}'.")


def _ternary(text: str) -> str:
    """Write ``a ? b : c`` as Python's ``(b) if (a) else (c)``, from the outermost inwards."""
    question = text.find("?")
    if question < 0:
        return text
    depth = 0
    for position in range(question + 1, len(text)):
        depth += {"?": 1, ":": -1}.get(text[position], 0)
        if depth < 0:
            yes, no = text[question + 1 : position], text[position + 1 :]
            if text.count("(", 0, question) != text.count(")", 0, question):
                raise AlgorithmError("The emulator has '?' at the outermost level only.")
            return f"({_ternary(yes)}) if ({text[:question]}) else ({_ternary(no)})"
    raise AlgorithmError(f"Unable to parse the expression '{text}'.")


def _apply(name: str, *images: Image) -> Image:
    function: Callable[..., Image] = IMPLEMENTED[f"Image.{name}"].function
    return function(*images)


class _Evaluation:
    """Walks the tree of one expression."""

    def __init__(self, images: Mapping[str, Image], default: str) -> None:
        self._images = images
        self._default = default

    def value(self, node: ast.expr) -> Image:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return constant_image(node.value)
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, (ast.BinOp, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp)):
            return self._operation(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node.func.id, node.args)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return select_bands(self._named(node.value.id), [node.attr], None)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return select_bands(self._named(node.value.id), [_literal(node.slice)], None)
        raise AlgorithmError(f"Unable to evaluate '{ast.unparse(node)}'.")

    def _named(self, name: str) -> Image:
        if name in self._images:
            return self._images[name]
        if name in _CONSTANTS:
            return constant_image(_CONSTANTS[name])
        raise AlgorithmError(f"Undefined variable '{name}' in the expression.")

    def _operation(self, node: ast.expr) -> Image:
        if isinstance(node, ast.BinOp):
            return _apply(_operator(node.op), self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            operands = self.value(node.left), self.value(node.comparators[0])
            return _apply(_operator(node.ops[0]), *operands)
        if isinstance(node, ast.BoolOp):
            out = self.value(node.values[0])
            for other in node.values[1:]:
                out = _apply(_operator(node.op), out, self.value(other))
            return out
        if isinstance(node, ast.IfExp):
            test, yes = self.value(node.test), self.value(node.body)
            no = self.value(node.orelse)
            spread = _apply("add", no, _apply("multiply", test, constant_image(0)))
            return _apply("where", spread, test, yes)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        raise AlgorithmError(f"Unable to evaluate '{ast.unparse(node)}'.")

    def _unary(self, node: ast.UnaryOp) -> Image:
        operand = self.value(node.operand)
        if isinstance(node.op, ast.USub):
            return _apply("multiply", operand, constant_image(-1))
        return _apply("not", operand) if isinstance(node.op, ast.Not) else operand

    def _call(self, name: str, arguments: Sequence[ast.expr]) -> Image:
        if name == "b":
            image = self._images[self._default]
            selectors = [_literal(argument) for argument in arguments]
            return select_bands(image, selectors, None) if selectors else image
        if not _CALLED.match(name):
            raise AlgorithmError(f"Unknown function '{name}' in the expression.")
        return _apply(name, *(self.value(argument) for argument in arguments))


def _operator(node: Any) -> str:
    name = _OPERATORS.get(type(node))
    if name is None:
        raise AlgorithmError(f"Unknown operator '{type(node).__name__}' in the expression.")
    return name


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return node.id
    raise AlgorithmError(f"Invalid band selector '{ast.unparse(node)}'.")
