"""Name the file and line of the user's code that raised an error in a learner."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from datasets_io.imports import line_of_user
from off2on.errors import UserCodeError, UserError


@contextmanager
def user_lines_named() -> Iterator[None]:
    """Raise errors of the user's code as `UserCodeError`; others, such as defects of off2on, pass unchanged.

    An error is the user's if a function of the user was called on the way to it: a loss, a network, a
    strategy or an augmentation that is part of neither off2on, Python nor an installed package.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not (where := line_of_user(error)):
            raise
        words = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise UserCodeError(
            words, "The traceback is in log.txt in the folder of the run.", where=where
        ) from error


def call_named(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function in `user_lines_named`; it can be sent to another process."""
    with user_lines_named():
        return function(*args, **kwargs)
