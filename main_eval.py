"""Evaluate weights: `main_eval.py --common.config-file RECIPE --model.classification.pretrained W`.

Those of a detector are `--model.detection.pretrained W`; `cvnets-eval-det` is this, too.
"""

import sys

from engine.command_line import run


def main() -> int:
    """Parse, evaluate, return the exit code."""
    return run("eval", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
