"""Files of others run nothing, nobody else is listened to, and secrets stay out of what is written."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from datasets_io import Shards
from datasets_io.d4rl import D4RL
from datasets_io.errors import Corrupt
from datasets_io.export import export_minari
from datasets_io.ingest import ingest
from datasets_io.minari_sets import Minari
from datasets_io.ogbench_data import OGBench
from datasets_io.plain_parquet import open_parquet
from datasets_io.redaction import redact
from datasets_io.storage import locate
from datasets_io.tabular import Table
from datasets_io.waymo.source import Waymo
from off2on.algorithms import find_algorithm
from off2on.continuing import stranger
from off2on.errors import UserError
from off2on.plan import Plan
from off2on.policy import Policy, load_policy
from off2on.train import train

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
        harm = pickle.dumps(Harmful()) if kind == "opaque_obj" else harmful_tensor()
        return {name: json.dumps(config).encode(), f"data/{folder}/{kind}_0": harm}

    return members


def first_node(model: Any) -> Any:
    return model["graph_module"]["graph"]["nodes"][0]


def call(model: Any) -> None:
    """A node that calls a function of torch."""
    touch = {"name": "file", "arg": {"as_string": f"touch {HARMED}"}, "kind": 1}
    first_node(model).update(target="torch.os.system", inputs=[touch], outputs=[])


def write_file(model: Any) -> None:
    """A node that writes a file, by an operator of torch."""
    node = first_node(model)
    name = {"name": "filename", "arg": {"as_string": HARMED}, "kind": 1}
    node.update(target="torch.ops.aten.save.default", inputs=[node["inputs"][0], name])


def size(model: Any) -> None:
    """A size whose text is a call."""
    values = model["graph_module"]["graph"]["tensor_values"].values()
    sizes = [size["as_expr"] for value in values for size in value["sizes"] if "as_expr" in size]
    sizes[0]["expr_str"] = CALL


def rename(model: Any) -> None:
    """A name that is code when the graph is written down as Python."""
    text = json.dumps(model).replace('"obs"', json.dumps(f"obs = {CALL}"))
    model.update(json.loads(text))


def containers(model: Any) -> None:
    signature = model["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")


HARM: dict[str, Callable[[bytes], Mapping[str, bytes]]] = {
    "weights": with_pickle("weights", "weight"),
    "constants": with_pickle("constants", "tensor"),
    "opaque objects": with_pickle("constants", "opaque_obj"),
    "torch's objects": with_pickle("constants", "custom_obj"),
    "older weights": lambda _: {"data/weights/model.pt": harmful_tensor()},
    "older constants": lambda _: {"data/constants/model.pt": harmful_tensor()},
    "sample inputs": lambda _: {"data/sample_inputs/model.pt": harmful_tensor()},
    "a call": with_model(call),
    "a file": with_model(write_file),
    "a size": with_model(size),
    "a name": with_model(rename),
    "containers": with_model(containers),
    "guards": with_model(lambda model: model.update(guards_code=[CALL])),
    "a library": lambda _: {"data/aotinductor/model/model.so": b"ELF"},
    "another model": lambda _: {"models/other.json": b"{}"},
}


@pytest.mark.parametrize("harm", HARM)
def test_a_policy_runs_nothing(harm: str, exported: bytes, here: Path):
    Path("policy.pt").write_bytes(changed(exported, HARM[harm](exported)))
    with pytest.raises(UserError, match=r"policy\.pt is not read as a policy"):
        load_policy("policy.pt")
    assert not Path(HARMED).exists()


@pytest.mark.parametrize("harm", ["weights", "constants", "opaque objects", "sample inputs", "a size"])
def test_torch_alone_would_run_it(harm: str, exported: bytes, here: Path):
    """Otherwise the test above shows nothing, and `programs` is no longer needed."""
    content = io.BytesIO(changed(exported, HARM[harm](exported)))
    with suppress(Exception):  # what comes of it is no policy
        torch.export.load(content)
    assert Path(HARMED).exists()


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"PK\x03\x04", pickle.dumps(Harmful()), harmful_tensor()]
)
def test_what_is_no_policy_is_said_to_be_none(content: bytes, here: Path):
    Path("policy.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"policy\.pt is not read as a policy"):
        load_policy("policy.pt")
    assert not Path(HARMED).exists()


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


def objects(rows: int) -> pa.Table:
    """A table with a column of pickles, of the type by which Ray Data knows them."""
    kind = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    fields = [
        pa.field("rewards", pa.large_binary(), metadata=kind),
        pa.field("obs", pa.list_(pa.float64())),
        pa.field("actions", pa.list_(pa.float64())),
        pa.field("episode", pa.int64()),
    ]
    columns = [[pickle.dumps(Harmful())] * rows, [[1.0, 2.0]] * rows, [[0.5]] * rows, [0] * rows]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))


def test_a_table_runs_nothing(here: Path):
    import ray.data  # noqa: F401  (with it come types of columns that unpickle their cells)

    pq.write_table(objects(2), "mine.parquet")
    with pytest.raises(Corrupt, match=r"'rewards' of mine\.parquet.*made by code"):
        ingest(Table(), "mine.parquet", here / "data", name="mine")
    assert not Path(HARMED).exists()
    pd.read_parquet("mine.parquet")["rewards"].to_numpy()
    assert Path(HARMED).exists(), "pandas alone would run it"


def test_types_of_columns_are_not_unpickled(here: Path):
    import ray.data  # noqa: F401

    for name in ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "arrow.py_extension_type"):
        kind = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(Harmful())}
        field = pa.field("obs", pa.list_(pa.float64()), metadata=kind)
        pq.write_table(pa.table([pa.array([[1.0]])], schema=pa.schema([field])), "typed.parquet")
        with suppress(Corrupt):
            open_parquet("typed.parquet", "typed.parquet").read()
        assert not Path(HARMED).exists()


def test_shards_run_nothing(toy: Shards, here: Path):
    """A shard of the right size, whose manifest is right about it."""
    import ray.data  # noqa: F401

    shutil.copytree(str(toy.path), "evil")
    manifest = json.loads(Path("evil/manifest.json").read_text())
    shard = Path("evil/shards") / manifest["files"][0]["name"]
    pq.write_table(objects(manifest["files"][0]["rows"]), shard)
    manifest["files"][0]["bytes"] = shard.stat().st_size
    Path("evil/manifest.json").write_text(json.dumps(manifest))
    shards = Shards(Path("evil"))
    with pytest.raises(Corrupt, match="made by code"):
        shards.read(shards.files[0], ["rewards"])
    assert not Path(HARMED).exists()


@pytest.mark.parametrize("data_format", ["parquet", "arrow"])
def test_minari_runs_nothing(data_format: str, toy: Shards, here: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("minari")
    import ray.data  # noqa: F401

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    folder = export_minari(toy, "lab/toy-v0", data_format)
    path = next((folder / "data" / "0").glob(f"*.{data_format}"))
    with pa.OSFile(str(path), "wb") as file:
        if data_format == "parquet":
            pq.write_table(objects(201), file)
        else:
            with pa.ipc.new_file(file, objects(0).schema) as writer:
                writer.write_table(objects(201))
    with pytest.raises(Corrupt, match="made by code"):
        ingest(Minari("lab/toy-v0"), folder, here / "data", name="mine")
    assert not Path(HARMED).exists()


@pytest.mark.parametrize("name", ["mine.npz", "mine.hdf5", "mine.tfrecord", "mine.parquet"])
def test_a_pickle_under_another_name_is_not_read(name: str, here: Path):
    Path(name).write_bytes(pickle.dumps(Harmful()))
    source = {"npz": OGBench(), "hdf5": D4RL(), "tfrecord": Waymo(), "parquet": Table()}[name.split(".")[1]]
    with pytest.raises(UserError):
        ingest(source, name, here / "data", name="mine")
    assert not Path(HARMED).exists()


def test_arrays_of_objects_are_refused(here: Path):
    harm = np.empty(3, object)
    harm[:] = [Harmful()] * 3
    np.savez("mine.npz", observations=harm, actions=harm, terminals=harm)
    with pytest.raises(UserError, match="holds object"):
        ingest(OGBench(), "mine.npz", here / "data", name="mine")
    with h5py.File("mine.hdf5", "w") as file:
        for name in ("observations", "actions", "rewards", "terminals"):
            file[name] = [pickle.dumps(Harmful(), 0)] * 3
    with pytest.raises(UserError):
        ingest(D4RL(), "mine.hdf5", here / "data", name="mine")
    assert not Path(HARMED).exists()


def listening(mark: str) -> dict[str, set[str]]:
    """Command to addresses at which the processes listen that have a mark in their environment."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                sockets[f"socket:[{inode}]"] = local.partition(":")[0]
    found: dict[str, set[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if mark.encode() in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
                opened = {os.readlink(file) for file in (process / "fd").iterdir()}
                found[command] = {sockets[name] for name in opened & sockets.keys()}
    return found


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as /proc/net writes them."""

PLANTED = (
    "hunter2-of-the-cluster",
    "wJalrXUtnFEMI/K7MDENG",
    "0123456789abcdef0123456789abcdef01234567",
    "opensesame",
)
SECRETS = {"AWS_SECRET_ACCESS_KEY": PLANTED[1], "WANDB_API_KEY": PLANTED[2], "LAB_DB_PASSWORD": PLANTED[0]}

TRAINER = """
import os, sys
secret = sys.argv[1]
sys.argv = ["off2on", "train", "bc", "toy-pendulum", "--token", secret, f"https://me:{secret}@lab.org"]
from off2on.commands.train import _command
from off2on.plan import Plan
from off2on.train import train
import off2on.session

def fault(self, side, inner=off2on.session.Session._evaluate):
    os.write(2, ("a library says " + os.environ["LAB_DB_PASSWORD"] + "\\n").encode())
    print("somebody says", os.environ["WANDB_API_KEY"])
    if self.algo.updates == 20:
        raise RuntimeError("no answer from s3://AKIA:" + os.environ["AWS_SECRET_ACCESS_KEY"] + "@bucket/x")
    return inner(self, side)

off2on.session.Session._evaluate = fault
plan = Plan("bc", "toy-pendulum", hyperparameters={"hidden": "16,16", "batch_size": "16"}, updates=20,
            eval_every=10, eval_episodes=1, threads=1, command=_command(), track=("mlflow",))
train(plan)
"""


@pytest.fixture(scope="module")
def run_with_secrets(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run failed, in an environment that holds secrets and with some in its command."""
    lab = tmp_path_factory.mktemp("lab")
    environment = os.environ | SECRETS | {"OFF2ON_DATA": str(data_root)}
    environment |= {"MLFLOW_TRACKING_URI": (lab / "mlruns").as_uri()}
    (lab / "trainer.py").write_text(TRAINER)
    answer = subprocess.run(
        [sys.executable, "trainer.py", PLANTED[3]], cwd=lab, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "no answer from s3" in answer.stderr, answer.stderr
    return lab


def test_no_secret_is_written(run_with_secrets: Path):
    run = run_with_secrets / "runs/toy-pendulum/bc-s0"
    log = (run / "log.txt").read_text()
    for words in (
        "somebody says (hidden)",
        "a library says (hidden)",
        "no answer from s3://(hidden)@bucket/x",
    ):
        assert words in log
    about = yaml.safe_load((run / "run.yaml").read_text())
    assert about["command"] == "off2on train bc toy-pendulum --token (hidden) https://(hidden)@lab.org"
    written = [path for path in run_with_secrets.rglob("*") if path.is_file() and path.name != "trainer.py"]
    assert any("tfevents" in path.name for path in written)
    assert any("mlruns" in path.parts for path in written)
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in PLANTED if secret.encode() in content], path


@pytest.mark.parametrize("secret", PLANTED[:3])
@pytest.mark.parametrize("around", ["{}", "a {} b", "x={}&", "'{}'", "é{}é"])
def test_values_of_secret_variables_are_hidden(secret: str, around: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert secret not in redact({"a": [around.format(secret)]})["a"][0]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("--password x y", "--password (hidden) y"),
        ("api_key=x hidden=16,16", "api_key=(hidden) hidden=16,16"),
        ("AWS_SECRET_ACCESS_KEY='a b' off2on", "AWS_SECRET_ACCESS_KEY=(hidden) off2on"),
        ("s3://key:a/b+c@bucket/x", "s3://(hidden)@bucket/x"),
        ("https://h/x?a=1&X-Amz-Signature=f00&b=2", "https://h/x?a=1&X-Amz-Signature=(hidden)&b=2"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer (hidden)"),
        ("AKIAIOSFODNN7EXAMPLE", "(hidden)"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(said: str, written: str):
    assert redact(said) == written


@pytest.mark.parametrize(
    "said",
    [
        "off2on train iql hopper-medium-v2 actor_lr=3e-4 hidden=256,256 --utd 0.5 online.utd=2 @file.yaml",
        "s3://bucket/runs/hopper@1+",
        "its token in ~/.ray/auth_token",
        "127.0.0.1:6379 git@github.com:lab/runs.git",
        "entropy -3.2, q 120.5; ~/.netrc",
    ],
)
def test_what_is_no_secret_stays(said: str):
    assert redact(said) == said


def test_an_address_with_a_key_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"s3://\(hidden\)@bucket/data holds a user, a password") as refused:
        locate(f"s3://key:{PLANTED[1]}@bucket/data")
    assert PLANTED[1] not in str(refused.value)


OWN_RAY = """
import sys
from datasets_io.own_ray import start_ray
import ray
start_ray(num_cpus=2)
ray.get([ray.remote(lambda: 1).remote() for _ in range(2)])
print("up", flush=True)
sys.stdin.read()
ray.shutdown()
"""


def test_our_own_ray_listens_to_this_machine_alone():
    """What `train`, `tune`, `serve` and `data add` start."""
    mark = f"OFF2ON_MARK={uuid.uuid4().hex}"
    environment = os.environ | dict([mark.split("=")])
    with subprocess.Popen(
        [sys.executable, "-c", OWN_RAY],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = listening(mark)
        process.communicate("")
    assert any("gcs_server" in command for command in found)
    assert any("raylet" in command for command in found)
    assert set().union(*found.values()), "somebody listens"
    assert {command: at for command, at in found.items() if not at <= LOOPBACK} == {}


def test_a_checkpoint_of_somebody_else_is_told(here: Path):
    ours, theirs = here / "runs/x/checkpoints/handover", here / "mail/x/checkpoints/handover"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
        (folder / "class_and_ctor_args.pkl").touch()
    assert stranger(ours) is None
    assert stranger(theirs) == f"it lies outside {here / 'runs'}"
    assert stranger(theirs, here / "mail") is None
    (here / "runs/y").symlink_to(theirs)
    assert stranger(here / "runs/y") == f"it lies outside {here / 'runs'}"
    if os.geteuid() == 0:
        os.chown(ours / "class_and_ctor_args.pkl", 12345, -1)
        assert stranger(ours) == "another user wrote it"


def test_a_run_from_elsewhere_says_so_before_it_is_read(
    toy: Shards, here: Path, ray_session: None, capfd: pytest.CaptureFixture[str]
):
    small = {"hidden": "16,16", "batch_size": "16"}
    plan = Plan(
        "td3_bc", "toy-pendulum", small, updates=2, eval_every=2, eval_episodes=1, threads=1, out="mail"
    )
    train(plan)
    assert "pickled" not in capfd.readouterr().err
    train(replace(plan, out="runs", source=str(plan.folder), online=1, strategy="append"))
    assert f"{plan.folder.absolute()}/checkpoints/handover is pickled" in capfd.readouterr().err
