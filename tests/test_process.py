import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from clapp.system.process import keep_memory
import numpy as np

if sys.argv[1] == "kept":
    keep_memory()

def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use() -> None:
    arrays = [np.ones(1 << 18) for _ in range(40)]  # 2 MiB each, and freed again

use()
before = faults()
for _ in range(10):
    use()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    counted = {
        kind: int(subprocess.check_output([sys.executable, "-c", PROGRAM, kind], text=True))
        for kind in ("kept", "default")
    }
    # 10 rounds of 80 MiB are 200,000 pages when each comes anew.
    assert counted["kept"] < 1000 < counted["default"]
