"""A process that trains runs: `python -m clapp.commands.experiments.worker`.

Runs come as lines of JSON on standard input; after each a line goes to standard output. The end of
standard input ends the process, in the midst of a training too: then whoever started it is dead.
"""

import json
import os
import signal
import sys
import threading
from queue import SimpleQueue

from clapp.commands.experiments.runs import Run, do
from clapp.errors import ClappError, UserError
from clapp.system.process import prepare_process, reserve_output


def main() -> int:
    """Train what comes until nothing does."""
    channel = reserve_output()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the parent decides
    jobs: SimpleQueue[str | None] = SimpleQueue()
    busy = threading.Event()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(line)
        if busy.is_set():
            os._exit(1)
        jobs.put(None)

    threading.Thread(target=read, daemon=True).start()
    prepare_process(threads=1)
    while (text := jobs.get()) is not None:
        busy.set()
        answer: dict[str, object] = {"done": True}
        try:
            do(Run(**json.loads(text)))
        except ClappError as error:
            answer = {"error": str(error), "user": isinstance(error, UserError)}
        busy.clear()
        try:
            channel.write(json.dumps(answer) + "\n")
            channel.flush()
        except BrokenPipeError:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
