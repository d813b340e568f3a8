"""`python -m clapp`: the `clapp` command."""

from clapp.cli import main

main()
