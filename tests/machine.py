"""A machine of a cluster in a test: worker processes whose trainings take no time.

`python machine.py WORKERS` says that it is ready and reads a job from standard input. Workers
are forked, for importing everything eight times takes longer than the test; one that is killed is
replaced.
"""

import json
import os
import random
import secrets
import signal
import sys
import time
import traceback
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from clapp.study.running import objective, worker
from clapp.study.running.job import Job
from clapp.study.running.stop import Stop
from clapp.study.storage import storage


def train(config: Any, report: Any, _weights: Any = None) -> Any:
    time.sleep(random.uniform(0, 0.2))
    report(SimpleNamespace(step=1, seconds=0.1, l2=0.1))
    return SimpleNamespace(
        loss=1 / config.model.capacity,
        spread=None,
        stop_reason="iterations",
        iterations=1,
        seconds=0.1,
        timings={},
        device="cpu",
        optimizer="adam",
        starts=0,
        model=torch.nn.Linear(50, 50),  # too large for children to inherit its weights
    )


def start(job: Job, index: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        name = f"{job.worker}-{index}-{secrets.token_hex(3)}"
        worker.run(replace(job, index=index, worker=name), lambda *_, **__: None, Stop(), train)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> int:

    objective.keep = lambda *_: None
    storage.HEARTBEAT_SECONDS = 1
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    job = Job(**json.load(sys.stdin))
    workers = {start(job, index): index for index in range(int(sys.argv[1]))}
    failed = 0
    while workers:
        child, status = os.wait()
        index = workers.pop(child)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            workers[start(job, index)] = index
        else:
            failed += status != 0
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
