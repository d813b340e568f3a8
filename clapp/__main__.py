"""`python -m clapp`: the `clapp` command."""

import sys

if not sys.flags.safe_path:
    # The working directory comes last: a user's `random.py` there is not Python's.
    sys.path.append(sys.path.pop(0))

from clapp.commands.app import main

main()
