"""Find out whether a stream is a terminal on which lines can be drawn again; imports nothing heavy."""

import os
from typing import TextIO


def can_redraw(stream: TextIO) -> bool:
    """Return True if a stream is a terminal that moves its cursor.

    A cell of a notebook that begins with ``!`` has a pseudo-terminal, too, but shows all that is written to
    it.
    """
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not _is_cell()


def _is_cell() -> bool:
    """Return True if the process was started by a kernel of Jupyter, which sets these variables."""
    is_ipykernel = os.environ.get("TERM") == "xterm-color" and "CLICOLOR_FORCE" in os.environ
    return is_ipykernel or "JPY_PARENT_PID" in os.environ
