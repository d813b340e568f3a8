"""`clapp infer` on many files, streams and videos, and what it does with bad ones."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from loguru import logger
from PIL import Image

from clapp.errors import UserError
from clapp.inference.files import filter_files, plan
from clapp.inference.picture import FileFilter, filter_picture
from clapp.inference.runner import open_runner
from clapp.inference.video import filter_video
from tests.test_infer import save_model

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("files") / "m", capacity=2, num_layers=1)[0]


@pytest.fixture(scope="module")
def apply(model) -> FileFilter:
    return FileFilter(open_runner(model), 10**8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "deep/c.tif", "deep/a.png"):
        Image.fromarray(PIXELS).save(folder / name)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_keeps_its_places(apply, photos, tmp_path) -> None:
    outcome = filter_files(apply, [str(photos)], str(tmp_path / "out"))
    assert (outcome.done, outcome.skipped.count) == (4, 0)
    assert names(tmp_path / "out") == ["a.png", "b.png", "deep/a.png", "deep/c.png"]
    with Image.open(tmp_path / "out/deep/c.png") as image:
        assert np.array_equal(np.asarray(image), apply.frame(PIXELS))


def test_patterns_and_files_lie_side_by_side(apply, photos, tmp_path) -> None:
    inputs = [str(photos / "*.png"), str(photos / "deep/c.tif")]
    filter_files(apply, inputs, str(tmp_path / "out"), ".tif")
    assert names(tmp_path / "out") == ["a.tif", "c.tif"]


def test_names_that_differ_by_their_suffix_keep_it(photos) -> None:
    Image.fromarray(PIXELS).save(photos / "a.bmp")
    tasks, single = plan([str(photos)], str(photos / "out"), ".png")
    assert not single
    found = [str(t.target.relative_to(photos / "out")) for t in tasks if t.target]
    assert found == ["a.bmp.png", "a.png.png", "b.png", "deep/a.png", "deep/c.png"]


def test_results_in_a_folder_are_not_filtered_again(apply, photos) -> None:
    for _ in range(2):
        assert filter_files(apply, [str(photos)], str(photos / "out")).done == 4


def test_one_file_and_a_folder(apply, photos, tmp_path) -> None:
    (tmp_path / "there").mkdir()
    for out, expected in (("there", "b.png"), ("new/", "b.png"), ("x.webp", None)):
        filter_files(apply, [str(photos / "b.jpg")], f"{tmp_path}/{out}")
        assert (tmp_path / out / expected if expected else tmp_path / out).is_file()


def test_bad_files_are_left_out_and_named(apply, photos, tmp_path) -> None:
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (photos / "bad.mp4").write_bytes(b"nonsense" * 50)
    said: list[str] = []
    handler = logger.add(said.append, level="WARNING", format="{message}")
    try:
        outcome = filter_files(apply, [str(photos)], str(tmp_path / "out"))
    finally:
        logger.remove(handler)
    assert (outcome.done, outcome.skipped.count) == (4, 2)
    assert sum("bad.png: cannot be read as a picture" in line for line in said) == 1
    assert sum("bad.mp4: cannot be read as a video" in line for line in said) == 1
    assert names(tmp_path / "out") == ["a.png", "b.png", "deep/a.png", "deep/c.png"]
    for name in ("a.png", "b.jpg", "deep/c.tif", "deep/a.png"):
        (photos / name).unlink()
    with pytest.raises(UserError, match=r"none of 2 files can be filtered; the first: .*bad"):
        filter_files(apply, [str(photos)], str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        (["photos"], "photos", "it is read too"),
        (["photos/a.png", "photos/b.jpg"], "photos/a.png", "is a file; several files need"),
        (["photos/a.png", "photos/deep/a.png"], "out", "would both be written to"),
        (["photos/*.gif"], "out", "no file matches"),
        (["empty"], "out", "there are no pictures or videos in it"),
        (["-", "photos"], "out", "it stands for one picture"),
        (["photos"], "-", "it stands for one picture"),
        (["photos/a.png"], "out.mp5", "its suffix must name a format"),
        (["film.mp4"], "-", "a video is not written to standard output"),
        (["film.mp4"], "out.png", "a video is written as one of .mkv, .mp4"),
        (["-"], "empty", "has no name; name a file"),
    ],
)
def test_what_cannot_be(apply, photos, tmp_path, monkeypatch, inputs, out, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "film.mp4", "mp4v")
    with pytest.raises(UserError, match=message):
        filter_files(apply, inputs, out)
    assert names(photos) == ["a.png", "b.jpg", "deep/a.png", "deep/c.tif"]


def write_video(path: Path, codec: str, frames: int = 5, size: tuple[int, int] = (64, 48)) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 12, size)
    for number in range(frames):
        frame = np.full((size[1], size[0], 3), 40 * number, np.uint8)
        frame[:, : size[0] // 2] //= 2
        writer.write(frame)
    writer.release()


def frames_of(path: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    capture.release()
    return found


def test_a_video_is_filtered_frame_by_frame(apply, tmp_path) -> None:
    write_video(tmp_path / "in.mkv", "FFV1")
    filter_files(apply, [str(tmp_path / "in.mkv")], str(tmp_path / "out.mkv"))
    before, after = frames_of(tmp_path / "in.mkv"), frames_of(tmp_path / "out.mkv")
    assert len(before) == len(after) == 5
    for frame, found in zip(before, after, strict=True):
        expected = apply.frame(frame[..., ::-1])
        assert np.abs(found.astype(int) - expected[..., None]).max() <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi"])
def test_videos_that_lose_little(tmp_path, suffix) -> None:
    write_video(tmp_path / "in.avi", "MJPG")
    colours = []

    def odd(frame: np.ndarray) -> np.ndarray:
        colours.append(frame)
        return frame[:47, :63]

    filter_video(odd, tmp_path / "in.avi", tmp_path / f"out{suffix}")
    found = frames_of(tmp_path / f"out{suffix}")
    assert [frame.shape for frame in found] == [(48, 64, 3)] * 5
    for frame, colour in zip(found, colours, strict=True):
        assert np.abs(frame[:47, :63, ::-1].astype(int) - colour[:47, :63]).mean() < 5


def test_videos_in_a_folder(apply, photos, tmp_path) -> None:
    write_video(photos / "film.mp4", "mp4v")
    filter_files(apply, [str(photos)], str(tmp_path / "out"))
    assert len(frames_of(tmp_path / "out/film.mp4")) == 5


def clapp(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "clapp", *words]
    return subprocess.run(command, input=given, capture_output=True, timeout=120)


def test_streams_and_exit_codes(model, apply, photos, tmp_path) -> None:
    done = clapp("infer", str(model), "-", "-", given=(photos / "a.png").read_bytes())
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert np.array_equal(np.asarray(image), apply.frame(PIXELS))
    done = clapp("infer", str(model), "-", "-", "--format", "tif", given=done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"II*")
    done = clapp("infer", str(model), "-", "-", given=b"no picture")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: standard input: cannot be read as a picture")
    (photos / "bad.png").write_bytes(b"")
    done = clapp("infer", str(model), str(photos), str(tmp_path / "out"), "--format", "jpg")
    assert done.returncode == 3
    assert done.stdout.decode().strip() == f"{tmp_path / 'out'}: 4 files, 1 left out"
    assert names(tmp_path / "out") == ["a.jpg", "b.jpg", "deep/a.jpg", "deep/c.jpg"]


def test_sixteen_bits(apply, photos, tmp_path) -> None:
    sixteen = apply._replace(bits=16)
    for suffix in ("png", "tif"):
        filter_files(sixteen, [str(photos / "a.png")], str(tmp_path / f"x.{suffix}"))
        found = cv2.imread(str(tmp_path / f"x.{suffix}"), cv2.IMREAD_UNCHANGED)
        expected = filter_picture(apply.runner, PIXELS, kind=np.float32).clip(0, 1) * 65535
        assert found.dtype == np.uint16
        assert np.abs(found - expected).max() <= 0.51
    with pytest.raises(UserError, match="16 bits a sample are written"):
        filter_files(sixteen, [str(photos / "a.png")], str(tmp_path / "x.jpg"))


def test_threads_give_the_same(tmp_path) -> None:
    folder = save_model(tmp_path / "m", capacity=2, num_layers=2, output_norm="max", norm="group")[
        0
    ]
    runner = open_runner(folder)
    image = np.random.default_rng(1).integers(0, 256, (300, 211, 3), np.uint8)
    whole = filter_picture(runner, image, kind=np.float32)
    for threads in (1, 2, 5):
        found = filter_picture(runner, image, 4 * 10**6, threads, np.float32)
        assert np.abs(found - whole).max() < 1e-5
