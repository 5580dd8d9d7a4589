"""Undocumented names of Ray are used in two modules only, and this Ray has each of them."""

import ast
import importlib
import inspect
import itertools
import os
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import ray
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

import datasets_io
import off2on
from datasets_io import Shards, ray_internals
from off2on.algorithms.iql import IQL
from off2on.rllib import rllib_internals
from off2on.rllib.algorithm import OfflineToOnline
from off2on.rllib.config import OfflineToOnlineConfig
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.module import RecipeModule

CORE = [
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER",
    "ray._private.utils.set_sigterm_handler",
    "ray._private.worker.connect",
    "ray._private.state.available_resources_per_node",
    "ray._private.services.canonicalize_bootstrap_address",
    "ray._private.authentication.authentication_token_setup.ensure_token_if_auth_enabled",
    "ray._private.authentication.authentication_token_setup.maybe_enable_token_auth_if_token_available",
    "ray._raylet.GcsClient",
    "ray._raylet.InnerGcsClient.check_alive",
    "ray.serve._private.replica.add_port_to_grpc_server",
    "ray._common.tls_utils.add_port_to_grpc_server",
    "ray._common.deprecation.logger",
    "ray.job_config.JobConfig",
    "ray.tune.registry._global_registry.contains",
    "ray.tune.registry._global_registry.get",
    "torch.distributed.distributed_c10d._set_pg_timeout",
]
"""The names that `datasets_io.ray_internals` and `off2on.rllib.rllib_internals` use."""

RLLIB = [
    "_is_online",
    "_dont_auto_sync_env_runner_states",
    "_model_config_auto_includes",
    "_make_modules_ddp_if_necessary",
    "_should_create_evaluation_env_runners",
    "_weights_seq_no",
    "_remote_config",
    "_ignore_ray_errors_on_env_runners",
    "_num_env_runners_dropped_lifetime",
    "_worker_manager",
    "_local_env_runner",
]
"""The attributes of RLlib's classes that `off2on.rllib.rllib_internals` sets."""

DOCUMENTED = {"_forward", "_forward_exploration"}
"""Methods with an underscore that RLlib asks users to override."""

ROOT = Path(__file__).parents[1]
HOMES = {Path(ray_internals.__file__), Path(rllib_internals.__file__)}


@pytest.mark.filterwarnings("ignore")  # Ray Serve uses deprecated names of Pydantic
@pytest.mark.parametrize("name", CORE)
def test_ray_has_the_name(name: str) -> None:
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        break
    for part in parts[count:]:
        assert hasattr(found, part), f"this Ray has no {name}: {found} has no {part}"
        found = getattr(found, part)


@pytest.mark.parametrize("name", ["_is_online", "_dont_auto_sync_env_runner_states"])
def test_rllib_reads_the_setting(name: str) -> None:
    assert name in vars(AlgorithmConfig()), f"RLlib's AlgorithmConfig has no {name}"


def test_rllib_adds_to_the_model_configuration_by_a_property() -> None:
    assert isinstance(vars(AlgorithmConfig)["_model_config_auto_includes"], property)


def test_rllib_wraps_modules_in_a_method() -> None:
    assert inspect.isfunction(vars(TorchLearner)["_make_modules_ddp_if_necessary"])


@pytest.mark.parametrize("kind", [TorchLearner, SingleAgentEnvRunner])
def test_rllib_counts_versions_of_weights(kind: type) -> None:
    assert "_weights_seq_no" in inspect.getsource(inspect.getmodule(kind)) + "".join(
        inspect.getsource(base) for base in kind.__mro__ if base.__module__.startswith("ray.")
    )


@pytest.mark.parametrize(
    "name",
    [
        "_remote_config",
        "_ignore_ray_errors_on_env_runners",
        "_num_env_runners_dropped_lifetime",
        "_worker_manager",
        "_local_env_runner",
    ],
)
def test_rllib_sets_the_attribute_of_a_group_of_runners(name: str) -> None:
    assert re.search(rf"self\.{name}\b.* = ", inspect.getsource(EnvRunnerGroup)), f"no EnvRunnerGroup.{name}"


