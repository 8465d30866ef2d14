"""The command line of every experiment, and what it says of wrong input."""

import difflib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from wfm import enable_compilation_cache
from wfm.training import Stopped

Config = Any  # an ml_collections ConfigDict, whose attributes no type checker can know
MAY_BE_ZERO = ("seed", "split", "burn_in")


class UsageError(Exception):
    """Wrong input, in one sentence that says what to do."""


def main(run: Callable[[Config, str], None], argv: Sequence[str] | None = None) -> None:
    """Parse `--config=FILE[:VARIANT] --workdir=DIR [--config.KEY=VALUE …]` and run."""
    try:
        config, workdir = parse(sys.argv if argv is None else argv)
        enable_compilation_cache()
        run(config, workdir)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_status)
    except (UsageError, ValueError, FileNotFoundError, RuntimeError) as error:
        # The traceback of an error of our own tells a user nothing that its sentence does not.
        if _raised_in(error).split(".")[0] not in ("wfm", "experiments", "__main__"):
            raise
        sys.exit(f"error: {error}")


def choose(table: Mapping[str, Any], key: str, value: str) -> Any:
    """An entry of a table that a config names."""
    if value not in table:
        raise UsageError(f"config.{key} is {value!r}; choose one of {', '.join(table)}")
    return table[value]


def _raised_in(error: BaseException) -> str:
    """Name of the module whose code raised the error."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_globals["__name__"] if trace else ""


def parse(argv: Sequence[str]) -> tuple[Config, str]:
    """The config, with what the command line overrides, and the workdir."""
    overrides = [a for a in argv if a.lstrip("-").startswith("config.")]
    config, workdir, rest = _flags([a for a in argv if a not in overrides])
    if rest:
        raise UsageError(
            f"unexpected argument {rest[0]!r}; options start with --config or --workdir"
        )
    if config is None or not workdir:
        raise UsageError("give both --config=FILE[:VARIANT] and --workdir=DIR")
    known = list(flat(config.to_dict()))
    for override in overrides:
        key = override.lstrip("-").removeprefix("config.").split("=")[0]
        if key not in known:
            close = difflib.get_close_matches(key, known, 1) or [", ".join(known)]
            raise UsageError(f"unknown config key {key!r}; did you mean {close[0]}?")
    config, workdir, _ = _flags(argv)
    for key, value in flat(config.to_dict()).items():
        counts = isinstance(value, int) and not isinstance(value, bool)
        least = 0 if key.split(".")[-1] in MAY_BE_ZERO else 1
        if counts and value < least:
            raise UsageError(f"config.{key} is {value}; it must be at least {least}")
        if isinstance(value, float) and not 0 <= value < math.inf:
            raise UsageError(f"config.{key} is {value}; it cannot be negative, infinite or NaN")
    return config, workdir


def _flags(argv: Sequence[str]) -> tuple[Any, Any, list[str]]:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    real, sys.argv = sys.argv, list(argv)  # where config_flags looks for overrides
    try:
        rest = values(list(argv))
        if values.config is not None:
            dict(values.config)  # a config that failed to load raises when it is used
    except KeyError as error:
        raise UsageError(
            f"the config file has no variant {error}; the text at its beginning names those it has"
        ) from error
    except Exception as error:
        # Errors from inside a config file come as text of a traceback: its last line tells.
        raise UsageError(
            str(error).strip().splitlines()[-1].split("Error: ", 1)[-1].strip()
        ) from error
    finally:
        sys.argv = real
    return values.config, values.workdir, rest[1:]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config with one dotted key for each value."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        values |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return values


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What the config `other` has instead of `first`'s values, by dotted key."""
    a, b = flat(first), flat(other)
    return {key: b.get(key) for key in a | b if a.get(key) != b.get(key)}
