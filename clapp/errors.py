"""Every error CLAPP raises on purpose, under one root, and foreign errors in one line."""

import re


class ClappError(Exception):
    """Root of the package's own errors."""


class UserError(ClappError):
    """The user's mistake: the command line prints the message as one line and exits with 2."""


class ConfigError(UserError):
    """A configuration, study or search-space file that cannot be used as written."""


class ExhaustedError(UserError):
    """The search space holds no more configurations that are new and within the limits."""


class FeederError(ClappError):
    """The process that fills the picture pool died or reported an error."""


class ParityError(ClappError):
    """An exported model does not reproduce the PyTorch model it was made from."""


def one_line(error: BaseException) -> str:
    """The message of `error`, or its type where it has none, on one line without a full stop."""
    text = re.sub(r" ?<_io\.\w+ object at \w+>", "", str(error))  # says nothing to a user
    return " ".join(text.split()).removesuffix(".") or type(error).__name__
