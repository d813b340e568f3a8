"""Videos filtered frame by frame, read and written by OpenCV."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.errors import UserError, one_line
from clapp.images.paths import kind_of
from clapp.system.files import atomic_path
from clapp.system.progress import tell

Picture = NDArray[np.uint8]
CODECS = {".mkv": "FFV1", ".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}
"""What is written, by suffix: FFV1 loses nothing, MPEG-4 and Motion JPEG do."""
_READ = {*CODECS, ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
_FRAMES_A_SECOND = 25.0  # where a file does not say


def is_video(name: str) -> bool:
    """Whether a file's name ends as that of a video."""
    return Path(name).suffix.lower() in _READ


def filter_video(apply: Callable[[Picture], Picture], source: Path, out: Path) -> None:
    """Filter the frames of a video, turned as they are to be seen; its sound is left out.

    Where a side is odd, its last row or column is written twice: codecs want even sides.

    Args:
        apply: uint8 (H, W, 3) to (H, W) or (H, W, 3).
        source: the video.
        out: its suffix says the codec; see `CODECS`.

    Raises:
        UserError: one of them is no video, or cannot be read or written.
    """
    codec = CODECS.get(out.suffix.lower())
    if codec is None:
        raise UserError(
            f"{out}: a video is written as one of {', '.join(CODECS)}, not {out.suffix!r}"
        )
    kind = kind_of(source, "file")
    if kind != "a file":
        raise UserError(f"{source}: is {kind}; a video is expected")
    capture = cv2.VideoCapture(str(source))
    try:
        with atomic_path(out) as temporary:
            written = _copy(capture, apply, source, temporary, codec)
            if not written:
                raise UserError(f"{source}: cannot be read as a video: it has no frames")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {one_line(error)}") from error
    finally:
        capture.release()


def _copy(
    capture: cv2.VideoCapture,
    apply: Callable[[Picture], Picture],
    source: Path,
    out: Path,
    codec: str,
) -> int:
    """Write the filtered frames, and return how many there were."""
    writer: cv2.VideoWriter | None = None
    number, total = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return number
            number += 1
            result = _even(apply(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8)))
            if writer is None:
                rate = capture.get(cv2.CAP_PROP_FPS) or _FRAMES_A_SECOND
                size = result.shape[1::-1]
                writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*codec), rate, size)
                if not writer.isOpened():
                    raise OSError(f"OpenCV has no encoder for {codec} here")
            writer.write(_as_bgr(result))
            tell(f"{source.name}: frame {number}" + (f" of {total}" if total > 0 else ""))
    finally:
        if writer is not None:
            writer.release()


def _even(picture: Picture) -> Picture:
    more = [(0, side % 2) for side in picture.shape[:2]]
    return np.pad(picture, [*more, *[(0, 0)] * (picture.ndim - 2)], mode="edge")


def _as_bgr(picture: Picture) -> cv2.typing.MatLike:
    code = cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
    return cv2.cvtColor(picture, code)
