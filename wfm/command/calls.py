"""Calls written as text, read without executing anything."""

import ast
import dataclasses
from typing import Any

from wfm.errors import UserError

LONGEST = 2000  # characters


@dataclasses.dataclass(frozen=True)
class Call:
    """`module.name(*args, **options)`; arguments are numbers, texts, tuples, names or calls."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]

    def code(self, module: str) -> str:
        """The call as Python."""
        given = [*map(repr, self.args), *(f"{key}={v!r}" for key, v in self.options.items())]
        return f"{module}.{self.name}({', '.join(given)})"


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that stands alone."""

    text: str


def read(text: str) -> Call:
    """The call that a text is, such as `wfm.mlp(4, 8, 3, activation="tanh")`.

    Raises `UserError` for all else. Nothing is looked up or called.
    """
    try:
        if len(text) > LONGEST:
            raise SyntaxError
        found = _value(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, Call):
        raise UserError(f"{text[:60]!r} is not written as a call with numbers and names")
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        options = {str(k.arg): _value(k.value) for k in node.keywords}
        return Call(_last_name(node.func), tuple(map(_value, node.args)), options)
    if isinstance(node, ast.Name):
        return Name(node.id)
    return ast.literal_eval(node)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        _last_name(node.value)  # which must be a name as well
        return node.attr
    if not isinstance(node, ast.Name):
        raise SyntaxError
    return node.id
