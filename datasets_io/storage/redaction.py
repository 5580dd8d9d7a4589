"""Remove passwords, keys and signatures from texts before they are stored or shown.

Found are values of environment variables whose names say so (WANDB_API_KEY), users and passwords in
addresses (s3://KEY:SECRET@bucket), signatures in their queries (?X-Amz-Signature=…), what is given to options
and names that say so (--password x, api_key=x), and keys known by their form (AKIA…, hf_…).
"""

import os
import re
from typing import Any

HIDDEN = "(hidden)"

_SHORTEST = 8
"""Characters of a value below which it may as well be a word."""

_WORD = r"(?:password|passwd|passphrase|secret|token|credential|api[-_]?key|access[-_]?key|private[-_]?key)"
_VARIABLE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PASSPHRASE|CREDENTIALS?)(?:_|$)")
_NAME = re.compile(rf"[\w.-]*{_WORD}s?(?:[-_]id)?", re.IGNORECASE)
_VALUE = r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)"
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)(?:[^\s'\"@:]*:[^\s'\"@]*|[^\s'\"@/]+)@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&][\w.-]*(?:sig|token|key|secret|credential|passw|auth)[\w.-]*=)[^\s&'\"]+", re.IGNORECASE
)
_SAID = re.compile(
    rf"((?<!\w)(?:--{_NAME.pattern}[=\s]\s*|{_NAME.pattern}['\"]?\s*[=:]\s*)){_VALUE}", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_FORMS = re.compile(r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|(?:hf|gh[pousr]|wandb_v\d)_\w{16,}|sk-[\w-]{16,})")


def redact(said: Any) -> Any:
    """Remove secrets from a text, or from all texts in dictionaries and lists."""
    if isinstance(said, dict):
        return {
            name: HIDDEN if isinstance(value, str) and _NAME.fullmatch(str(name)) else redact(value)
            for name, value in said.items()
        }
    if isinstance(said, list | tuple):
        return type(said)(redact(value) for value in said)
    return _redact(said) if isinstance(said, str) else said


def has_credentials(address: str) -> bool:
    """Return True if a user, a password or a signature stands in an address."""
    return bool(_USER.search(address) or _QUERY.search(address))


def _redact(text: str) -> str:
    for value in _values():
        text = text.replace(value, HIDDEN)
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_QUERY, _SAID):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _FORMS.sub(HIDDEN, _BEARER.sub(rf"\1 {HIDDEN}", text))


def _values() -> list[str]:
    """Return the values of secret environment variables, the longest first; file names are no secrets."""
    found = {
        value
        for name, value in os.environ.items()
        if _VARIABLE.search(name) and len(value) >= _SHORTEST and not value.startswith("/")
    }
    return sorted(found, key=len, reverse=True)
