"""`python -m clapp`: the `clapp` command."""

from clapp.commands.app import main

main()
