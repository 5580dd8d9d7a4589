"""What tests share: one small data root, one Ray, and recipes with or without the machine around them."""

import gc
import logging
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import hypothesis
import numpy as np
import pytest
import shortcuts
import torch
from problems import SPACES, Problem, random_batch, small
from representatives import REPRESENTATIVES

from datasets_io import Episode, Shards, Source, storage
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole, ToyPendulum
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.recipe.hooks import Recipe

# The same examples in every run, and no deadline on a machine that others use.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

shortcuts.take()

LONGEST = [
    "cluster", "tune", "rollouts", "serve", "resume_online", "killed_processes", "compare", "cli",
    "imports", "local_ray", "tune_bucket", "learner", "learner_online", "learner_group", "batched_seeds",
    "pages_run", "tutorials", "ogbench_play",
    "compiled_updates", "traced_updates", "captured_updates", "numpy_networks",
    "contract_learner", "contract", "guard_resume", "extended_runs",
    "runner", "larger_than_memory", "transforms", "ope_command", "mirror",
    "foreign_files", "seeds", "presets", "trackers", "guard", "rllib_reads_shards",
    "chunk_acting", "steps", "chunks",
    "search_file", "s3", "ingest", "ingest_processes", "plan", "streaming", "handover",
    "online_settings", "without_ray", "site",
    "critic_head_recipes", "critic_heads", "critic_head_learning",
]  # fmt: skip
"""The files that take more than 15 s each, about longest first."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of a folder whose mark is excluded: bench, crash and learning."""
    if collection_path.parent != Path(__file__).parent or not collection_path.is_dir():
        return None
    return f"not {collection_path.name}" in config.option.markexpr or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by duration, so that no worker begins a long one when the others have no work left."""
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def fixed_numbers() -> None:
    """Every test begins with the same random numbers, and with one thread: the machine is shared."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files is one of these tests, for packages that leave theirs behind."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))  # for other processes
        yield folder


class Wide(Source):
    """Made data: lopsided action bounds, episodes that end and episodes that are cut off."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    action_space = gym.spaces.Box(np.array([-2, 0, -1], np.float32), np.array([1, 4, 1], np.float32))

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(1)
        for number in range(12):
            steps = int(rng.integers(20, 60))
            obs = 3 + 2 * rng.normal(size=(steps + 1, 5))
            actions = rng.uniform(self.action_space.low, self.action_space.high, (steps, 3))
            rewards = obs[:-1, 0] - np.square(actions).sum(1)
            yield Episode(obs, actions, rewards, terminated=number % 2 == 0)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What $OFF2ON_DATA names: toy-pendulum (4,000 rows in 4 files), wide and toy-cartpole."""
    root = tmp_path_factory.mktemp("data")
    ingest(ToyPendulum(episodes=20), None, root, name="toy-pendulum", rows_per_shard=1000)
    ingest(Wide(), None, root, name="wide", rows_per_shard=150)
    ingest(ToyCartPole(episodes=20), None, root, name="toy-cartpole", rows_per_shard=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFF2ON_DATA", str(root))
        yield root


@pytest.fixture(scope="session")
def toy(data_root: Path) -> Shards:
    """Pendulum by a scripted controller: 3 observations, 1 action in [-2, 2], 20 episodes of 200 steps."""
    return Shards(data_root / "toy-pendulum")


@pytest.fixture(scope="session")
def wide(data_root: Path) -> Shards:
    """No simulator, 5 observations, 3 actions with a box each, half of the episodes end by themselves."""
    return Shards(data_root / "wide")


@pytest.fixture(scope="session")
def cartpole(data_root: Path) -> Shards:
    """CartPole by a careless controller: 4 observations, 2 discrete actions, 20 episodes that all fall."""
    return Shards(data_root / "toy-cartpole")


@pytest.fixture(scope="module")
def ray_session(data_root: Path) -> Iterator[None]:
    """A real Ray on this machine, with more CPUs than there are, so that no actor waits for one.

    It ends with its file: the runs of other files start their own, or none. An idle one takes CPU, too.
    """
    import ray

    ray.shutdown()  # a test of another file that failed or was interrupted may have left its own connected
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    gc.collect()  # unfinished streams of Ray Data complain if they outlive Ray
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a local server that speaks S3."""
    pytest.importorskip("moto", reason="moto[server] is not installed")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> storage.Location:
    """A new, empty bucket of that server, to which the environment leads."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    for setting in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(setting, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}", method="PUT")).close()
    return storage.Location("s3", name)


@pytest.fixture(params=["disk", "bucket"])
def any_root(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty folder of data sets, on a disk and in a bucket."""
    return tmp_path / "data" if request.param == "disk" else request.getfixturevalue("bucket") / "data"


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's folder, and ours beside it."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
    return tmp_path / "minari"


@pytest.fixture(params=CATALOGUE)
def recipe(request: pytest.FixtureRequest) -> Any:
    """Every algorithm of the catalogue, one after the other."""
    return find_algorithm(request.param)


@pytest.fixture(params=REPRESENTATIVES)
def representative(request: pytest.FixtureRequest) -> Any:
    """One algorithm of each shape, for tests of the learner, which treats algorithms of a shape alike."""
    return find_algorithm(request.param)


@pytest.fixture(
    params=[
        name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.slow) for name in CATALOGUE
    ]
)
def recipe_slow(request: pytest.FixtureRequest) -> Any:
    """Every algorithm of the catalogue; all but one of each shape are marked slow."""
    return find_algorithm(request.param)


@pytest.fixture(name="small")
def small_hyperparameters() -> Callable[[Any], dict[str, Any]]:
    """small(recipe): hyperparameters that make it fast."""
    return small


@pytest.fixture
def problem(request: pytest.FixtureRequest) -> Callable[..., Problem]:
    """problem(recipe, **hyperparameters): networks, and a batch of 64 random transitions.

    Observations have 5 dimensions; actions have 3, or are one of 4 if the recipe's are discrete.
    """

    def make(recipe: Any, *, seed: int = 0, **hyperparameters: Any) -> Problem:
        hp = recipe.Hyperparameters.parse(small(recipe) | hyperparameters, recipe.__name__)
        if recipe.resolve.__func__ is not Recipe.resolve.__func__:
            shards: Shards = request.getfixturevalue("cartpole" if recipe.actions == "discrete" else "wide")
            hp = recipe.resolve(hp, shards)
        torch.manual_seed(seed)
        nets = recipe.build_nets(gym.spaces.Box(-9, 9, (5,)), SPACES[recipe.actions], hp)
        for name in nets.targets:
            for parameter in getattr(nets.target, name).parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return Problem(recipe, nets, random_batch(recipe, hp), hp)

    return make


@pytest.fixture
def build_learner(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """build_learner(recipe, data, **hyperparameters): the machine, in this process, without Ray."""
    shortcuts.keep_no_stacks(monkeypatch)

    def build(
        recipe: Any, data: str | None = None, *, seed: int = 0, updates: int = 100, **given: Any
    ) -> Any:
        data = data or ("toy-cartpole" if recipe.actions == "discrete" else "toy-pendulum")
        budget = given.pop("memory_budget", None)
        config = recipe.configure(data).data(memory_budget=budget).offline(updates)
        config = config.training(threads=1, **(small(recipe) | given)).debugging(seed=seed)
        learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
        learner.build()
        return learner

    return build
