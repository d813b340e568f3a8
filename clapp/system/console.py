"""What every command line shares: exit codes, logs and progress on stderr, one JSON document."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from clapp.errors import ClappError, UserError
from clapp.system.process import open_streams
from clapp.system.progress import told_to

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

INTERRUPTED, READER_GONE = 130, 141
STEP_SECONDS, QUIET_SECONDS = 10.0, 30.0
"""Without a terminal: the minimum seconds between two progress lines of a command, and the maximum
between two lines of a study. Progress then goes to a log file."""


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and exit.

    Exit codes: 0 done; 2 the user's mistake; 130 interrupted; 141 standard output was closed by its
    reader (SIGPIPE, as shells report it); 1 a defect.
    """
    open_streams()
    # Also for processes that multiprocessing starts: no import from the working directory.
    os.environ["PYTHONSAFEPATH"] = "1"
    _spare_the_terminal()
    try:
        code = _code_of(app)
        sys.stdout.flush()
    except BrokenPipeError:
        _print_no_more()
        code = READER_GONE
    except UserError as error:
        fail(str(error))
    except ClappError as error:
        fail(str(error), code=1)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _print_no_more()
        fail(f"standard output cannot be written: {error.strerror}")
    sys.exit(code)


def _code_of(app: typer.Typer) -> Any:
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # as Typer and Rich end then
            raise end.__context__ from None
        return end.code
    return 0


def _print_no_more() -> None:
    """Drop buffered output, which would raise again when Python flushes it at exit."""
    with open(os.devnull, "w") as null:  # noqa: PTH123
        os.dup2(null.fileno(), 1)


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on stderr, without control characters, and exit."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
    typer.echo(f"error: {line}", err=True)
    sys.exit(code)


def log_to_stderr(level: str = "INFO") -> None:
    """Send log messages to stderr as short lines; called by entry points, never on import."""
    from loguru import logger

    logger.remove()
    logger.add(
        _write_to_stderr,
        level=level,
        format="<level>{message}</level>",
        colorize=is_live(sys.stderr) and not os.environ.get("NO_COLOR"),
    )


def _write_to_stderr(line: str) -> None:
    sys.stderr.write(line)  # looked up at each call: a live display may have replaced it


def is_live(stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which lines can be overwritten."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not in_ci


def _spare_the_terminal() -> None:
    """Send a terminal only ASCII if the locale is C or not UTF-8, which Python ignores.

    Characters that the encoding lacks are written as \\u and a number instead of raising.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    chosen = not sys.flags.utf8_mode or "PYTHONUTF8" in os.environ
    for stream in () if chosen else (sys.stdout, sys.stderr):
        if stream.isatty() and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="ascii", errors="backslashreplace")


def plain_console(*, stderr: bool = False) -> "Console":
    """A console for tables and lines that prints names such as `net[v2]` or `:cat:` unchanged.

    By default Rich reads brackets as markup and words between colons as emoji.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def plain_table(*headings: str) -> "Table":
    """A table without lines whose headings are bold; `add_column` adds columns of other kinds."""
    from rich.table import Table

    return Table(*headings, box=None, header_style="bold", pad_edge=False)


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show progress messages (`clapp.system.progress.tell`) on stderr, beginning with `text`.

    On a terminal they replace each other in one line, which is erased at the end of the block.
    Elsewhere each is a line, at least `STEP_SECONDS` after the one before and after the start.
    """
    if not is_live(sys.stderr):
        with told_to(_Lines()):
            yield
        return
    from rich.text import Text

    console = plain_console(stderr=True)
    spinner = "line" if console.options.ascii_only else "dots"
    with (
        console.status(Text(text), spinner=spinner, refresh_per_second=4) as line,
        told_to(lambda told: line.update(Text(told))),
    ):
        yield


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + STEP_SECONDS

    def __call__(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + STEP_SECONDS
            typer.echo(text, err=True)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    from clapp.system.files import dump_json  # imports PyYAML, which --help does not need

    typer.echo(dump_json(document))
