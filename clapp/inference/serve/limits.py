"""What one request, and all of them together, may take of a server."""

from dataclasses import dataclass

from pydantic import ByteSize, TypeAdapter, ValidationError

from clapp.errors import UserError
from clapp.inference.tiles import MEMORY, parse_memory
from clapp.system.process import cores


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
        workers or cores(), queue, parse_memory(memory), _size(body), pixels, seconds, transfer
    )


def _size(text: str) -> int:
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        size = 0
    if size < 1:
        raise UserError(f"--body {text}: a size such as 20MB or 1.5GiB is expected")
    return size
