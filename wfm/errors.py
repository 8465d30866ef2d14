"""What is raised for those who gave something that cannot be used, in one sentence for them."""


class UserError(ValueError):
    """What was given cannot be used; the message says why, and what to do.

    Any other exception is a bug, and its traceback matters.
    """


class MissingFile(UserError, FileNotFoundError):
    """A file that is not there."""
