"""What a file of somebody else could do."""

import io
from pathlib import Path
from typing import Any

import torch

HARMED = "harmed"
CALL = f"__import__('pathlib').Path('{HARMED}').touch()"


class Harmful:
    """What a pickle could do."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(HARMED),)


def harmful_tensor() -> bytes:
    """What torch reads with ``weights_only=False``."""
    content = io.BytesIO()
    torch.save(Harmful(), content)
    return content.getvalue()
