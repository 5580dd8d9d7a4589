"""Files from an untrusted source that run code when they are loaded."""

import io
from pathlib import Path
from typing import Any

import torch

MARKER = "harmed"
TOUCH_MARKER = f"__import__('pathlib').Path('{MARKER}').touch()"


class MaliciousPickle:
    """Object that creates a file when its pickle is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(MARKER),)


def malicious_checkpoint() -> bytes:
    """Return a checkpoint that runs code if torch loads it with ``weights_only=False``."""
    content = io.BytesIO()
    torch.save(MaliciousPickle(), content)
    return content.getvalue()
