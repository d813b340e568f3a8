"""Run a study: `python optimize.py --study sobel3`."""

from clapp.commands.optimize import main

if __name__ == "__main__":
    main()
