"""`clapp serve` as its clients see it: pictures, refusals, bad clients, the end."""

import contextlib
import io
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import Server, rest, serving

from clapp.filters.library import resolve
from clapp.inference.picture import filter_picture, read_picture
from clapp.inference.runner import open_runner
from tests.test_infer import save_model

APPLY = "/v1/models/edges/apply"
SIGMA = {"name": "sigma", "low": 0.5, "high": 3.0, "step": 0}
PLACES = 4
BODY = 400_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "edges", capacity=2, num_layers=1, padding="reflect")
    save_model(folder / "blur", capacity=1, num_layers=1, output_channels=3)
    gaussian = {"train_data": {"target_filter": "gaussian"}, "parameter": {"sigma": [0.5, 3]}}
    save_model(folder / "gaussian", None, gaussian, input_channels=4, num_layers=1)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "in.png")
    Image.fromarray(pixels).save(folder / "in.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    limits = [f"--body={BODY}B", "--pixels=200000", "--workers=2", f"--queue={PLACES - 2}"]
    given = [models / "edges", f"colour={models / 'blur'}", models / "gaussian"]
    with serving(models, *given, *limits, "--transfer=2") as opened:
        yield opened
        assert opened.stop() == 0
        assert opened.log() == ""  # no request, no header and no traceback is ever there


@pytest.fixture(autouse=True)
def _nothing_is_left(server: Server) -> Iterator[None]:
    yield
    server.wait_for("clapp_places_taken", 0)
    assert server.client.get("/health").json() == {"status": "ok"}


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def error(answer) -> str:
    (message,) = answer.json().values()
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["in.png", "in.jpg"])
def test_a_picture_for_a_picture(server: Server, models: Path, name: str) -> None:
    content = (models / name).read_bytes()
    answer = server.client.post(APPLY, content=content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    picture = read_picture(models / name)
    expected = filter_picture(open_runner(models / "edges"), picture)
    assert np.array_equal(opened(answer.content), expected)
    classical = server.client.post("/v1/models/edges/filter", content=content)
    assert np.array_equal(opened(classical.content), resolve("sobel_3")(picture))
    steps = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert steps == ["decode", "apply", "encode", "total"]


def test_raw_pixels_and_colours(server: Server, models: Path) -> None:
    picture = read_picture(models / "in.png")
    raw = {"accept": "application/octet-stream"}
    where = "/v1/models/colour/apply?width=140&height=90"
    answer = server.client.post(where, content=picture.tobytes(), headers=raw)
    sizes = [int(answer.headers[f"x-{name}"]) for name in ("height", "width", "channels")]
    expected = filter_picture(open_runner(models / "blur"), picture)
    assert np.array_equal(np.frombuffer(answer.content, np.uint8).reshape(sizes), expected)
    grey = np.ascontiguousarray(picture[..., 1])
    answer = server.client.post(f"{where}&channels=1", content=grey.tobytes())
    expected = filter_picture(open_runner(models / "blur"), np.stack([grey] * 3, axis=2))
    assert np.array_equal(opened(answer.content), expected)
    jpeg = server.client.post(
        where, content=picture.tobytes(), headers={"accept": "text/html, image/jpeg;q=0.8"}
    )
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert opened(jpeg.content).shape == (90, 140, 3)


@pytest.mark.parametrize("sigma", [0.5, 2.25])
def test_a_setting_in_the_address(server: Server, models: Path, sigma: float) -> None:
    content, picture = (models / "in.png").read_bytes(), read_picture(models / "in.png")
    found = {
        what: opened(
            server.client.post(
                f"/v1/models/gaussian/{what}", params={"set": f"sigma={sigma}"}, content=content
            ).content
        )
        for what in ("apply", "filter")
    }
    runner = open_runner(models / "gaussian", {"sigma": sigma})
    assert np.array_equal(found["apply"], filter_picture(runner, picture))
    expected = resolve({"name": "gaussian", "sigma": sigma})(picture)
    assert np.array_equal(found["filter"], expected)


def test_models_and_figures(server: Server, models: Path) -> None:
    assert server.client.get("/v1/models").json() == [
        {"name": "edges", "filter": "sobel_3", "channels": 1, "settings": []},
        {"name": "colour", "filter": "sobel_3", "channels": 3, "settings": []},
        {"name": "gaussian", "filter": "gaussian", "channels": 1, "settings": [SIGMA]},
    ]
    names = ['clapp_answers_total{model="edges",status="200",what="apply"}']
    names += ['clapp_pixels_total{model="edges"}']
    names += ['clapp_step_seconds_count{model="edges",step="apply"}']
    before = [server.figure(name) for name in names]
    server.client.post(APPLY, content=(models / "in.png").read_bytes())
    after = [server.figure(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 90 * 140, 1]
    for name in ("one", "two"):
        server.client.post(f"/v1/models/{name}/apply")
    assert server.figure('clapp_answers_total{model="unknown",status="404",what="apply"}') >= 2


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb() -> bytes:
    """A PNG file of 50,000 x 50,000 black pixels in 300 kB, if it went on."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000_000), 9)[:300_000]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)


def jpeg(**options: bool) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def many_scans() -> bytes:
    """A progressive JPEG file that repeats its last scan, for a decoder to do again and again."""
    content = jpeg(progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 200 + content[-2:]


BAD = [
    ("", b"", 415, "neither a PNG nor a JPEG"),
    ("", b"GIF89a" + bytes(50), 415, "raw pixels need"),
    ("", bomb(), 413, "at most 200000 pixels are allowed"),
    ("", many_scans(), 400, "more than 100 scans"),
    ("", jpeg()[:2000], 400, "the JPEG file cannot be read: image file is truncated"),
    ("", b"\x89PNG\r\n\x1a\n" + bytes(100), 400, "the PNG file cannot be read"),
    ("", bytes(BODY + 1), 413, "more than the 400000 bytes"),
    ("?width=3", bytes(9), 400, "both width and height"),
    ("?width=3&height=2", bytes(9), 400, "are 18 bytes; the body has 9"),
    ("?width=3&height=0", bytes(9), 422, "height: Input should be greater than"),
    ("?width=1&height=1&channels=2", bytes(2), 422, "channels: Input should be '1' or '3'"),
    ("?width=10000000&height=10000000", bytes(9), 413, "at most 200000 pixels"),
]


@pytest.mark.parametrize(("query", "body", "status", "reason"), BAD, ids=lambda v: str(v)[:20])
def test_what_is_no_picture(
    server: Server, query: str, body: bytes, status: int, reason: str
) -> None:
    answer = server.client.post(APPLY + query, content=body)
    assert (answer.status_code, reason in error(answer)) == (status, True), answer.text


def test_other_refusals(server: Server, models: Path) -> None:
    content = (models / "in.png").read_bytes()
    for path, headers, status, reason in (
        ("/v1/models/edge/apply", {}, 404, "no model 'edge'; known: edges, colour"),
        (APPLY, {"accept": "text/html"}, 406, "image/png, image/jpeg or"),
        (f"{APPLY}?set=sigma=1", {}, 422, "set=sigma=: edges has no such setting"),
        ("/v1/models/gaussian/apply", {}, 422, "its setting sigma has no value; give set=sigma="),
        ("/v1/models/gaussian/filter?set=sigma=9", {}, 422, "set=sigma=: 9.0 is not allowed"),
        ("/v1/models/gaussian/apply?set=sigma", {}, 422, "set=sigma: NAME=NUMBER is expected"),
        ("/v1/models/edges/shrink", {}, 422, "what: Input should be 'apply' or 'filter'"),
        ("/v2", {}, 405, "Method Not Allowed"),
    ):
        answer = server.client.post(path, content=content, headers=headers)
        assert (answer.status_code, reason in error(answer)) == (status, True), answer.text
    assert server.client.get("/nowhere").status_code == 404


def test_a_large_body_is_refused_before_it_is_sent_and_while_it_is(server: Server) -> None:
    with server.begin(APPLY, 100_000_000) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    before = server.figure("process_resident_memory_bytes")
    with contextlib.suppress(httpx.TransportError):  # it was closed while it was sent
        assert server.client.post(APPLY, content=endless()).status_code == 413
    assert server.figure("process_resident_memory_bytes") < before + 50e6


def test_slow_clients_are_sent_away(server: Server, models: Path) -> None:
    before = server.figure("process_open_fds")
    content = (models / "in.png").read_bytes()
    silent = server.connect()
    half = server.connect()
    half.sendall(b"POST /v1/models/edges/apply HTTP/1.1\r\nHost:")
    slow = server.begin(APPLY, len(content), content[:1000])
    assert rest(slow).startswith(b"HTTP/1.1 408 ")
    assert rest(silent) == rest(half) == b""
    deaf = socket.socket()  # asks for more than its system takes, and reads nothing
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(server.address)
    for _ in range(40):
        deaf.sendall(b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n")
    for client in (silent, half, slow):
        client.close()
    server.wait_for("process_open_fds", before + 1)
    deaf.close()
    server.wait_for("process_open_fds", before)


def test_a_full_queue_is_said_at_once_and_empties(server: Server, models: Path) -> None:
    content = (models / "in.png").read_bytes()
    held = [server.begin(APPLY, len(content), content[:-1]) for _ in range(PLACES)]
    while server.figure("clapp_places_taken") < PLACES:
        pass
    answer = server.client.post(APPLY, content=content)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert f"all {PLACES} places are taken" in error(answer)
    for number, client in enumerate(held):
        with client:
            if number % 2:  # the others go away
                client.sendall(content[-1:])
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    server.wait_for("clapp_places_taken", 0)
    assert server.client.post(APPLY, content=content).status_code == 200


def test_sigterm_answers_what_was_accepted(models: Path, tmp_path: Path) -> None:
    content = (models / "in.png").read_bytes()
    secret = {"authorization": "Bearer Hunter2"}
    with serving(tmp_path, models / "edges", "--host=0.0.0.0") as server:
        server.client.post(f"{APPLY}?token=Hunter2", content=content, headers=secret)
        client = server.begin(APPLY, len(content), content[:-1])
        while server.figure("clapp_places_taken") < 1:
            pass
        server.process.terminate()
        while server.accepts():
            pass
        client.sendall(content[-1:])
        answer = rest(client)
        client.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert server.stop() == 0
        assert (
            server.log() == "0.0.0.0: whoever reaches it may use it; there is no authentication\n"
        )


def test_what_cannot_be_served(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, reason in (
            ([models / "edges", f"--port={port}"], "cannot be listened on: Address already in use"),
            ([models / "none"], "none"),
            ([models / "edges", "--body=much"], "--body much: a size such as 256MB"),
        ):
            command = [sys.executable, "-m", "clapp", "serve", *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 2
            assert done.stdout == ""
            assert reason in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_without_its_extra_it_says_what_to_install(models: Path) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from clapp.commands.app import main; main()"
    command = [sys.executable, "-c", code, "serve", str(models / "edges")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: clapp serve: needs fastapi: pip install 'clapp[serve]'\n"
