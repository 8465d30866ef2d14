"""Errors for input that cannot be used, each with one sentence for the person who gave it."""


class UserError(ValueError):
    """The input cannot be used; the message says why, and what to do.

    Any other exception is a bug, and its traceback matters.
    """

    def __init__(self, message: str):
        # Names that damaged files hold may have line breaks, or control a terminal.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class MissingFile(UserError, FileNotFoundError):
    """A file that is not there."""


class CannotWrite(UserError, OSError):
    """The disk is full, or may not be written to."""
