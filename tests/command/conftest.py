"""Fixtures of all tests of commands."""

from tests.command.runs import refused, wfm

__all__ = ["refused", "wfm"]
