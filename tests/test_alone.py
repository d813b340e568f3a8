"""Workers stand still while one of them measures, and a killed one holds nobody up."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from clapp.system.alone import Alone


class Worker(threading.Thread):
    """Counts while nobody measures."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._alone, self.count, self.over = Alone(folder), 0, False

    def run(self) -> None:
        with self._alone.work():
            while not self.over:
                self._alone.rest()
                self.count += 1
                time.sleep(0.001)

    def counted(self, least: int) -> None:
        until, end = self.count + least, time.monotonic() + 30
        while self.count < until:
            assert time.monotonic() < end
            time.sleep(0.002)


def test_nobody_works_while_one_measures(tmp_path: Path) -> None:
    workers = [Worker(tmp_path), Worker(tmp_path)]
    for worker in workers:
        worker.start()
        worker.counted(3)
    mine = Alone(tmp_path)
    with mine.work():
        for _ in range(3):
            with mine.measure():
                before = [worker.count for worker in workers]
                time.sleep(0.05)
                assert [worker.count for worker in workers] == before
            for worker in workers:
                worker.counted(3)  # on it goes
    for worker in workers:
        worker.over = True
        worker.join(30)
        assert not worker.is_alive()


def test_two_that_measure_take_turns(tmp_path: Path) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def measure() -> None:
        nonlocal inside, most
        mine = Alone(tmp_path)
        for _ in range(20):
            with mine.work(), mine.measure():
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=measure, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most == 1


def test_a_killed_process_frees_its_locks(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from clapp.system.alone import Alone\n"
        "with Alone(Path(sys.argv[1])).measure():\n    print('in', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        worker = Worker(tmp_path)
        worker.start()
        time.sleep(0.1)
        assert worker.count == 0
        other.kill()
    worker.counted(3)
    worker.over = True
    worker.join(30)
