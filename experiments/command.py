"""Changing a config from the command line, and errors about wrong input."""

import ast
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from wfm.errors import UserError

Config = Any  # an ml_collections ConfigDict; type checkers cannot know its attributes
SEEDS = ("seed", "split")
MAY_BE_ZERO = (*SEEDS, "burn_in")
MAY_BE_EMPTY = ("widths",)  # no other widths
LARGEST_SEED = 2**32 - 1  # JAX silently drops the upper bits of larger ones
LARGEST_COUNT = 2**31 - 1  # counts on devices have 32 bits


def choose(table: Mapping[str, Any], key: str, value: str) -> Any:
    """The entry of a table that a config names."""
    if value not in table:
        raise UserError(f"config.{key} is {value!r}; choose one of {', '.join(table)}")
    return table[value]


def override(config: Config, options: Iterable[str]) -> list[str]:
    """Change a config by options `KEY=VALUE`; returns the keys that they name.

    Raises `UserError` for unknown keys, and for values that cannot be right in any study.
    """
    defaults = flat(config.to_dict())
    keys = []
    for option in options:
        key, given, text = option.partition("=")
        if key not in defaults:
            close = difflib.get_close_matches(key, defaults, 1) or [", ".join(defaults)]
            raise UserError(f"unknown config key {key!r}; did you mean {close[0]}?")
        if not given:
            raise UserError(f"config.{key} has no value; write --config.{key}=VALUE")
        value = _parsed(text, defaults[key])
        _check(key, value, defaults[key])
        with config.ignore_type():
            config.update_from_flattened_dict({key: _like(value, defaults[key])})
        keys.append(key)
    return keys


def _parsed(text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return float(text) if text.lower().lstrip("+-") in ("nan", "inf") else text


def _like(value: Any, default: Any) -> Any:
    return float(value) if isinstance(default, float) else value


def _check(key: str, value: Any, default: Any) -> None:
    """Raise `UserError` for a value that cannot be right in any study."""
    if not isinstance(default, tuple):
        _check_one(f"config.{key} is {value!r}; it", key, value, default)
        return
    if not isinstance(value, tuple | list):
        raise UserError(f"config.{key} is {value!r}; write its entries as in '(1, 2)' or '(1,)'")
    if default and not value and key.split(".")[-1] not in MAY_BE_EMPTY:
        raise UserError(f"config.{key} is {value!r}; give at least one entry")
    for entry in value:
        what = f"config.{key} is {value!r}; each entry"
        _check_one(what, key, entry, default[0] if default else entry)


def _check_one(what: str, key: str, value: Any, default: Any) -> None:
    name = key.split(".")[-1]
    least = 0 if name in MAY_BE_ZERO else 1
    most = LARGEST_SEED if name in SEEDS else LARGEST_COUNT
    if isinstance(default, bool) and not isinstance(value, bool):
        raise UserError(f"{what} must be True or False")
    if isinstance(default, int) and not isinstance(default, bool):
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{what} must be a whole number")
        if value < least:
            raise UserError(f"{what} must be at least {least}")
        if value > most:
            raise UserError(f"{what} must be at most {most}")
    if isinstance(default, float):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{what} must be a number")
        if not 0 <= value < math.inf:
            raise UserError(f"{what} cannot be negative, infinite or NaN")
    if isinstance(default, str) and not isinstance(value, str):
        raise UserError(f"{what} must be a name")


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config with one dotted key for each value."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        values |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return values


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `other` that differ from those of `first`, by dotted key."""
    a, b = flat(first), flat(other)
    return {key: b.get(key) for key in a | b if a.get(key) != b.get(key)}
