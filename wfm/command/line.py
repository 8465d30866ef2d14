"""`wfm COMMAND …`: which command it is, and how it ends."""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from wfm.errors import UserError
from wfm.versions import version_of

REFUSED, STOPPED = 2, 130  # exit statuses
COMMANDS = {
    "inspect": "what is in a file or folder: networks, arrays, symmetries, metrics, bad files",
    "convert": "write networks in another format or layout",
    "align": "put the hidden neurons of many networks in one order",
    "learn": "learn a flow over the weights of networks",
    "sample": "draw new networks from a flow",
    "evaluate": "accuracy, loss, novelty and barriers of networks or of a flow",
}
"""One module of this package each, with `add(parser)` and `run(options)`, and what it is for."""
EXAMPLE = """An example, from the files of PyTorch in nets/ to 100 new ones in new/:

  wfm inspect nets
  wfm learn nets --network mlp:4,8,3 --layout torch --out flow.zip
  wfm sample flow.zip -n 100 --out new
  wfm evaluate flow.zip --task iris --against nets

`wfm COMMAND --help` says more about each. Errors are one sentence, with exit status 2."""


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` tells what there is")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (by default what was typed) names; returns the exit status.

    Input that cannot be used gives one sentence on standard error, and 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            _run(argv)
        sys.stdout.flush()
    except UserError as error:  # any other exception is a bug, and keeps its traceback
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # the system refuses a place: no permission, a name too long, …
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    return 0


def _run(argv: Sequence[str]) -> None:
    verb = argv[0] if argv else "--help"
    if verb in ("-h", "--help"):
        print(usage())
        return
    if verb == "--version":
        print(f"wfm {version_of('wfm')}")
        return
    if verb not in COMMANDS:
        raise UserError(f"there is no command {verb!r}; choose one of {', '.join(COMMANDS)}")
    # Imported only now, because importing JAX takes seconds.
    command: Any = importlib.import_module(f"wfm.command.{verb}")
    parser = Parser(
        prog=f"wfm {verb}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add(parser)
    options = parser.parse_args(argv[1:])
    importlib.import_module("wfm.compilation").enable_compilation_cache()
    command.run(options)


def usage() -> str:
    """The text of `wfm --help`."""
    width = max(map(len, COMMANDS))
    listed = (f"  wfm {name:{width}}  {what}" for name, what in COMMANDS.items())
    return "\n".join(["Generative models of neural-network weights.", "", *listed, "", EXAMPLE])


def _show(message: Any, *where: Any, **options: Any) -> None:
    """A warning, as one line without its place in the code."""
    print(f"warning: {message}", file=sys.stderr)
