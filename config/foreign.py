"""The one place where any exception is caught: around code that is not ours."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from config.errors import UserError

_LIBRARY = re.compile(rf"site-packages|^{re.escape(sysconfig.get_path('stdlib'))}")


class ForeignError(UserError):
    """A plugin or an observer raised: the message names the error and its file:line."""


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Turn whatever the user's own code raises into one line that names it and the place."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        text = str(getattr(error, "msg", error)) or "no message"
        message = f"{what}: {type(error).__name__}: {text} (at {_place(error)})"
        raise ForeignError(message) from error


def _place(error: BaseException) -> str:
    """`file:line` of the innermost code that belongs neither to Python nor to a library."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[:1] != "<"]
    own = [f for f in frames if not _LIBRARY.search(f.filename)]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"
