"""The one place where any exception is caught: around code that is not ours."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from config.errors import UserError


class ForeignError(UserError):
    """A plugin or an observer raised: the message names the error and its file:line."""


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Turn whatever the user's own code raises into one line that names it and the place."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}:{last.lineno}"
        raise ForeignError(f"{what}: {type(error).__name__}: {error} (at {where})") from error
