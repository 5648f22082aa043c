"""Train from a recipe: `main_train.py --common.config-file RECIPE`."""

import sys

from engine.command_line import run


def main() -> int:
    """Parse, train, return the exit code."""
    return run("train", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
