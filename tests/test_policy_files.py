"""Policies of others run nothing when they are read."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from malicious import MARKER, TOUCH_MARKER, MaliciousPickle, malicious_checkpoint

from off2on.algorithms import find_algorithm
from off2on.errors import UserError
from off2on.policy import Policy, load_policy


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which harm would show."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Units:
    """Of the smallest policy: two observations, one action."""

    discrete = False
    obs_mean, obs_std = np.zeros(2, np.float32), np.ones(2, np.float32)
    action_low, action_high = -np.ones(1, np.float32), np.ones(1, np.float32)


@pytest.fixture(scope="module")
def exported() -> bytes:
    """A policy's file."""
    recipe = find_algorithm("bc")
    hp = recipe.Hyperparameters.parse({"hidden": (4, 4)}, "bc")
    nets = recipe.build_nets(gym.spaces.Box(-9, 9, (2,)), gym.spaces.Box(-1, 1, (1,)), hp)
    units: Any = Units()
    return Policy(recipe, nets, hp, units).export()


def changed(content: bytes, members: Mapping[str, bytes]) -> bytes:
    """The archive with other members."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        known = {info.filename: old.read(info) for info in old.infolist()}
        for name, data in (known | {f"archive/{name}": data for name, data in members.items()}).items():
            new.writestr(name, data)
    return result.getvalue()


def member(content: bytes, name: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read(f"archive/{name}"))


def with_model(change: Callable[[Any], object]) -> Callable[[bytes], Mapping[str, bytes]]:
    """Another description of the graph."""

    def members(content: bytes) -> Mapping[str, bytes]:
        model = member(content, "models/model.json")
        change(model)
        return {"models/model.json": json.dumps(model).encode()}

    return members


def with_pickle(folder: str, kind: str) -> Callable[[bytes], Mapping[str, bytes]]:
    """A weight, or a constant, that is a pickle."""

    def members(content: bytes) -> Mapping[str, bytes]:
        name = f"data/{folder}/model_{folder}_config.json"
        config = member(content, name)
        first = next(iter(config["config"].values()))
        first |= {"use_pickle": True, "path_name": f"{kind}_0"}
        harm = pickle.dumps(MaliciousPickle()) if kind == "opaque_obj" else malicious_checkpoint()
        return {name: json.dumps(config).encode(), f"data/{folder}/{kind}_0": harm}

    return members


def first_node(model: Any) -> Any:
    return model["graph_module"]["graph"]["nodes"][0]


def call(model: Any) -> None:
    """A node that calls a function of torch."""
    touch = {"name": "file", "arg": {"as_string": f"touch {MARKER}"}, "kind": 1}
    first_node(model).update(target="torch.os.system", inputs=[touch], outputs=[])


def write_file(model: Any) -> None:
    """A node that writes a file, by an operator of torch."""
    node = first_node(model)
    name = {"name": "filename", "arg": {"as_string": MARKER}, "kind": 1}
    node.update(target="torch.ops.aten.save.default", inputs=[node["inputs"][0], name])


def size(model: Any) -> None:
    """Replace a size by the text of a call."""
    values = model["graph_module"]["graph"]["tensor_values"].values()
    sizes = [size["as_expr"] for value in values for size in value["sizes"] if "as_expr" in size]
    sizes[0]["expr_str"] = TOUCH_MARKER


def rename(model: Any) -> None:
    """A name that is code when the graph is written down as Python."""
    text = json.dumps(model).replace('"obs"', json.dumps(f"obs = {TOUCH_MARKER}"))
    model.update(json.loads(text))


def containers(model: Any) -> None:
    signature = model["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")


HARM: dict[str, Callable[[bytes], Mapping[str, bytes]]] = {
    "weights": with_pickle("weights", "weight"),
    "constants": with_pickle("constants", "tensor"),
    "opaque objects": with_pickle("constants", "opaque_obj"),
    "torch's objects": with_pickle("constants", "custom_obj"),
    "older weights": lambda _: {"data/weights/model.pt": malicious_checkpoint()},
    "older constants": lambda _: {"data/constants/model.pt": malicious_checkpoint()},
    "sample inputs": lambda _: {"data/sample_inputs/model.pt": malicious_checkpoint()},
    "a call": with_model(call),
    "a file": with_model(write_file),
    "a size": with_model(size),
    "a name": with_model(rename),
    "containers": with_model(containers),
    "guards": with_model(lambda model: model.update(guards_code=[TOUCH_MARKER])),
    "a library": lambda _: {"data/aotinductor/model/model.so": b"ELF"},
    "another model": lambda _: {"models/other.json": b"{}"},
}


@pytest.mark.parametrize("harm", HARM)
def test_a_policy_runs_nothing(harm: str, exported: bytes, here: Path):
    Path("policy.pt").write_bytes(changed(exported, HARM[harm](exported)))
    with pytest.raises(UserError, match=r"policy\.pt is not a policy file"):
        load_policy("policy.pt")
    assert not Path(MARKER).exists()


@pytest.mark.parametrize("harm", ["weights", "constants", "opaque objects", "sample inputs", "a size"])
def test_torch_alone_would_run_it(harm: str, exported: bytes, here: Path):
    """Otherwise the test above shows nothing, and `programs` is no longer needed."""
    content = io.BytesIO(changed(exported, HARM[harm](exported)))
    with suppress(Exception):  # the result is no policy
        torch.export.load(content)
    assert Path(MARKER).exists()


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"PK\x03\x04", pickle.dumps(MaliciousPickle()), malicious_checkpoint()]
)
def test_a_file_that_is_no_policy_is_refused(content: bytes, here: Path):
    Path("policy.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"policy\.pt is not a policy file"):
        load_policy("policy.pt")
    assert not Path(MARKER).exists()


def test_members_that_come_twice_are_refused(exported: bytes, here: Path):
    content = io.BytesIO(exported)
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/models/model.json", archive.read("archive/models/model.json"))
    Path("policy.pt").write_bytes(content.getvalue())
    with pytest.raises(UserError, match=r"models/model\.json"):
        load_policy("policy.pt")


def test_a_policy_is_read_as_it_was_written(exported: bytes, here: Path):
    Path("policy.pt").write_bytes(changed(exported, {}))
    obs = torch.randn(5, 2)
    assert torch.equal(load_policy("policy.pt")(obs), torch.export.load(io.BytesIO(exported)).module()(obs))


def edited(content: bytes, name: str, change: Callable[[bytes], bytes | None]) -> bytes:
    """The archive with a changed member, or without it."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith(name):
                data = change(data) or b""
                if not data:
                    continue
            new.writestr(info.filename, data)
    return result.getvalue()


