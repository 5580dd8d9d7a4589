"""RLlib's own settings: each has its effect, or is refused where it is given."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.errors import HyperparameterError, SimulatorError, UnknownName, UserError
from off2on.rllib.config import OfflineToOnlineConfig
from off2on.rllib.flat_parameters import FlatParameters
from off2on.rllib.rllib_settings import PASSED, REFUSED, settings

PAGE = Path(__file__).parents[1] / "platform/docs/rllib.md"
NOT_SETTINGS = {"copy", "get_config_for_module", "update_from_dict"}
REMOVED = {"build", "exploration", "rollouts", "get_marl_module_spec"}
"""Methods of RLlib's old API, which raise an error of their own."""


def methods() -> dict[str, list[str]]:
    """Every method of RLlib's configuration that returns it, and its arguments."""
    found = {}
    for name, function in inspect.getmembers(AlgorithmConfig, inspect.isfunction):
        signature = inspect.signature(function)
        if "Self" in str(signature.return_annotation) and not name.startswith("_"):
            found[name] = [*signature.parameters][1:]
    return {name: arguments for name, arguments in found.items() if name not in NOT_SETTINGS | REMOVED}


def test_the_table_has_every_argument_of_the_installed_rllib():
    table: dict[str, list[str]] = {}
    for method, name, _, _ in settings():
        table.setdefault(method, []).append(name)
    assert {method: sorted(names) for method, names in table.items()} == {
        method: sorted(names) for method, names in methods().items()
    }


def test_an_argument_of_two_methods_is_treated_alike():
    treatments: dict[str, set[str]] = {}
    for _, name, treatment, _ in settings():
        treatments.setdefault(name, set()).add(treatment)
    assert all(len(found) == 1 for found in treatments.values())


def test_what_is_refused_says_what_to_use():
    assert all(note for _, _, treatment, note in settings() if treatment == REFUSED)
    assert not any(note for _, _, treatment, note in settings() if treatment == PASSED)


@pytest.mark.parametrize(
    ("method", "name"), [(method, name) for method, name, kind, _ in settings() if kind == REFUSED]
)
def test_a_setting_without_effect_is_refused_where_it_is_given(method: str, name: str):
    config = IQL.configure()
    with pytest.raises(UserError) as refusal:
        getattr(config, method)(**{name: "something else"})
    assert name in refusal.value.what
    assert refusal.value.expected.startswith(("Instead: ", "No replacement: "))
    assert "Instead: no" not in refusal.value.expected


def test_defaults_are_not_refused():
    for method, name, _, _ in settings():
        config = IQL.configure()
        function = getattr(AlgorithmConfig, method)
        function_default = inspect.signature(function).parameters[name].default
        getattr(config, method)(**{name: function_default})
        # RLlib itself has moved restart_failed_sub_environments to another method, and refuses it here.
        if name in vars(config) and (method, name) != ("env_runners", "restart_failed_sub_environments"):
            getattr(config, method)(**{name: vars(config)[name]})


def test_rllibs_names_set_our_hyperparameters(data_root: Path):
    config = IQL.configure("toy-pendulum").training(lr=1e-2, gamma=0.5, train_batch_size_per_learner=64)
    hp = config.learners(num_learners=2).resolved.hp
    assert (hp.actor_lr, hp.critic_lr, hp.value_lr, hp.discount, hp.batch_size) == (1e-2,) * 3 + (0.5, 128)
    assert config.training(train_batch_size=32).resolved.hp.batch_size == 32
    assert config.training(batch_size=16).resolved.hp.batch_size == 16
    assert config.training(lr=1e-3, actor_lr=1e-5).resolved.hp.actor_lr == 1e-5
    assert config.resolved.hp.critic_lr == 1e-3


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda config: config.training(lr=[[0, 1e-3], [100, 1e-4]]), HyperparameterError),
        (lambda config: config.training(gamma="much"), HyperparameterError),
        (lambda config: config.training(grad_clip=-1), HyperparameterError),
        (lambda config: config.training(grad_clip_by="norms"), HyperparameterError),
        (lambda config: config.evaluation(evaluation_duration="auto"), UserError),
        (lambda config: config.evaluation(evaluation_config={"gamma": 0.5}), UserError),
        (lambda config: config.evaluation(evalution_interval=1), UnknownName),
        (lambda config: config.update_from_dict({"clip_rewards": True}), UserError),
        (lambda config: config.callbacks(PerEpisode), UserError),
    ],
)
def test_a_wrong_value_is_refused(wrong: Callable[[Any], Any], error: type[Exception]):
    with pytest.raises(error):
        wrong(IQL.configure())


class PerEpisode(RLlibCallback):
    """Needs RLlib's episodes."""

    def on_episode_end(self, **_: Any) -> None:
        """Do nothing."""


def test_a_dictionary_gives_the_same_configuration(data_root: Path):
    config = IQL.configure("toy-pendulum").training(gamma=0.5, expectile=0.9).offline(7)
    again = OfflineToOnlineConfig.from_dict(config.to_dict())
    assert (again.algo_class, again.offline_updates) == (IQL, 7)
    assert again.resolved.hp == config.resolved.hp == config.copy().resolved.hp
    assert again.update_from_dict({"gamma": 0.7, "beta": 1.0}).resolved.hp.discount == 0.7
    assert again.resolved.hp.beta == 1.0


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_gradients_are_clipped_as_torch_does(by: str):
    network = torch.nn.Linear(3, 2)
    flat = FlatParameters(network)
    gradients = [10 * torch.randn_like(parameter) for parameter in network.parameters()]
    flat.set_gradient(gradients)
    flat.clip_gradient(0.5, by)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    if by == "value":
        torch.nn.utils.clip_grad_value_(network.parameters(), 0.5)
    for group in [[one] for one in network.parameters()] if by == "norm" else [[*network.parameters()]]:
        if by != "value":
            torch.nn.utils.clip_grad_norm_(group, 0.5)
    expected = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    torch.testing.assert_close(flat.vector.grad, expected)


def test_evaluation_and_callbacks(data_root: Path):
    seen = []
    config = BC.configure("toy-pendulum").training(hidden=(16,), batch_size=16, threads=1, updates_per_call=2)
    config.offline(4).evaluation(evaluation_interval=2, evaluation_duration=2)
    config.callbacks(
        on_train_result=lambda **_: seen.append("train"),
        on_evaluate_end=lambda *, evaluation_metrics, **_: seen.append(evaluation_metrics),
    )
    with config.build_algo() as algo:
        assert "evaluation" not in algo.train()
        found = algo.train()["evaluation"]["env_runners"]
        assert found["num_episodes"] == 2
        assert algo.evaluate()["env_runners"] == found
    assert [type(one) for one in seen] == [str, dict, str, dict]


def test_evaluation_needs_an_environment(data_root: Path):
    with pytest.raises(SimulatorError):
        BC.configure("wide").evaluation(evaluation_interval=1).validate()


def test_the_page_shows_the_table():
    text = PAGE.read_text()
    for method, name, treatment, note in settings():
        assert f"| `{method}` | `{name}` | {treatment} | {note} |" in text
    assert text.count("\n| `") == len([*settings()])
