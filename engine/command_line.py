"""The command line: one table of commands, each imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

try:
    from config.errors import StopRequested, UserError, suggestion
    from config.shadowing import check_our_modules
except ModuleNotFoundError as error:  # the guard is hidden, too
    if not str(error.name).startswith("config"):
        raise
    import config

    text = f"module 'config' of cvnets is hidden by {config.__file__}; "
    print(text + "run from another folder, or rename or uninstall the other one", file=sys.stderr)
    sys.exit(2)

# name -> what it does; the module of that name (- is _) has run(words) -> exit code
COMMANDS = {
    "train": "train from a recipe or on a folder of images: cvnets train RECIPE|FOLDER [key=value ...]",
    "eval": "evaluate weights: cvnets eval RECIPE|CHECKPOINT [key=value ...]",
    "verify": "published weights against their figures: cvnets verify RECIPE|all --data ROOT",
    "predict": "what weights say of images: cvnets predict CHECKPOINT IMAGE|FOLDER ...",
    "check": "the data of a recipe, or the channel order of weights: cvnets check RECIPE|WEIGHTS",
    "convert": "weights as another library names them: cvnets convert WEIGHTS OUT --to timm",
    "convert-data": "your labels as COCO's: cvnets convert-data yolo|voc-xml DIR --out DIR",
    "profile": "parameters, multiply-accumulates and activations: cvnets profile NAME|RECIPE",
    "list": "what is registered, and which recipes are shipped: cvnets list [KIND]",
    "explain": "type, default, meaning and origin of an option: cvnets explain KEY [RECIPE]",
    "shapes": "generate a data set: cvnets shapes --layout imagefolder --out DIR",
    "env": "versions and devices, for a bug report",
}
DONE, OUR_FAULT, USER_MISTAKE, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130

HELP = """usage: cvnets COMMAND [arguments]

{commands}

cvnets COMMAND --help shows the arguments of a command. The options of a recipe are shown by
cvnets list and cvnets explain; any of them can be given as key=value or as --key value.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run `cvnets ...`; the exit code is 0 (done), 2 (the user's mistake), 3 (stopped, saved)."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {n:{width}}  {t}" for n, t in COMMANDS.items())))
        return DONE if words else USER_MISTAKE
    if words[0] == "--version":
        from cvnets import __version__

        print(__version__)
        return DONE
    return run(words[0], words[1:])


def run(command: str, words: Sequence[str]) -> int:
    """Run one command; mistakes of the user are printed, one line each, without a traceback."""
    try:
        check_our_modules()
        if command not in COMMANDS:
            raise UserError(f"cvnets has no command {command!r} - {suggestion(command, COMMANDS)}")
        module = importlib.import_module(f"engine.commands.{command.replace('-', '_')}")
        code: int = module.run(list(words))
        return code
    except UserError as error:
        print(*error.lines(), sep="\n", file=sys.stderr)
        return USER_MISTAKE
    except SystemExit as request:  # --help
        return int(request.code or DONE)
    except StopRequested as request:
        print(f"stopped on request; {request}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `cvnets list | head`
        sys.stderr.close()
        return DONE