def test_a_group_in_this_process_answers_as_one_of_rllib(toy: Shards, ray_session: None) -> None:
    config = IQL.configure("toy-pendulum").training(hidden=(16,)).online(10)
    one, other = rllib_internals.LocalEnvRunnerGroup(config=config), EnvRunnerGroup(config=config)
    for name in (
        "num_remote_env_runners",
        "num_healthy_remote_env_runners",
        "num_remote_worker_restarts",
        "num_env_runners_dropped_lifetime",
        "num_in_flight_async_reqs",
        "healthy_worker_ids",
        "probe_unhealthy_env_runners",
        "fetch_ready_async_reqs",
        "get_spaces",
    ):
        assert getattr(one, name)() == getattr(other, name)(), name
    for group in (one, other):
        group.sync_weights()
        group.sync_env_runner_states(config=config, env_steps_sampled=7)
        runner = group.local_env_runner
        assert group.foreach_env_runner(lambda runner: runner.worker_index) == [0]
        assert (runner.num_workers, runner.tune_trial_id) == (0, None)
        assert runner.num_env_steps_sampled_lifetime == 7
        group.stop()


def test_every_result_has_the_configuration(toy: Shards) -> None:
    config = IQL.configure("toy-pendulum").training(hidden=(16,), updates_per_call=1).offline(5)
    with config.build_algo() as algo:
        first = algo.train()["config"]
        assert first == Algorithm.get_auto_filled_metrics(algo)["config"]
        first["seed"] = 7
        assert algo.train()["config"]["seed"] == 0


@pytest.mark.parametrize(
    "kind", [OfflineToOnline, OfflineToOnlineConfig, RecipeEnvRunner, RecipeLearner, RecipeModule]
)
def test_no_other_class_overrides_an_undocumented_attribute(kind: type) -> None:
    theirs = {
        name for base in kind.__mro__ if base.__module__.startswith("ray.") for name in vars(base)
    } - DOCUMENTED
    own = {
        name
        for base in kind.__mro__
        if base.__module__.startswith("off2on.") and base.__module__ != rllib_internals.__name__
        for name in vars(base)
    }
    assert {name for name in own & theirs if re.match("_[a-z]", name)} - {"_abc_impl"} == set()


def test_no_other_module_uses_such_a_name() -> None:
    found = {
        f"{file}: {name}"
        for package in (datasets_io, off2on)
        for file in Path(str(package.__path__[0])).rglob("*.py")
        if file not in HOMES
        for name in _undocumented(ast.parse(file.read_text()))
    }
    assert found == set()


def test_every_name_is_in_the_table() -> None:
    for name in CORE:
        if name.startswith("ray.") and "Inner" not in name:
            assert any(name.startswith(f"{row}.") or name == row for row in _table()), name
    source = Path(str(rllib_internals.__file__)).read_text()
    assert [name for name in RLLIB if name not in source] == []


def test_the_interface_of_a_later_ray_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants

    monkeypatch.setenv(ray_internals._MULTI_NODE, "1")
    before = ray_constants.ENABLE_RAY_CLUSTER
    with ray_internals.loopback_only():
        assert not ray_constants.ENABLE_RAY_CLUSTER
        assert os.environ[ray_internals._MULTI_NODE] == "0"
    assert before == ray_constants.ENABLE_RAY_CLUSTER
    assert os.environ[ray_internals._MULTI_NODE] == "1"


def test_the_installed_ray_is_in_the_range_of_every_requirement() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*document["dependencies"], *itertools.chain(*document["optional-dependencies"].values())]
    ranges = {str(one.specifier) for one in map(Requirement, texts) if one.name == "ray"}
    assert len(ranges) == 1, "all extras have the same range"
    tested = SpecifierSet(ranges.pop())
    assert ray.__version__ in tested
    page = (ROOT / "platform" / "docs" / "install.md").read_text().split("## From source")[0].split()
    assert all(bound.version in [word.rstrip(",.") for word in page] for bound in tested)
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "docker" / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned in tested
    major, minor, *_ = Version(pinned).release
    assert f"{major}.{minor + 1}.0" not in tested, "a later Ray than the pinned one has not been tested"


def test_a_process_group_gets_the_timeout(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        rllib_internals.set_gradient_timeout(timedelta(seconds=7))
        backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
        assert backend.options._timeout == timedelta(seconds=7)
    finally:
        torch.distributed.destroy_process_group()


def _table() -> list[str]:
    names = re.findall(r"^``(ray\.[\w.]+)``", str(ray_internals.__doc__), re.MULTILINE)
    return [re.sub(r"\.deprecation$", ".deprecation.logger", name) for name in names]


def _undocumented(tree: ast.AST) -> Iterator[str]:
    """Yield the undocumented names of Ray that a module imports, reads, overrides or names in a string."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
            if node.attr in RLLIB:
                yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in RLLIB:
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if node.value in RLLIB or "\n" not in node.value else []
        yield from (name for name in names if re.match(r"(ray|torch\.distributed)\b[\w.]*\._", name))
        yield from (name for name in names if name in RLLIB)
