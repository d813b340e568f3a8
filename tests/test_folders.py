"""Folders with things in them that are no files, and paths of every kind."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
from forked import clapp
from PIL import Image

from clapp.config import DataConfig, load_config
from clapp.errors import UserError
from clapp.images import open_source

HOME_UNKNOWN = "folder:~nobodyhere/pictures"


def data(folder: Path | str, **changes) -> DataConfig:
    name = folder if isinstance(folder, str) else f"folder:{folder}"
    return load_config().train_data.model_copy(update={"name": name, "split": "all", **changes})


def save(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (level,) * 3).save(path, "PNG")
    return path


def levels(folder: Path, **changes) -> list[int]:
    source = open_source(data(folder, **changes))
    assert source.fingerprint() == open_source(data(folder, **changes)).fingerprint()
    return sorted(int(picture[0, 0, 0]) for picture in source.epoch(0))


def test_what_is_no_file_is_left_out_by_name(tmp_path):
    save(tmp_path / "good.png", 7)
    (tmp_path / "gone.png").symlink_to("/nowhere/gone.png")
    (tmp_path / "round.png").symlink_to("round.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
    source = open_source(data(tmp_path))
    assert len(list(source.epoch(0))) == 1
    reasons = {Path(name).name: reason for name, reason in source.skipped.names.items()}
    assert reasons.keys() == {
        "gone.png", "round.png", "pipe.png", "empty.png", "null.png", "socket.png",
    }  # fmt: skip
    assert reasons["gone.png"] == "its link leads nowhere"
    assert reasons["pipe.png"] == "it is a named pipe, not a file"
    assert reasons["socket.png"] == "it is a socket, not a file"
    assert reasons["null.png"] == "it is a device, not a file"
    assert reasons["empty.png"] == "the file is empty"


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    save(tmp_path / "elsewhere" / "deep" / "a.png", 1)
    root = tmp_path / "root"
    save(root / "b.png", 2)
    (root / "class1").symlink_to(tmp_path / "elsewhere")
    (root / "class2").symlink_to("class1")
    (root / "self").symlink_to(".")
    (root / "above").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert levels(root) == [1, 2]


def test_a_picture_with_several_paths_is_one_and_lies_in_one_split(tmp_path):
    root = tmp_path / "root"
    for i in range(40):
        save(root / f"{i}.png", i)
        (root / f"link{i}.png").symlink_to(f"{i}.png")
    (root / "again").symlink_to(".")
    splits = [levels(root, split=split) for split in ("train", "validation", "test")]
    assert sorted(level for split in splits for level in split) == levels(root) == list(range(40))


@pytest.mark.parametrize(
    "name",
    ["set #2", "a+train", "a:b", "ü 图", "line\nbreak", "[bold]", "100%", "{x}", "-f", "x" * 251],
)
def test_names_with_special_characters_and_of_maximal_length(tmp_path, name):
    root = tmp_path / name
    save(root / f"{name}.png", 3)
    (root / f"{name[:240]}bad.png").write_bytes(b"x")
    source = open_source(data(root))
    assert len(list(source.epoch(0))) == 1
    (bad,) = source.skipped.names
    assert "\n" not in bad


def test_names_that_are_not_unicode(tmp_path):
    root = tmp_path / "p"
    save(root / "a.png", 3)
    (root / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    source = open_source(data(root))
    assert len(list(source.epoch(0))) == 1
    next(iter(source.skipped.names)).encode()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (HOME_UNKNOWN, "the home folder ~nobodyhere is not known"),
        ("folder:/" + "x" * 300, "File name too long"),
        ("folder:" + "/x" * 5000, "File name too long"),
        ("folder:/a\0b", "embedded null"),
        ("folder:/dev/null", "this is a device"),
    ],
)
def test_paths_that_cannot_be(name, message):
    with pytest.raises(UserError, match=message) as caught:
        open_source(data(name))
    assert "\n" not in str(caught.value)


def test_a_link_in_a_circle_is_no_folder(tmp_path):
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UserError, match="symbolic links"):
        open_source(data(tmp_path / "round"))


def test_the_command_line_says_so_in_one_line():
    done = clapp("train", "--set", f"train_data.name={HOME_UNKNOWN}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_deep_folders(tmp_path):
    root = Path(tmp_path)
    deep = root
    for _ in range(1020):
        deep /= "d"
        deep.mkdir()
    save(deep / "a.png", 9)
    try:
        assert levels(root) == [9]
    finally:
        subprocess.run(["rm", "-rf", root / "d"], check=True)  # rmtree, which pytest uses, recurses
