"""Errors for input that cannot be used, each with one sentence for the person who gave it."""


class UserError(ValueError):
    """The input cannot be used; the message says why, and what to do.

    Any other exception is a bug, and its traceback matters.
    """


class MissingFile(UserError, FileNotFoundError):
    """A file that is not there."""
