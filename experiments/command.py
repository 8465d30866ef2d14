"""The command line of every experiment, and what it says of wrong input."""

import ast
import difflib
import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from wfm import enable_compilation_cache
from wfm.training import Stopped

Config = Any  # an ml_collections ConfigDict, whose attributes no type checker can know
SEEDS = ("seed", "seeds", "split")
MAY_BE_ZERO = (*SEEDS, "burn_in")
MAY_BE_EMPTY = ("hidden",)  # a network without hidden neurons
LARGEST_SEED = 2**32 - 1  # JAX drops the upper bits of larger ones and says nothing
LARGEST_COUNT = 2**31 - 1  # counts on devices are of 32 bits
HELP = {"-h", "-help", "--help", "--helpfull", "--helpshort"}
OPTIONS = """Options
  --config=FILE[:VARIANT]   settings; the file's own text names its variants
  --workdir=DIR             folder of the run; the same command again resumes it
  --config.KEY=VALUE        another value for a key of the config
  --help                    this text, with the keys of the config given by --config"""


class UsageError(Exception):
    """Wrong input, in one sentence that says what to do."""


def main(run: Callable[[Config, str], None], argv: Sequence[str] | None = None) -> None:
    """Parse `--config=FILE[:VARIANT] --workdir=DIR [--config.KEY=VALUE …]` and run.

    `--help` prints what can be set.
    """
    argv = sys.argv if argv is None else argv
    try:
        if HELP & set(argv[1:]):
            print(usage(sys.modules[run.__module__].__doc__ or "", argv))
            return
        config, workdir = parse(argv)
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
        raise UsageError(
            "give both --config=FILE[:VARIANT] and --workdir=DIR; --help tells what else there is"
        )
    defaults = flat(config.to_dict())
    for override in overrides:
        key = override.lstrip("-").removeprefix("config.").split("=")[0]
        if key not in defaults:
            close = difflib.get_close_matches(key, defaults, 1) or [", ".join(defaults)]
            raise UsageError(f"unknown config key {key!r}; did you mean {close[0]}?")
    config, workdir, _ = _flags(argv)
    for key, value in flat(config.to_dict()).items():
        _check(key, value, defaults[key])
    return config, workdir


def _check(key: str, value: Any, default: Any) -> None:
    """Raise `UsageError` for a value that cannot be right, whatever the experiment."""
    if not isinstance(default, tuple):
        _check_one(f"config.{key} is {value!r}; it", key, value, default)
        return
    if default and not value and key.split(".")[-1] not in MAY_BE_EMPTY:
        raise UsageError(f"config.{key} is {value!r}; give at least one entry")
    for entry in value:
        what = f"config.{key} is {value!r}; each entry"
        _check_one(what, key, entry, default[0] if default else entry)


def _check_one(what: str, key: str, value: Any, default: Any) -> None:
    name = key.split(".")[-1]
    least = 0 if name in MAY_BE_ZERO else 1
    most = LARGEST_SEED if name in SEEDS else LARGEST_COUNT
    if isinstance(default, int) and not isinstance(default, bool):
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{what} must be a whole number")
        if value < least:
            raise UsageError(f"{what} must be at least {least}")
        if value > most:
            raise UsageError(f"{what} must be at most {most}")
    if isinstance(default, float):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UsageError(f"{what} must be a number")
        if not 0 <= value < math.inf:
            raise UsageError(f"{what} cannot be negative, infinite or NaN")
    if isinstance(default, str) and not isinstance(value, str):
        raise UsageError(f"{what} must be a name")


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


def usage(about: str, argv: Sequence[str]) -> str:
    """What `--help` prints: how to call, and every key of the config with its value.

    The config is the one on the command line, or else the one that `about` names.
    """
    named = [a for a in argv[1:] if a.lstrip("-").startswith("config=")]
    named = named or re.findall(r"--config=\S+", about)[:1]
    lines = [about.strip(), "", OPTIONS]
    if not named:
        return "\n".join(lines)
    config, _, _ = _flags([argv[0], *named])
    file, _, variant = named[-1].partition("=")[2].partition(":")
    if text := ast.get_docstring(ast.parse(Path(file).read_text())):
        lines += ["", f"{file}: {text}"]
    lines += ["", f"Keys and values of {file}{':' * bool(variant)}{variant}:"]
    comments = _comments(Path(file))
    for key, value in flat(config.to_dict()).items():
        option = f"--config.{key}={shlex.quote(str(value))}"
        lines.append(f"  {option:48} {comments.get(key.removeprefix('base.'), '')}".rstrip())
    return "\n".join(lines)


def _comments(file: Path) -> dict[str, str]:
    """What configs beside a file, and above all the file itself, say behind each key."""
    found: dict[str, str] = {}
    for source in (*sorted(file.parent.glob("*.py")), file):
        found |= re.findall(r"^ *config\.([\w.]+) = .*  # (.*)$", source.read_text(), re.MULTILINE)
    return found


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