def replaced(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert before in data
        return data.replace(before, after)

    return change


CONFIG_OF_WEIGHTS = "data/weights/model_weights_config.json"
LINEAR, CONFIG = b"torch.ops.aten.linear.default", "weights_config.json"
DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "half a graph": ("model.json", lambda data: data[: len(data) // 2], "model.json"),
    "a deep graph": ("model.json", lambda _: b"[" * 200_000, "model.json"),
    "a list": ("model.json", lambda _: b"[]", "model.json"),
    "no graph": ("model.json", lambda _: b"{}", "graph_module"),
    "a function": ("model.json", replaced(LINEAR, b"os.system"), "os.system"),
    "no operator": ("model.json", replaced(LINEAR, b"torch.ops.aten.nothing.default"), "nothing"),
    "another operator": ("model.json", replaced(LINEAR, b"torch.ops.aten.empty.memory_format"), ""),
    "a file": ("model.json", replaced(LINEAR, b"torch.ops.aten.from_file.default"), ""),
    "a large size": ("model.json", replaced(b"Symbol", b"Pow"), "Pow"),
    "a weight is missing": ("weight_0", lambda _: None, "weight_0"),
    "a short weight": ("weight_0", lambda data: data[:5], "weight_0 has 5 bytes"),
    "a long weight": ("weight_0", lambda data: data + data, "weight_0"),
    "many elements": (CONFIG, replaced(b'"as_int": 4', b'"as_int": 800000000000'), "weight_"),
    "a negative size": (CONFIG, replaced(b'"as_int": 4', b'"as_int": -4'), "as_int"),
    "another width": (CONFIG, replaced(b'4}, {"as_int": 2}', b'2}, {"as_int": 4}'), ""),
    "an unknown type": (CONFIG, replaced(b'"dtype": 7', b'"dtype": 99'), "ScalarType"),
    "no inputs": ("sample_inputs/model.pt", lambda _: b"nothing", "zip"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_policy_is_refused_by_name(damage: str, exported: bytes, here: Path):
    name, change, told = DAMAGE[damage]
    Path("policy.pt").write_bytes(edited(exported, name, change))
    with pytest.raises(UserError, match=r"policy\.pt is not a policy file") as refused:
        load_policy("policy.pt")
    assert told in str(refused.value)


def test_compressed_members_are_not_read(exported: bytes, here: Path):
    with zipfile.ZipFile("policy.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/models/model.json", b" " * 2**26)
    with pytest.raises(UserError, match="compressed"):
        load_policy("policy.pt")
    inputs = io.BytesIO()
    with zipfile.ZipFile(inputs, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b" " * 2**26)
    Path("policy.pt").write_bytes(changed(exported, {"data/sample_inputs/model.pt": inputs.getvalue()}))
    with pytest.raises(UserError, match="compressed"):
        load_policy("policy.pt")


@pytest.mark.parametrize("place", ["/dev/zero", "/", "nowhere.pt"])
def test_only_regular_files_are_read(place: str):
    with pytest.raises(UserError, match="not a file"):
        load_policy(place)


def test_a_graph_that_would_fill_the_memory_is_refused(here: Path):
    class Large(torch.nn.Module):
        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return obs[:, :1] + torch.zeros(2**40).sum()

    rows = {"obs": {0: torch.export.Dim("rows")}}
    with torch.device("meta"):
        program = torch.export.export(Large(), (torch.zeros(2, 3),), dynamic_shapes=rows)
    torch.export.save(program, "policy.pt")
    content = Path("policy.pt").read_bytes()
    Path("policy.pt").write_bytes(
        edited(content, "model.json", lambda data: data.replace(b'"meta"', b'"cpu"'))
    )
    with pytest.raises(UserError, match="elements"):
        load_policy("policy.pt")


def test_a_policy_holds_only_what_its_actions_need(exported: bytes):
    names = member(exported, CONFIG_OF_WEIGHTS)["config"]
    assert names
    assert not [name for name in names if "std" in name]
