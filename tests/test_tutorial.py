"""The commands of docs/tutorial.md, run in an empty folder with a smaller budget."""

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx

ROOT = Path(__file__).parents[1]
BUDGET = (
    "--trials 3 --workers 1 --set train.max_iterations=60 --set train.min_iterations=20 "
    "--set train.starts=1 --set valid_data.num_images=2 --set train.validation_interval=20"
)


def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks)
    assert script.count("--timeout 3m") == 1
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("--timeout 3m", BUDGET)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(1, 1, 512, 512)" in done.stdout
    results = tmp_path / "results" / "my_filter"
    onnx.checker.check_model(onnx.load(results / "export" / "knee" / "model.onnx"))
    for name in ("filter.png", "edges.png", "results/my_filter/report.html"):
        assert (tmp_path / name).stat().st_size > 1000
    for name in re.findall(r"`(my_[\w.]+|schemas/)`", text):
        assert (tmp_path / name).exists(), name
