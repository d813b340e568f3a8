"""Pictures of trials in a folder and in a bucket, kept by a real server of S3's protocol."""

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import pytest
from forked import clapp
from optuna.artifacts.exceptions import ArtifactNotFound

from clapp.errors import UserError
from clapp.study.dashboard.artifacts import check_artifacts, open_artifacts

ROOT = Path(__file__).parents[1]
BUCKET = "pictures"
STUDY = """
search_space: {model.capacity: {type: int, low: 1, high: 6}}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 5, validation_interval: 5}
budget: {trials: 1}
"""

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server without pictures."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a place in an empty bucket."""
    for name, value in {
        "ENDPOINT_URL": server,
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "secret",
        "DEFAULT_REGION": "us-east-1",
        "EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}/my/studies"
    for key in contents():
        boto3.client("s3").delete_object(Bucket=BUCKET, Key=key)
    boto3.client("s3").delete_bucket(Bucket=BUCKET)


def contents() -> dict[str, bytes]:
    client = boto3.client("s3")
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def test_a_bucket_keeps_artifacts_under_its_prefix(bucket: str, tmp_path: Path) -> None:
    for url, key in ((bucket, "my/studies/a"), (f"s3://{BUCKET}", "a")):
        store = open_artifacts(url, tmp_path)
        store.write("a", BytesIO(b"picture"))
        assert contents() == {key: b"picture"}
        assert store.open_reader("a").read() == b"picture"
        store.remove("a")
        assert contents() == {}
        with pytest.raises(ArtifactNotFound):
            store.open_reader("a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_artifacts(tmp_path: Path) -> None:
    open_artifacts(None, tmp_path / "mine").write("a", BytesIO(b"1"))
    open_artifacts(str(tmp_path / "shared"), tmp_path / "mine").write("b", BytesIO(b"2"))
    assert (tmp_path / "mine" / "artifacts" / "a").read_bytes() == b"1"
    assert (tmp_path / "shared" / "b").read_bytes() == b"2"


def test_what_cannot_be_written_is_one_line_before_anything_starts(
    bucket: str, tmp_path: Path
) -> None:
    check_artifacts(bucket, tmp_path)
    check_artifacts(None, tmp_path)
    assert contents() == {}
    assert list((tmp_path / "artifacts").iterdir()) == []
    (tmp_path / "file").touch()
    for url, message in {
        "s3://": r"expected is s3://bucket or s3://bucket/prefix",
        "ftp://host/folder": r"expected is a folder or s3://bucket/prefix",
        "s3://no-such/place": r"s3://no-such/place: cannot be written to: .*NoSuchBucket",
        str(tmp_path / "file" / "x"): r"artifacts cannot be kept there: Not a directory",
    }.items():
        with pytest.raises(UserError, match=message):
            check_artifacts(url, tmp_path)


def test_a_study_puts_its_pictures_there_and_the_dashboard_shows_them(
    bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY)
    words = ("optimize.py", "--study", "mine.yaml", "--workers", "1", "--artifacts", bucket)
    done = clapp(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results"
    assert not (results / "mine" / "artifacts").exists()
    stored = contents()
    assert len(stored) == 3  # with the curve and the weights
    folder = results / "mine" / "trials" / "00000"
    preview = (folder / "preview.png").read_bytes()
    (key,) = [key for key, content in stored.items() if content == preview]
    assert key.startswith("my/studies/")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.yaml", "curve.json", "curve.svg", "model.safetensors"),
        *("preview.png", "result.json"),
    ]

    folder.rename(tmp_path / "away")  # as on another machine
    serve = [sys.executable, "-m", "clapp", "dashboard", "mine", "--port", "0"]
    process = subprocess.Popen(
        [*serve, "--artifacts", bucket], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        root = re.search(r"(http://\S+)/dashboard/studies/\d+", line)[1]
        with urllib.request.urlopen(f"{root}/clapp/trials/0/preview.png", timeout=20) as answer:
            assert answer.read() == preview
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_boto3_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UserError, match=r"needs boto3: pip install 'clapp\[s3\]'"):
        open_artifacts("s3://bucket", tmp_path)
