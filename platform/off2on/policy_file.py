"""Policy files: reading an exported policy without running code from the file.

`torch.export.load` is made for trusted files: it unpickles parts of them, evaluates the text of symbolic
sizes, calls functions of torch by name, and loads compiled libraries (see torch's own warning). Therefore a
file is checked here first: content that could run code is refused, and torch is given a new archive of the
checked content only, which consists of torch operators (aten) on tensors and numbers.
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
"""Names of nodes, weights and devices. Some of them become code, which calls nothing without brackets."""

ATEN = re.compile(r"torch\.ops\.aten\.(?!__)(\w+)\.(?!_)(\w+)", re.ASCII)
ARITHMETIC = re.compile(r"_operator\.(?:add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge)")
OTHERS = (
    "torch.ops.aten.__and__.Tensor",
    "torch.ops.aten.__or__.Tensor",
    "torch.ops.higher_order.wrap_with_set_grad_enabled",
)
WITH_TEXT = ("div", "div_", "gelu")
"""Operators with text arguments, none of which is a file name."""

KIND = re.compile(
    r"as_(?:none|(?:optional_)?tensors?|ints?|floats?|bools?|sym_(?:int|float|bool)s?|scalar_type|memory_format|"
    r"layout|device|graph|name|expr|string)"
)
"""Kinds of arguments; objects, and functions by name, are not among them."""

SIZE = re.compile(
    r"Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|"
    r"True|False|integer|positive|nonnegative|[su]?\d+"
)
"""Words allowed in a symbolic size."""

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
"""Exceptions of zip, JSON and torch on content that they cannot read."""


class _RefusedError(Exception):
    """Reason why a file is not given to torch."""


def load_program(path: str | Path) -> nn.Module:
    """Load the module that `Policy.export` wrote.

    Raises:
        UserError: The file does not exist, is not a policy, or could run code when it is loaded.
    """
    try:
        content = _rewritten(Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}.", "Expected a policy file written by off2on."
        ) from None
    except (_RefusedError, *DAMAGED) as error:
        why = str(error) if isinstance(error, _RefusedError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path} is not a policy file: {why}.",
            "Expected a file policy.pt written by off2on: tensors and operators on them, no code, no pickle.",
        ) from None
    try:
        return torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # torch raises many kinds for an inconsistent graph
        raise UserError(
            f"{path} is not a policy file: {type(error).__name__}.", str(error).partition("\n")[0]
        ) from None


def _rewritten(content: bytes) -> bytes:
    """Return a new archive of the checked members."""
    members = _members(content)
    model = json.loads(members[MODEL])
    if model.get("guards_code") or model["graph_module"].get("treespec_namedtuple_fields"):
        raise _RefusedError("it contains code")
    _remove_metadata(model)
    _check_value("", model)
    members[MODEL] = json.dumps(model).encode()
    for kind, name in CONFIGS.items():
        config = json.loads(members[name])
        _check_value("", config)
        for known in config["config"].values():
            if known["use_pickle"] is not False or not re.fullmatch(rf"{kind}_\d+", known["path_name"]):
                raise _RefusedError(f"{name} refers to a pickle")
    inputs = io.BytesIO()
    # Torch reads sample inputs from a pickle only: it is given one that is written here.
    torch.save(torch.load(io.BytesIO(members[INPUTS]), weights_only=True), inputs)
    members[INPUTS] = inputs.getvalue()
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return result.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    """Return the members of the archive by name, without the name of its top folder.

    Raises:
        _RefusedError: A member is missing, or is not one of an exported policy.
    """
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            name = info.filename.partition("/")[2]
            known = name in (MODEL, INPUTS, *CONFIGS.values(), *ARCHIVE) or PAYLOAD.fullmatch(name)
            if not known or name in members or info.compress_type != zipfile.ZIP_STORED:
                raise _RefusedError(f"it holds {info.filename!r}, which is not part of a policy file")
            members[name] = archive.read(info)
    if lacks := {MODEL, INPUTS, *CONFIGS.values()} - set(members):
        raise _RefusedError(f"it lacks {sorted(lacks)[0]}")
    return members


def _remove_metadata(value: Any) -> None:
    """Empty the metadata of nodes in place, which torch would look up by name."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _remove_metadata(each)
    if isinstance(value, dict) and "metadata" in value:
        value["metadata"] = {}


def _check_value(key: str, value: Any) -> None:
    """Check the part `key` of a description, and all parts of it.

    Raises:
        _RefusedError: A name or text could make torch run code.
    """
    if isinstance(value, list):
        for each in value:
            _check_value(key, each)
    elif isinstance(value, dict):
        if "target" in value:
            _check_node(value)
        for name, each in value.items():
            if not NAME.fullmatch(name) or (name.startswith("as_") and not KIND.fullmatch(name)):
                raise _RefusedError(f"its graph has {name!r}")
            _check_value(name, each)
    elif isinstance(value, str):
        fits = {
            "target": _is_operator,
            "expr_str": _is_size,
            "in_spec": _is_container,
            "out_spec": _is_container,
        }
        if not fits.get(key, NAME.fullmatch)(value):
            raise _RefusedError(f"its graph has the {key or 'text'} {value[:80]!r}")


def _check_node(node: dict[str, Any]) -> None:
    """Check that a node with text arguments is one of the operators in `WITH_TEXT`."""
    found = ATEN.fullmatch(str(node["target"]))
    if '"as_string' in json.dumps(node.get("inputs")) and (not found or found[1] not in WITH_TEXT):
        raise _RefusedError(f"its graph passes text to {node['target']!r}")


def _is_operator(target: str) -> bool:
    """Return True if the target of a node is an operator on tensors."""
    if target in OTHERS or ARITHMETIC.fullmatch(target):
        return True
    found = ATEN.fullmatch(target)
    if not found:
        return False
    operator = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    return isinstance(operator, torch._ops.OpOverload)


def _is_size(text: str) -> bool:
    """Return True if the text is symbolic arithmetic in sympy's notation."""
    plain = re.sub(r"'([su]\d+)'", r"\1", text)
    return bool(re.fullmatch(r"[\w(),= -]*", plain, re.ASCII)) and all(
        SIZE.fullmatch(word) for word in re.findall(r"\w+", plain)
    )


def _is_container(text: str) -> bool:
    """Return True if the text describes tuples, lists and dictionaries of tensors."""

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
