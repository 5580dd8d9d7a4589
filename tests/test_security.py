"""Files of others run nothing, nobody else is listened to, and secrets stay out of what is written."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from malicious import MARKER, TOUCH_MARKER, MaliciousPickle

from datasets_io import Shards
from datasets_io.errors import Corrupt
from datasets_io.export import export_minari
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.minari import Minari
from datasets_io.sources.ogbench import OGBench
from datasets_io.sources.tabular import Table
from datasets_io.storage import locate
from datasets_io.storage.parquet import open_parquet
from datasets_io.storage.redaction import redact
from datasets_io.waymo.source import Waymo
from off2on.errors import UserError
from off2on.training.plan import Plan
from off2on.training.resume import untrusted_reason
from off2on.training.train import train


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which harm would show."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def objects(rows: int) -> pa.Table:
    """A table with a column of pickles, of the type by which Ray Data knows them."""
    kind = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    fields = [
        pa.field("rewards", pa.large_binary(), metadata=kind),
        pa.field("obs", pa.list_(pa.float64())),
        pa.field("actions", pa.list_(pa.float64())),
        pa.field("episode", pa.int64()),
    ]
    columns = [[pickle.dumps(MaliciousPickle())] * rows, [[1.0, 2.0]] * rows, [[0.5]] * rows, [0] * rows]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))


def test_a_table_runs_nothing(here: Path):
    import ray.data  # noqa: F401  (with it come types of columns that unpickle their cells)

    pq.write_table(objects(2), "mine.parquet")
    with pytest.raises(Corrupt, match=r"'rewards' of mine\.parquet.*Python objects"):
        ingest(Table(), "mine.parquet", here / "data", name="mine")
    assert not Path(MARKER).exists()
    pd.read_parquet("mine.parquet")["rewards"].to_numpy()
    assert Path(MARKER).exists(), "pandas alone would run it"


def test_types_of_columns_are_not_unpickled(here: Path):
    import ray.data  # noqa: F401

    for name in ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "arrow.py_extension_type"):
        kind = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(MaliciousPickle())}
        field = pa.field("obs", pa.list_(pa.float64()), metadata=kind)
        pq.write_table(pa.table([pa.array([[1.0]])], schema=pa.schema([field])), "typed.parquet")
        with suppress(Corrupt):
            open_parquet("typed.parquet", "typed.parquet").read()
        assert not Path(MARKER).exists()


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
    with pytest.raises(Corrupt, match="Python objects"):
        shards.read(shards.files[0], ["rewards"])
    assert not Path(MARKER).exists()


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
    with pytest.raises(Corrupt, match="Python objects"):
        ingest(Minari("lab/toy-v0"), folder, here / "data", name="mine")
    assert not Path(MARKER).exists()


@pytest.mark.parametrize("data_format", ["hdf5", "parquet", "arrow"])
@pytest.mark.parametrize("missing", [["observation_space", "action_space"], ["action_space"], []], ids=len)
def test_minari_makes_no_environment_of_a_file(
    data_format: str, missing: list[str], toy: Shards, here: Path, monkeypatch: pytest.MonkeyPatch
):
    """Minari's own reader makes it, if a space is missing."""
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    folder = export_minari(toy, "lab/toy-v0", data_format)
    Path("evil.py").write_text(TOUCH_MARKER)
    monkeypatch.syspath_prepend(here)
    metadata = json.loads((folder / "data/metadata.json").read_text())
    spec = {"id": "Evil-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {MARKER}"}}
    for name in ("off2on", *missing):
        del metadata[name]
    for entry in ("os:system", "evil:Env"):
        metadata["env_spec"] = json.dumps({**spec, "entry_point": entry})
        (folder / "data/metadata.json").write_text(json.dumps(metadata))
        with suppress(Corrupt):  # only HDF5 tells shapes without spaces
            shards = ingest(Minari("lab/toy-v0"), folder, here / "data", name="mine", overwrite=True)
            assert shards.env_id == f"{entry.partition(':')[0]}:Evil-v0"
            assert shards.observation_space.shape == (3,)
            assert shards.action_space.shape == (1,)
            np.testing.assert_array_equal(shards.read_all(["obs"])["obs"], toy.read_all(["obs"])["obs"])
            continue
        assert missing
        assert data_format != "hdf5"
    assert not Path(MARKER).exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("name", ["mine.npz", "mine.hdf5", "mine.tfrecord", "mine.parquet"])
