"""RLlib's configuration, in which each setting has its effect or raises an error; see `rllib_settings`."""

import inspect
import numbers
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.utils.from_config import NotProvided

from off2on.errors import HyperparameterError, UnknownName, UserError
from off2on.rllib.rllib_internals import ManualConfig
from off2on.rllib.rllib_settings import MAPPED, REFUSED, TABLE, settings

ATTRIBUTES = {"framework": "framework_str"}
"""Arguments that RLlib stores under another name; some others get a leading underscore."""

HYPERPARAMETERS = {"gamma": "discount", "train_batch_size": "batch_size"}
CLIPS = ("value", "norm", "global_norm")
TRAINING = {name for method, name, _, _ in settings() if method == "training"}
"""The arguments of RLlib's method `training`."""
_SETTINGS = {name: (method, treatment, note) for method, name, treatment, note in settings()}


class CheckedConfig(ManualConfig):
    """Checks RLlib's settings where they are given, in its methods and in `update_from_dict`."""

    def hyperparameters_of(self, given: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters that RLlib's arguments of `training` set.

        Args:
            given: RLlib's arguments.
            rules: Rules of the algorithm's hyperparameters, by name.

        Raises:
            HyperparameterError: A value is not a number.
        """
        values: dict[str, Any] = {}
        for name, value in given.items():
            if _SETTINGS.get(name, ("", "", ""))[1] != MAPPED or value is None or value is NotProvided:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                schedule = "For a schedule, override the method lr of the algorithm." if name == "lr" else ""
                raise HyperparameterError(f"{name} must be a number: got {value!r}.", schedule)
            if name == "lr":
                values |= {rate: value for rate in rules if rate.endswith("_lr")}
            elif name in HYPERPARAMETERS:
                values[HYPERPARAMETERS[name]] = value
        return values

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Change settings by a dictionary, such as that of `to_dict` or a sample of Tune's.

        Raises:
            UserError: One of RLlib's settings has no effect here.
        """
        given = dict(config_dict)
        if "algo_class" in given:
            self.algo_class: Any = given.pop("algo_class")
        known = given.keys() & _SETTINGS.keys()
        changed = {name: given[name] for name in known if not self._is_unchanged(name, given[name])}
        for name, value in changed.items():
            check(self, _SETTINGS[name][0], {name: value})
        names = [name for name in changed if _SETTINGS[name][1] == MAPPED]
        names += given.keys() & self.algo_class.Hyperparameters.rules() if self.algo_class else ()
        mapped = {name: given.pop(name) for name in names}
        if mapped:
            self.training(**mapped)
        super().update_from_dict(given)
        return self

    def to_dict(self) -> Any:
        """Return the settings as RLlib's dictionary, with the algorithm's class, for one agent."""
        found = super().to_dict() | {"algo_class": self.algo_class}
        del found["policies"]  # which RLlib's own from_dict would change
        return found

    def _is_unchanged(self, name: str, value: Any) -> bool:
        """Return True if an argument is not given or has the present value."""
        if value is None or value is NotProvided:
            return True
        name = ATTRIBUTES.get(name, name)
        now = self.__dict__.get(name, self.__dict__.get(f"_{name}"))
        return type(value) is type(now) and bool(value == now)


def check(config: Any, method: str, given: Mapping[str, Any]) -> None:
    """Check arguments of one of RLlib's methods.

    Raises:
        UserError: One of them has no effect, or another one than in RLlib.
    """
    for name, value in given.items():
        _, treatment, note = _SETTINGS.get(name, (method, "", ""))
        if treatment == REFUSED and not config._is_unchanged(name, value):
            raise unsupported(f"{method}({name}={value!r})", note)
    for kind in _classes(given.get("callbacks_class")):
        for names, treatment, note in TABLE["callbacks"]:
            for name in names.split() if treatment == REFUSED else ():
                if getattr(kind, name, None) is not getattr(RLlibCallback, name):
                    raise unsupported(f"{kind.__name__}.{name}", note)
    overrides = given.get("evaluation_config")
    if isinstance(overrides, Mapping) and overrides.keys() - {"explore"}:
        others = ", ".join(sorted(overrides.keys() - {"explore"}))
        raise unsupported(f"evaluation(evaluation_config=…) with {others}", "only explore may differ")
    episodes = given.get("evaluation_duration", 1)
    if not isinstance(episodes, int) or episodes < 1:
        raise unsupported(f"evaluation(evaluation_duration={episodes!r})", "a number of episodes, 1 or more")
    clip, by = given.get("grad_clip"), given.get("grad_clip_by", CLIPS[0])
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float) or not clip > 0):
        raise HyperparameterError(f"grad_clip must be a number above 0, or None: got {clip!r}.")
    if by not in CLIPS:
        raise HyperparameterError(
            f"grad_clip_by must be one of {', '.join(CLIPS)}: got {by!r}.", given=str(by), known=CLIPS
        )


def unsupported(setting: str, note: str) -> UserError:
    """Return the error for a setting of RLlib's that has no effect.

    Args:
        setting: The setting, as it was given.
        note: What to use instead, or ``no replacement: WHY``.
    """
    hint = f"N{note[1:]}." if note.startswith("no replacement") else f"Instead: {note}."
    return UserError(f"RLlib's setting {setting} has no effect in off2on.", hint)


def _classes(given: Any) -> list[Any]:
    """Return a class or a list of classes as a list."""
    classes = given if isinstance(given, list | tuple) else [given]
    return [kind for kind in classes if isinstance(kind, type)]


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return one of RLlib's methods with `check` before it."""
    signature = inspect.signature(method)

    @wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in signature.parameters:
                known = [*signature.parameters][1:]
                what = f"RLlib's method {method.__name__} has no argument '{name}'."
                raise UnknownName(what, given=name, known=known)
        bound = signature.bind(self, *args, **kwargs).arguments.items()
        defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
        given = {name: value for name, value in bound if value is not self and value is not defaults[name]}
        check(self, method.__name__, given)
        try:
            return method(self, *args, **kwargs)
        except ValueError as error:  # a deprecated argument, or a value that RLlib refuses
            raise UserError(f"RLlib refuses {method.__name__}({', '.join(given)}): {error}") from error

    return checked


for _name in TABLE:
    setattr(CheckedConfig, _name, _checked(getattr(AlgorithmConfig, _name)))
