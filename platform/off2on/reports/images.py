"""Images of figures, and their form in a page."""

import base64
import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from PIL import Image


def png(figure: Figure, dpi: int = 144) -> bytes:
    """Return the figure as a PNG with 96 colours: it looks the same as true colour at a third of the size."""
    _show_as_written(figure)
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=dpi, facecolor="white")
    canvas.draw()
    red, green, blue, _ = np.moveaxis(np.asarray(canvas.buffer_rgba(), np.int32), -1, 0)
    colours, place, counts = np.unique(red << 16 | green << 8 | blue, return_inverse=True, return_counts=True)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1)
    palette = rgb[np.argsort(-counts, kind="stable")[:96]]
    nearest = np.abs(rgb[:, None] - palette).sum(-1).argmin(-1).astype(np.uint8)
    image = Image.fromarray(nearest[place].reshape(red.shape))
    image.putpalette(palette.astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, format="png", optimize=True, dpi=(dpi, dpi))
    return file.getvalue()


def image_of(figure: Figure, image: bytes) -> dict[str, Any]:
    """Return an image [bytes of a PNG] as a template takes it: base64 text, and the width in CSS pixels."""
    return {"image": base64.b64encode(image).decode(), "width": round(figure.get_figwidth() * 100)}


def _show_as_written(figure: Figure) -> None:
    """Switch off formulas between dollar signs, except in the ticks of logarithmic axes.

    Names come from files, and matplotlib raises where it cannot parse a formula.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        is_formula = isinstance(axis.get_major_formatter(), LogFormatter)
        for label in axis.get_ticklabels(which="both"):
            label.set_parse_math(is_formula)
