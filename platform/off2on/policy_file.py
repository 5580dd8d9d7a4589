"""Exported policies read without running anything that their file says.

`torch.export.load` is made for files that one trusts: it unpickles parts of them, evaluates the text of
symbolic sizes, calls functions of torch by name, and loads compiled libraries (see torch's own warning). So a
file is read here first: what could run code is refused, and torch is given an archive that is written anew
from what was looked at. What is left are operators of torch (aten) on tensors and numbers.
"""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from off2on.errors import UserError

MODEL, INPUTS = "models/model.json", "data/sample_inputs/model.pt"
CONFIGS = {
    "weight": "data/weights/model_weights_config.json",
    "tensor": "data/constants/model_constants_config.json",
}
ARCHIVE = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
PAYLOAD = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+")

NAME = re.compile(r"[\w.+-]*", re.ASCII)
"""Of nodes, weights and devices: some of them become code, and can call nothing without brackets."""

ATEN = re.compile(r"torch\.ops\.aten\.(?!__)(\w+)\.(?!_)(\w+)", re.ASCII)
ARITHMETIC = re.compile(r"_operator\.(?:add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge)")
OTHERS = (
    "torch.ops.aten.__and__.Tensor",
    "torch.ops.aten.__or__.Tensor",
    "torch.ops.higher_order.wrap_with_set_grad_enabled",
)
WITH_TEXT = ("div", "div_", "gelu")
"""Operators that take text, none of which is the name of a file."""

KIND = re.compile(
    r"as_(?:none|(?:optional_)?tensors?|ints?|floats?|bools?|sym_(?:int|float|bool)s?|scalar_type|memory_format|"
    r"layout|device|graph|name|expr|string)"
)
"""Of an argument: no object, no function by name."""

SIZE = re.compile(
    r"Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|"
    r"True|False|integer|positive|nonnegative|[su]?\d+"
)
"""The words of which a symbolic size is made."""

CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")


DAMAGED = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What zip, JSON and torch raise on what they cannot read, however deep it is."""


class _RefusedError(Exception):
    """Why a file is not given to torch."""


def load_program(path: str | Path) -> nn.Module:
    """The module that `Policy.export` wrote.

    Raises:
        UserError: There is no such file, or it is none of a policy, or could run code when it is read.
    """
    try:
        content = _rewritten(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (_RefusedError, *DAMAGED) as error:
        why = str(error) if isinstance(error, _RefusedError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path} is not read as a policy: {why}.",
            "Expected what off2on writes as policy.pt: tensors and operators on them, no code, no pickle.",
        ) from None
    try:
        return torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # whatever torch makes of a graph that makes no sense
        raise UserError(
            f"{path} is not read as a policy: {type(error).__name__}.", str(error).partition("\n")[0]
        ) from None


def _rewritten(content: bytes) -> bytes:
    """The archive again, of members that were looked at."""
    members = _members(content)
    model = json.loads(members[MODEL])
    if model.get("guards_code") or model["graph_module"].get("treespec_namedtuple_fields"):
        raise _RefusedError("it brings code of its own")
    _without_notes(model)
    _look_at("", model)
    members[MODEL] = json.dumps(model).encode()
    for kind, name in CONFIGS.items():
        config = json.loads(members[name])
        _look_at("", config)
        for known in config["config"].values():
            if known["use_pickle"] is not False or not re.fullmatch(rf"{kind}_\d+", known["path_name"]):
                raise _RefusedError(f"{name} names a pickle")
    inputs = io.BytesIO()
    # As torch has no other way, a pickle: what is given to it is one that was written here.
    torch.save(torch.load(io.BytesIO(members[INPUTS]), weights_only=True), inputs)
    members[INPUTS] = inputs.getvalue()
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return result.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    """Name below the archive's folder to content, of all that an exported policy has."""
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            name = info.filename.partition("/")[2]
            known = name in (MODEL, INPUTS, *CONFIGS.values(), *ARCHIVE) or PAYLOAD.fullmatch(name)
            if not known or name in members or info.compress_type != zipfile.ZIP_STORED:
                raise _RefusedError(f"it holds {info.filename!r}, which an exported policy has not")
            members[name] = archive.read(info)
    if lacks := {MODEL, INPUTS, *CONFIGS.values()} - set(members):
        raise _RefusedError(f"it lacks {sorted(lacks)[0]}")
    return members


def _without_notes(value: Any) -> None:
    """Where nodes came from, which torch would look up by name."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _without_notes(each)
    if isinstance(value, dict) and "metadata" in value:
        value["metadata"] = {}


def _look_at(key: str, value: Any) -> None:
    """That nothing in a part of the description, known as `key`, is more than it should be."""
    if isinstance(value, list):
        for each in value:
            _look_at(key, each)
    elif isinstance(value, dict):
        if "target" in value:
            _look_at_node(value)
        for name, each in value.items():
            if not NAME.fullmatch(name) or (name.startswith("as_") and not KIND.fullmatch(name)):
                raise _RefusedError(f"its graph has {name!r}")
            _look_at(name, each)
    elif isinstance(value, str):
        fits = {
            "target": _is_operator,
            "expr_str": _is_size,
            "in_spec": _is_container,
            "out_spec": _is_container,
        }
        if not fits.get(key, NAME.fullmatch)(value):
            raise _RefusedError(f"its graph has the {key or 'text'} {value[:80]!r}")


def _look_at_node(node: dict[str, Any]) -> None:
    """That only operators which take no names of files are given text."""
    found = ATEN.fullmatch(str(node["target"]))
    if '"as_string' in json.dumps(node.get("inputs")) and (not found or found[1] not in WITH_TEXT):
        raise _RefusedError(f"its graph gives text to {node['target']!r}")


def _is_operator(target: str) -> bool:
    """Whether it is an operator on tensors, and not something else that is reached through torch."""
    if target in OTHERS or ARITHMETIC.fullmatch(target):
        return True
    found = ATEN.fullmatch(target)
    if not found:
        return False
    operator = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    return isinstance(operator, torch._ops.OpOverload)


def _is_size(text: str) -> bool:
    """Whether it is arithmetic with symbols, in sympy's words."""
    plain = re.sub(r"'([su]\d+)'", r"\1", text)
    return bool(re.fullmatch(r"[\w(),= -]*", plain, re.ASCII)) and all(
        SIZE.fullmatch(word) for word in re.findall(r"\w+", plain)
    )


def _is_container(text: str) -> bool:
    """Whether inputs and outputs are tuples, lists and dictionaries of tensors."""

    def plain(spec: Any) -> bool:
        context = json.loads(spec["context"]) if spec["context"] else None
        names = context if isinstance(context, list) else []
        return (
            spec["type"] in CONTAINERS
            and (context is None or names == context)
            and all(isinstance(name, str) and NAME.fullmatch(name) for name in names)
            and all(map(plain, spec["children_spec"]))
        )

    return plain(json.loads(text)[1])
