"""The command line, `wfm`: networks of others inspected, converted, learned, sampled and judged."""

from wfm.command.line import main

__all__ = ["main"]