def test_a_pickle_under_another_name_is_not_read(name: str, here: Path):
    Path(name).write_bytes(pickle.dumps(MaliciousPickle()))
    source = {"npz": OGBench(), "hdf5": D4RL(), "tfrecord": Waymo(), "parquet": Table()}[name.split(".")[1]]
    with pytest.raises(UserError):
        ingest(source, name, here / "data", name="mine")
    assert not Path(MARKER).exists()


def test_arrays_of_objects_are_refused(here: Path):
    harm = np.empty(3, object)
    harm[:] = [MaliciousPickle()] * 3
    np.savez("mine.npz", observations=harm, actions=harm, terminals=harm, rewards=np.zeros(3))
    with pytest.raises(UserError, match="object"):
        ingest(OGBench(), "mine.npz", here / "data", name="mine")
    with h5py.File("mine.hdf5", "w") as file:
        for name in ("observations", "actions", "rewards", "terminals"):
            file[name] = [pickle.dumps(MaliciousPickle(), 0)] * 3
    with pytest.raises(UserError):
        ingest(D4RL(), "mine.hdf5", here / "data", name="mine")
    assert not Path(MARKER).exists()


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
from off2on.commands.arguments import command_line
from off2on.training.plan import Plan
from off2on.training.train import train
import off2on.training.session

def fault(self, side, inner=off2on.training.session.Session._evaluate):
    os.write(2, ("a library says " + os.environ["LAB_DB_PASSWORD"] + "\\n").encode())
    print("somebody says", os.environ["WANDB_API_KEY"])
    if self.algo.updates == 20:
        raise RuntimeError("no answer from s3://AKIA:" + os.environ["AWS_SECRET_ACCESS_KEY"] + "@bucket/x")
    return inner(self, side)

off2on.training.session.Session._evaluate = fault
plan = Plan("bc", "toy-pendulum", hyperparameters={"hidden": "16,16", "batch_size": "16"}, updates=20,
            eval_every=10, eval_episodes=1, threads=1, command=command_line(), track=("mlflow",))
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


@pytest.mark.slow
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
    with pytest.raises(UserError, match=r"s3://\(hidden\)@bucket/data contains a user") as refused:
        locate(f"s3://key:{PLANTED[1]}@bucket/data")
    assert PLANTED[1] not in str(refused.value)


OWN_RAY = """
import sys
from datasets_io.local_ray import start_ray
import ray
start_ray(num_cpus=2)
ray.get([ray.remote(lambda: 1).remote() for _ in range(2)])
print("up", flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.mark.slow
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
    assert untrusted_reason(ours) is None
    assert untrusted_reason(theirs) == f"it lies outside {here / 'runs'}"
    assert untrusted_reason(theirs, here / "mail") is None
    (here / "runs/y").symlink_to(theirs)
    assert untrusted_reason(here / "runs/y") == f"it lies outside {here / 'runs'}"
    if os.geteuid() == 0:
        os.chown(ours / "class_and_ctor_args.pkl", 12345, -1)
        assert untrusted_reason(ours) == "another user wrote it"


@pytest.mark.slow
def test_a_run_from_elsewhere_says_so_before_it_is_read(
    toy: Shards, here: Path, ray_session: None, capfd: pytest.CaptureFixture[str]
):
    small = {"hidden": "16,16", "batch_size": "16"}
    plan = Plan(
        "td3_bc", "toy-pendulum", small, updates=2, eval_every=2, eval_episodes=1, threads=1, out="mail"
    )
    train(plan)
    assert "pickle" not in capfd.readouterr().err
    train(replace(plan, out="runs", source=str(plan.folder), online=1, strategy="append"))
    assert f"{plan.folder.absolute()}/checkpoints/handover is a pickle" in capfd.readouterr().err
