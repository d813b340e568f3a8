"""Every error CLAPP raises on purpose, under one root."""


class ClappError(Exception):
    """Root of the package's own errors."""


class UserError(ClappError):
    """The user's mistake: the command line prints the message as one line and exits with 2."""


class ConfigError(UserError):
    """A configuration, study or search-space file that cannot be used as written."""


class FeederError(ClappError):
    """The process that fills the picture pool died or reported an error."""


class ParityError(ClappError):
    """An exported model does not reproduce the PyTorch model it was made from."""
