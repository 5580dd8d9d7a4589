"""Remove passwords, keys and signatures from texts before they are stored or shown.

Detected are values of environment variables with the name of a secret (WANDB_API_KEY), users and passwords in
addresses (s3://KEY:SECRET@bucket), signatures in their queries (?X-Amz-Signature=…), values of options and
names for secrets (--password x, api_key=x), and keys of a known form (AKIA…, hf_…).
"""

import os
import re
from typing import Any

HIDDEN = "(hidden)"

_SHORTEST = 8
"""Minimum length of a secret in characters; a shorter value may be an ordinary word."""

_WORD = r"(?:password|passwd|passphrase|secret|token|credential|api[-_]?key|access[-_]?key|private[-_]?key)"
_VARIABLE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PASSPHRASE|CREDENTIALS?)(?:_|$)")
_NAME = re.compile(rf"[\w.-]*{_WORD}s?(?:[-_]id)?", re.IGNORECASE)
_VALUE = r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)"
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)(?:[^\s'\"@:]*:[^\s'\"@]*|[^\s'\"@/]+)@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&][\w.-]*(?:sig|token|key|secret|credential|passw|auth)[\w.-]*=)[^\s&'\"]+", re.IGNORECASE
)
_ASSIGNED = re.compile(
    rf"((?<!\w)(?:--{_NAME.pattern}[=\s]\s*|{_NAME.pattern}['\"]?\s*[=:]\s*)){_VALUE}", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_FORMS = re.compile(r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|(?:hf|gh[pousr]|wandb_v\d)_\w{16,}|sk-[\w-]{16,})")


def redact(value: Any) -> Any:
    """Remove secrets from a text, or from all texts in dictionaries and lists."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if isinstance(item, str) and _NAME.fullmatch(str(name)) else redact(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(redact(item) for item in value)
    return _redact(value) if isinstance(value, str) else value


def has_credentials(address: str) -> bool:
    """Return True if an address contains a user, a password or a signature."""
    return bool(_USER.search(address) or _QUERY.search(address))


def _redact(text: str) -> str:
    for value in _values():
        text = text.replace(value, HIDDEN)
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_QUERY, _ASSIGNED):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _FORMS.sub(HIDDEN, _BEARER.sub(rf"\1 {HIDDEN}", text))


def _values() -> list[str]:
    """Return the values of secret environment variables, the longest first; paths are not secrets."""
    found = {
        value
        for name, value in os.environ.items()
        if _VARIABLE.search(name) and len(value) >= _SHORTEST and not value.startswith("/")
    }
    return sorted(found, key=len, reverse=True)
