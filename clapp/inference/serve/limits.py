"""What one request, and all of them together, may take of a server."""

from dataclasses import dataclass

from clapp.inference.tiles import MEMORY
from clapp.system.process import cores
from clapp.system.sizes import parse_size


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        workers: pictures computed at once, each by a thread.
        queue: pictures that wait beside those; one more is refused with 429.
        memory: bytes that a picture, its result and its tiles take while a model is applied.
        body: bytes of a request's body.
        pixels: of a picture, whatever its file takes.
        seconds: from when a request is complete to its answer, waiting included.
        transfer: seconds for a request to arrive, and as many for its answer to be taken.
    """

    workers: int
    queue: int
    memory: int
    body: int
    pixels: int
    seconds: float
    transfer: float


def limits(
    *,
    workers: int | None = None,
    queue: int = 16,
    memory: str = MEMORY,
    body: str = "20MB",
    pixels: int = 16_000_000,
    seconds: float = 30.0,
    transfer: float = 30.0,
) -> Limits:
    """Limits from the options of `clapp serve`.

    Raises:
        UserError: a size that is none.
    """
    return Limits(
        workers or cores(),
        queue,
        parse_size(memory, "--memory"),
        parse_size(body, "--body"),
        pixels,
        seconds,
        transfer,
    )
