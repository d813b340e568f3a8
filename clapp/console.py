"""What every command line shares: exit codes, logs on stderr, one JSON document on stdout."""

import sys
from typing import Any, NoReturn

import typer

from clapp.errors import ClappError, UserError

INTERRUPTED = 130


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and exit: 0 done, 2 the user's mistake, 130 interrupted, 1 a defect."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        fail(str(error))
    except ClappError as error:
        fail(str(error), code=1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, and exit."""
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)


def log_to_stderr(level: str = "INFO") -> None:
    """Send log messages to stderr as short lines; called by entry points, never on import."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level=level, format="<level>{message}</level>")


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    from clapp.files import dump_json  # with PyYAML, which --help does not need

    typer.echo(dump_json(document))
