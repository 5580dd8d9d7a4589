"""Typeset the equations of docstrings, which are written in ASCII, as HTML.

A block becomes a table of three columns: an objective, a symbol, and the definition of the symbol.
"""

import re
from html import escape

from markdown_text import docstring, fence

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "eps": "ε", "eta": "η", "theta": "θ", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "Phi": "Φ",
}  # fmt: skip
OPERATORS = {"!=": "≠", "<=": "≤", ">=": "≥", "<-": "←", "...": "…"}
_WORD = re.compile(rf"(?<![A-Za-z])({'|'.join(GREEK)})(\d?)(?![A-Za-z\d])")
_SUBSCRIPT = re.compile(r"(?<=[^\s_])_(\{[^}]*\}|\([\w]\)|[A-Za-z]\+1\b|[A-Za-z\d]+(?:,[a-z]\b(?=[(']))?)")
_POWER = re.compile(r"\^(\([^()]*\)|[A-Za-z\d]+)")
_LABEL = re.compile(r"([a-z][a-z_ ]*?|G\(s\))\s{2,}(?=\S)")
_SYMBOL = re.compile(r"(\S{1,10})\s*(=\s.*)|(\S{1,4})\s{2,}(.*)")


def with_equations(text: str) -> str:
    """Return a docstring as Markdown in which indented blocks with equations are typeset.

    Lines are written ``objective  SYMBOL = definition``; a line without one of these continues the one above.
    """
    return docstring(text, block=_block)


def _block(block: str) -> str:
    if not re.search(r" (=|<-) ", block):
        return fence(block)
    rows = "\n".join(_row(line) for line in block.splitlines() if line.strip())
    return f'<table class="equations">\n{rows}\n</table>'


def _row(line: str) -> str:
    label, rest = "", line.strip()
    found = None if line.startswith(" ") else _LABEL.match(line)
    if found:
        label, rest = found[1], line[found.end() :]
    elif not line.startswith(" ") and not _SYMBOL.fullmatch(rest):
        return f'<tr><td colspan="3">{typeset(rest)}</td></tr>'
    symbol = _SYMBOL.fullmatch(rest)
    left, right = ((symbol[1] or symbol[3]), (symbol[2] or symbol[4])) if symbol else ("", rest)
    return f"<tr><th>{escape(label)}</th><td>{typeset(left)}</td><td>{typeset(right)}</td></tr>"


def typeset(text: str) -> str:
    """Return a line of ASCII mathematics as HTML: Greek letters, subscripts, powers, bars and operators."""
    parts = re.split(r"`+([^`]+)`+", text)
    for index in range(0, len(parts), 2):
        parts[index] = _mathematics(parts[index])
    for index in range(1, len(parts), 2):
        parts[index] = f"<code>{escape(parts[index])}</code>"
    return "".join(parts)


def _mathematics(text: str) -> str:
    for ascii_, sign in OPERATORS.items():
        text = text.replace(ascii_, sign)
    text = re.sub(r"<(\w+, \w+)>", r"⟨\1⟩", text)
    text = re.sub(r"{(\w) in (\w)}", r"{\1 ∈ \2}", text)
    text = re.sub(r"\bgrad(?=_)", "∇", text)
    text = re.sub(r"\bsum(?=_)", "Σ", text)
    text = re.sub(r"\bQbar\b", "Q̄", text)
    text = re.sub(r"\b([ar])~", "\\1\u0303", text)
    text = text.replace(" ~ ", " ∼ ")
    text = re.sub(r"(?<![A-Za-z])-(?=[\s\w(\[|])", "−", text)
    text = re.sub(r"'(?=s\b)|(?<=[a-z]{2}s)'(?= )", "’", text)
    text = text.replace("''", "″").replace("'", "′")
    text = re.sub(r" {2,}", "\u2003", text)
    text = _SUBSCRIPT.sub(lambda found: f"\x01{_inside(found[1])}\x02", escape(text, quote=False))
    text = _POWER.sub(lambda found: f"\x03{_inside(found[1])}\x04", text)
    text = _WORD.sub(_greek, text)
    for mark, tag in zip("\x01\x02\x03\x04", ("<sub>", "</sub>", "<sup>", "</sup>"), strict=True):
        text = text.replace(mark, tag)
    return text


def _inside(text: str) -> str:
    """Return the content of a subscript or power without the brackets that only group it."""
    grouped = text.startswith("{") or (text.startswith("(") and len(text) > len("(k)"))
    content = (text[1:-1] if grouped else text).replace("-", "−")
    return _WORD.sub(lambda found: GREEK[found[1]] + found[2], content)


def _greek(found: re.Match[str]) -> str:
    return GREEK[found[1]] + (f"<sub>{found[2]}</sub>" if found[2] else "")
