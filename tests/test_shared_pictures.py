"""Training and validation pictures are compared by what is opened, not by text."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import clapp
from clapp.config import load_config
from clapp.errors import ConfigError, UserError
from clapp.images import SOURCES, Skipped, open_source
from clapp.images.photos import PHOTOS
from clapp.images.splits import overlap


def shared(one: str, two: str, split: str = "all", other: str = "", **more) -> bool:
    sections = {
        "train_data": {"name": one, "split": split, **more.get("train", {})},
        "valid_data": {"name": two, "split": other or split, **more.get("valid", {})},
    }
    try:
        load_config(sections)
    except ConfigError as error:
        if "train_data and valid_data share pictures" in str(error):
            return True
        raise
    return False


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9)).save(path)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "f" / "a.png")
    picture(tmp_path / "g" / "b.png")
    return tmp_path


def test_one_folder_in_other_words(root, monkeypatch):
    (root / "link").symlink_to("f")
    monkeypatch.setenv("HOME", str(root))
    for other in (f"{root}/f", f"{root}/f/", "f", "./f", "g/../f", "link", "~/f", f"{root}//f"):
        assert shared(f"folder:{root}/f", f"folder:{other}")
    assert not shared("folder:f", "folder:g")


def test_folders_in_one_another_and_files_behind_links(root):
    assert shared("folder:.", "folder:g")
    (root / "g" / "linked.png").symlink_to(root / "f" / "a.png")
    assert shared("folder:f", "folder:g")
    (root / "h").mkdir()
    (root / "h" / "class").symlink_to(root / "f")
    assert shared("folder:f", "folder:h")


def test_splits_of_a_folder(root):
    assert not shared("folder:f", "folder:f", "train", "validation")
    assert shared("folder:f", "folder:f", "train", "all")
    picture(root / "d" / "train" / "a.png")
    picture(root / "d" / "validation" / "b.png")
    assert not shared("folder:d", "folder:d", "train", "validation")
    assert not shared("folder:d", "folder:d/validation", "train", "all")
    assert shared("folder:d", "folder:d/train", "train", "all")
    (root / "d" / "validation" / "a.png").symlink_to(root / "d" / "train" / "a.png")
    assert shared("folder:d", "folder:d", "train", "validation")


def test_a_plus_in_a_folder_is_no_mix(root):
    assert not shared(f"folder:{root}/a+train", f"folder:{root}/b+train")
    assert not shared("folder:/data/a+photos", "folder:/data/b+photos")


def test_the_packaged_photographs_as_a_folder():
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    assert (folder / PHOTOS["validation"][0]).is_file()
    assert shared(f"folder:{folder}", "photos", "all", "validation")
    assert not shared("photos+synthetic", "photos", "train", "validation")
    assert shared("photos+synthetic", "synthetic", "train")


def test_datasets_in_other_words(root):
    for one, other in (("x/y", "huggingface:x/y"), ("X/y", "x/Y"), ("f", "huggingface:./f/")):
        assert shared(one, other, "train")
    assert not shared("x/y", "x/z", "train")
    subsets = {"train": {"subset": "one"}, "valid": {"subset": "two"}}
    assert not shared("x/y", "x/y", "train", **subsets)
    assert shared("x/y", "x/y", "train", train={"subset": "one"}, valid={"subset": None})
    assert shared("huggingface:f", "folder:f", "train", "all")
    assert not shared("huggingface:g", "folder:f", "train", "all")


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("train", "train[:10%]", True),
        ("train[:10%]", "train[10%:]", False),
        ("train[:11%]", "train[10%:]", True),
        ("train[-10%:]", "train[:90%]", False),
        ("train[:100]", "train[100:]", False),
        ("train[:101]", "train[100:]", True),
        ("train[-100:]", "train[:-100]", False),
        ("train[:100]", "train[-100:]", True),  # of 150 rows
        ("train[:10%]", "train[1000:]", True),  # of 20,000 rows
        ("train[0%:0%]", "train", False),
        ("train+test", "test", True),
        ("train[:50%] + test", "validation+train[50%:]", False),
        ("all", "test", True),
        ("train[10:20%]", "train[20%:]", False),
        ("train[:33%](pct1_dropremainder)", "train[33%:](pct1_dropremainder)", False),
        ("train", "validation", False),
    ],
)
def test_splits_of_a_dataset(one, other, meet):
    assert overlap(one, other) is overlap(other, one) is meet
    assert shared("x/y", "huggingface:x/y", one, other) is meet


def refusal(**sections) -> str:
    try:
        load_config(sections)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_test_set_shares_no_picture_with_either(root):
    picture(root / "h" / "c.png")
    three = {
        "train_data": {"name": "folder:f", "split": "all"},
        "valid_data": {"name": "folder:g", "split": "all"},
        "test_data": {"name": "folder:h", "split": "all"},
    }
    assert refusal(**three) == ""
    for other, one in (("train_data", "f"), ("valid_data", "g")):
        said = refusal(**three | {"test_data": {"name": f"folder:./{one}", "split": "all"}})
        assert f"{other} and test_data share pictures: folder:{one} and folder:./{one}" in said
        assert "\n" not in said
    assert "train_data and test_data share pictures: photos, split test" in refusal(
        train_data={"split": "test"}
    )
    assert "split 'tests' of photos is not allowed" in said_by_check("test_data.split=tests")
    hashed = {"name": "folder:f"}
    splits = ("train", "validation", "test")
    sections = zip(("train_data", "valid_data", "test_data"), splits, strict=True)
    assert refusal(**{name: {**hashed, "split": split} for name, split in sections}) == ""


def said_by_check(override: str) -> str:
    from clapp.commands.data import describe

    with pytest.raises(UserError) as error:
        describe(load_config(None, [override]))
    return str(error.value)


def test_a_stored_training_is_not_asked_whether_its_test_set_is_new(root, tmp_path):
    import skimage

    from clapp.config import load_stored
    from clapp.system.strict_yaml import dump_yaml

    folder = Path(skimage.__file__).parent / "data"
    old = {"train_data": {"name": f"folder:{folder}", "split": "all"}}
    old["valid_data"] = {"name": "synthetic"}
    assert "train_data and test_data share pictures" in refusal(**old)
    (tmp_path / "config.yaml").write_text(dump_yaml(old))
    assert load_stored(tmp_path / "config.yaml").test_set.name == "photos"


def test_the_test_set_has_the_sizes_of_the_validation_set_unless_it_says_its_own():
    config = load_config(None, ["valid_data.crop_size=48", "valid_data.resize_base=64"])
    assert (config.test_set.crop_size, config.test_set.resize_base) == (48, 64)
    config = load_config(None, ["valid_data.crop_size=48", "test_data.crop_size=32"])
    assert (config.test_set.crop_size, config.test_set.resize_base) == (32, 256)
    assert "test_data: crop_size 300 does not fit into resize_base 256" in refusal(
        test_data={"crop_size": 300}
    )
    assert "test_data.min_buffer: unknown key" in refusal(test_data={"min_buffer": 3})


def test_content_is_compared_between_all_three(root):
    from clapp.commands.data import Same, same_content

    for name in ("f", "g", "h"):
        Image.new("RGB", (40, 40), {"f": 1, "g": 2, "h": 2}[name]).save(
            picture(root / name / "a.png")
        )
    (root / "g" / "b.png").unlink()
    sections = ("train_data", "valid_data", "test_data")
    config = load_config(
        {
            name: {"name": f"folder:{folder}", "split": "all"}
            for name, folder in zip(sections, "fgh", strict=True)
        }
    )
    assert same_content(config) == [Same("valid_data", "test_data", 0, 0)]


FRAMES = """
import numpy as np
import clapp
from clapp.images import Skipped

