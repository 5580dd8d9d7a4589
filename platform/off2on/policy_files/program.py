"""Policy files: reading an exported policy without running code from the file.

`torch.export.load` is made for trusted files: it unpickles parts of them, evaluates the text of symbolic
sizes, calls functions of torch by name, and loads compiled libraries (see torch's own warning). Therefore a
file is checked here first: content that could run code is refused, and torch is given a new archive of the
checked content only, which consists of torch operators (aten) on tensors and numbers. Sizes are compared
with the content before anything of that size is allocated.
"""

import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from datasets_io.storage.documents import read_content
from off2on.errors import UserError
from off2on.policy_files.archive import (
    CONFIGS,
    DAMAGED,
    INPUTS,
    MODEL,
    RefusedPolicyError,
    check_inputs,
    check_payloads,
    parse_member,
    read_members,
)

MAX_BYTES = 2**29
"""Largest policy file."""

MAX_ELEMENTS = 2**26
"""Most elements of a tensor that the graph computes for two observations."""

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
    r"Symbol|Integer|Rational|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|"
    r"True|False|integer|positive|nonnegative|[su]?\d{1,12}"
)
"""Words allowed in a symbolic size; powers are not, whose digits could fill the memory."""

MAX_SIZE_TEXT = 1000
"""Longest symbolic size, in characters."""

CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")

EXPECTED = "Expected a file policy.pt written by off2on: tensors and operators on them, no code, no pickle."


def load_program(path: str | Path) -> nn.Module:
    """Load the module that `Policy.export` wrote.

    Raises:
        UserError: The file does not exist, is not a policy, or could run code when it is loaded.
    """
    if Path(path).is_dir():
        found = Path(path) / "policy.pt"
        place = f": {found}." if found.is_file() else ", policy.pt in the folder of a run."
        raise UserError(f"{path} is a folder, not a file.", f"Expected a policy file{place}")
    content = read_content(Path(path), MAX_BYTES, UserError)
    try:
        archive = _rewritten(content)
    except (RefusedPolicyError, UserError, *DAMAGED) as error:
        known = isinstance(error, RefusedPolicyError | UserError)
        why = str(error).rstrip(".") if known else f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is not a policy file: {why}.", EXPECTED) from None
    try:
        with _quiet():
            module = torch.export.load(archive).module()
        _check_shapes(module)
    except RefusedPolicyError as error:
        raise UserError(f"{path} is not a policy file: {error}.", EXPECTED) from None
    except Exception as error:  # torch raises many kinds for an inconsistent graph
        raise UserError(
            f"{path} is not a policy file: {type(error).__name__}.", str(error).partition("\n")[0]
        ) from None
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off torch's own report of what it cannot read, a traceback; the error that follows says it."""
    logger = logging.getLogger("torch.export")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _LargestResult(torch.fx.Interpreter):
    """Runs a graph and keeps the number of elements of the largest result of an operator."""

    largest = 0

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run a node, and note the size of its result."""
        result = super().run_node(n)
        if n.op == "call_function":
            tensors = [each for each in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(each)]
            self.largest = max([self.largest, *(each.numel() for each in tensors)])
        return result


def _check_shapes(module: nn.Module) -> None:
    """Run the graph on the shapes of two observations, without computing or allocating anything.

    Raises:
        RefusedPolicyError: It has no rows of actions as its result, or computes too large tensors.
        Exception: Any error of an operator whose inputs do not fit.
    """
    assert isinstance(module, torch.fx.GraphModule)
    (obs,) = (node for node in module.graph.nodes if node.op == "placeholder")
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        run = _LargestResult(module)
        two = torch.zeros(2, *obs.meta["val"].shape[1:])
        action, *log_prob = torch.utils._pytree.tree_leaves(run.run(two))
    if action.shape[:1] != (2,) or any(each.shape != (2,) for each in log_prob):
        raise RefusedPolicyError("its result is not one action for each observation")
    if run.largest > MAX_ELEMENTS:
        raise RefusedPolicyError(f"it computes a tensor of {run.largest:,} elements")


def _rewritten(content: bytes) -> io.BytesIO:
    """Return a new archive of the checked members."""
    members = read_members(content)
    model = parse_member(members, MODEL, dict[str, Any])
    if model.get("guards_code") or model["graph_module"].get("treespec_namedtuple_fields"):
        raise RefusedPolicyError("it contains code")
    _remove_metadata(model)
    _check_value("", model)
    members[MODEL] = json.dumps(model).encode()
    for kind, name in CONFIGS.items():
        plain = parse_member(members, name, dict[str, Any])
        _check_value("", plain)
        members[name] = json.dumps(plain).encode()
        check_payloads(kind, members)
    check_inputs(members[INPUTS])
    members[INPUTS] = b""  # torch unpickles them, and does without
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    result.seek(0)
    return result


def _remove_metadata(value: Any) -> None:
    """Empty the metadata of nodes in place, which torch would look up by name."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _remove_metadata(each)
    if isinstance(value, dict) and "metadata" in value:
        value["metadata"] = {}


def _check_value(key: str, value: Any) -> None:
    """Check the part `key` of a description, and all parts of it.

    Raises:
        RefusedPolicyError: A name or text could make torch run code.
    """
    if isinstance(value, list):
        for each in value:
            _check_value(key, each)
    elif isinstance(value, dict):
        if "target" in value:
            _check_node(value)
        for name, each in value.items():
            if not NAME.fullmatch(name) or (name.startswith("as_") and not KIND.fullmatch(name)):
                raise RefusedPolicyError(f"its graph has {name!r}")
            _check_value(name, each)
    elif isinstance(value, str):
        fits = {
            "target": _is_operator,
            "expr_str": _is_size,
            "in_spec": _is_container,
            "out_spec": _is_container,
        }
        if not fits.get(key, NAME.fullmatch)(value):
            raise RefusedPolicyError(f"its graph has the {key or 'text'} {value[:80]!r}")


def _check_node(node: dict[str, Any]) -> None:
    """Check that a node has the arguments of its operator, and text only for those in `WITH_TEXT`."""
    found = ATEN.fullmatch(str(node["target"]))
    if operator := _operator(str(node["target"])):
        given = {each["name"] for each in node["inputs"]}
        known = {each.name: each for each in operator._schema.arguments}
        needed = {name for name, each in known.items() if not each.has_default_value()}
        if wrong := sorted((given - set(known)) | (needed - given)):
            raise RefusedPolicyError(f"its graph calls {node['target']} with or without {wrong[0]!r}")
    if '"as_string' in json.dumps(node.get("inputs")) and (not found or found[1] not in WITH_TEXT):
        raise RefusedPolicyError(f"its graph passes text to {node['target']!r}")


def _is_operator(target: str) -> bool:
    """Return True if the target of a node is an operator on tensors."""
    return target in OTHERS or bool(ARITHMETIC.fullmatch(target)) or _operator(target) is not None


def _operator(target: str) -> torch._ops.OpOverload | None:
    """Return the operator of aten with this name; None if there is none."""
    found = ATEN.fullmatch(target)
    operator = found and getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    return operator if isinstance(operator, torch._ops.OpOverload) else None


def _is_size(text: str) -> bool:
    """Return True if the text is symbolic arithmetic in sympy's notation."""
    plain = re.sub(r"'([su]\d+)'", r"\1", text)
    fits = len(text) <= MAX_SIZE_TEXT and re.fullmatch(r"[\w(),= -]*", plain, re.ASCII)
    return bool(fits) and all(SIZE.fullmatch(word) for word in re.findall(r"\w+", plain))


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