class Frames:
    def __init__(self, data, argument):
        self.level, self.skipped = int(argument), Skipped()

    @staticmethod
    def shares(mine, other):
        return (mine.kind, mine.argument) == (other.kind, other.argument)

    def describe(self):
        return f"frames {self.level}"

    def fingerprint(self):
        return {"level": self.level}

    def epoch(self, number, start=0):
        for i in range(start, 6):
            yield np.full((40, 40, 3), self.level + i, np.uint8)

clapp.register_source("frames", Frames)
"""


def test_a_source_from_outside_fills_a_pool(tmp_path):
    (tmp_path / "frames.py").write_text(FRAMES)
    code = """
import frames
from clapp.config import load_config
from clapp.errors import ConfigError
from clapp.pool.pool import Pool
small = {"min_buffer": 2, "max_buffer": 9, "resize_base": 32, "crop_size": 16, "split": "any"}
train, valid = {"name": "frames:7", **small}, {"name": "frames:8"}
config = load_config({"train_data": train, "valid_data": valid})
with Pool.open(config.train_data, 1) as pool:
    print(pool.pictures(9), pool[0][0, 0, 0], pool[5][0, 0, 0])
try:
    load_config({"train_data": {"name": "frames:7"}, "valid_data": {"name": "frames:7"}})
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"CLAPP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "6 7 12"
    assert "share pictures: frames:7" in done.stdout


def test_registering_a_source():
    class Nothing:
        def __init__(self, data, argument):
            self.skipped = Skipped()

    with pytest.raises(UserError, match="'photos' is registered already"):
        clapp.register_source("photos", Nothing)
    clapp.register_source("nothing", Nothing)
    try:
        wrong = load_config().train_data.model_copy(update={"name": "nothin:x"})
        with pytest.raises(ConfigError, match=r"known: photos.*nothing, or the name"):
            open_source(wrong)
    finally:
        SOURCES.remove("nothing")
