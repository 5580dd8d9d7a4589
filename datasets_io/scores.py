"""Normalise returns as D4RL does, and identify scores by data set, environment and horizon.

D4RL's references are mean returns of a random and of an expert policy in D4RL's own environments, with their
horizons, one pair a task, the same for every version of its data. In a successor of such an environment
(Gymnasium's -v5) with the same horizon they are a convention, not a measurement; elsewhere they are
not valid, and there is no normalised score.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datasets_io.episode import Array
from datasets_io.errors import SimulatorError, UserError
from datasets_io.imports import installed_version
from datasets_io.registry import D4RL, MINARI, OGBENCH, D4RLEntry, find, minari_counterpart, registry, task

ReferenceStatus = Literal["measured", "convention", "refused", "unknown"]
"""Validity of the D4RL references: measured in this environment, a convention in its successor, refused
elsewhere, or unknown."""


@dataclass(frozen=True)
class Key:
    """Identity of a score: two scores are comparable only if their keys agree, see `compare`.

    Args:
        data: "d4rl/hopper-medium-v2", "minari/mujoco/hopper/medium-v0", or a name given by the user.
        environment: Environment of the episodes, "Hopper-v5"; "d4rl/gym_mujoco/hopper" is D4RL's own.
        horizon: Time limit of the episodes in steps; None if there is none or it is unknown.
        simulator: Version and settings of a simulator whose scores depend on them: "ogbench 1.2.2,
            success_timing=pre".
    """

    data: str
    environment: str | None = None
    horizon: int | None = None
    simulator: str | None = None

    def __str__(self) -> str:
        steps = "" if self.horizon is None else f", {self.horizon:,} steps"
        simulator = "" if self.simulator is None else f" ({self.simulator})"
        return f"{self.data} in {self.environment or 'an unknown environment'}{steps}{simulator}"

    @property
    def task(self) -> str:
        """Task without versions; for a Minari counterpart the name in D4RL."""
        pair = minari_counterpart(self.data)
        name = pair.d4rl if pair else self.data.removeprefix(D4RL)
        if name.startswith(MINARI):
            name = "-".join(name.split("/")[-2:])
        return task(name)


def key(data: str, env_id: str | None = None, horizon: int | None = None) -> Key:
    """Return the key of scores on a data set.

    Args:
        data: Id or name of the data set.
        env_id: Environment of the episodes; None: the environment in which D4RL recorded its data.
        horizon: Time limit of the environment in steps; known for environments of D4RL.
    """
    name = data.removeprefix(D4RL)
    entry = registry().get(name)
    if entry is None:
        return Key(data, env_id, horizon)
    if env_id in (None, f"gym:{name}"):  # the real d4rl package registers its environments under such ids
        return Key(D4RL + name, D4RL + entry.family, horizon or entry.horizon)
    return Key(D4RL + name, env_id, horizon)


def key_of(manifest: Any, env_id: str | None = None, options: Mapping[str, Any] | None = None) -> Key:
    """Return the key of scores of a policy that was trained on a data set.

    Args:
        manifest: Manifest of the data set.
        env_id: Environment of the episodes; None: key of the recorded returns of the data.
        options: Options of the environment.
    """
    name, version = identity(manifest), manifest.source["options"].get("ogbench")
    if env_id is not None:
        found = key(name, env_id, horizon(env_id, options))
        return replace(found, simulator=_simulator(env_id, options or {}, version))
    if name.removeprefix(D4RL) in registry():
        return key(name)
    # Looking an environment up may import it: only where there are references to find.
    steps = horizon(manifest.env_id, manifest.env_options) if _entry(name) else None
    simulator = _simulator(manifest.env_id or "", manifest.env_options, version)
    return replace(key(name, manifest.env_id, steps), simulator=simulator)


def _simulator(env_id: str, options: Mapping[str, Any], recorded: str | None) -> str | None:
    """Return version and settings of OGBench's environments; None for others.

    From version 1.2 on, single tasks determine reward, success and end of a step from the state before the
    action, earlier ones from the state after it. The environments of `OGBENCH` have the former as default.

    Args:
        env_id: Id of the environment.
        options: Its options.
        recorded: Version with which the data were made, for a machine without ogbench.
    """
    if not env_id.startswith((OGBENCH, "ogbench:")):
        return None
    version = installed_version("ogbench") or recorded or "of an unknown version"
    is_new = not re.match(r"(0|1\.[01])\b", version)
    before = env_id.startswith(OGBENCH) or ("singletask" in env_id and is_new)
    timing = options.get("success_timing") or ("pre" if before else "post")
    sparse = ", sparse rewards" if options.get("sparse") else ""
    return f"ogbench {version}, success_timing={timing}{sparse}"


def identity(manifest: Any) -> str:
    """Return the identity of a data set: its Minari id if it came from Minari, else its name."""
    source = manifest.source
    name = source["options"].get("name") if source["kind"] == "Minari" else None
    return f"{MINARI}{name}" if isinstance(name, str) else str(manifest.name)


def horizon(env_id: str | None, options: Mapping[str, Any] | None = None) -> int | None:
    """Return the time limit of an environment in steps; None if it has none or it is unknown.

    Args:
        env_id: Id, as in `environments.make`.
        options: Options of the environment; `max_episode_steps` overrides the registered limit.
    """
    if env_id is None:
        return None
    steps: int | None = (options or {}).get("max_episode_steps")
    if steps is None:
        import gymnasium

        from datasets_io.environments import LEGACY, registered

        try:
            if env_id.startswith(LEGACY):
                from datasets_io.legacy_gym import time_limit

                return time_limit(registered(env_id))
            steps = gymnasium.spec(registered(env_id)).max_episode_steps
        except (gymnasium.error.Error, ImportError, SimulatorError):
            return None
    return steps if isinstance(steps, int) and steps > 0 else None  # -1: no limit, in Gymnasium


def reference_status(of: Key) -> tuple[ReferenceStatus, str]:
    """Return whether D4RL's references are valid for a key, and the reason as a sentence."""
    entry, name = _entry(of.data), of.data.removeprefix(D4RL)
    pair = minari_counterpart(of.data)
    if entry is None and pair is not None:
        return "refused", f"{of.data} is not D4RL's {pair.d4rl} ({pair.how})"
    if entry is None or entry.low is None:
        return "unknown", f"no reference returns are known for {of.data}"
    own = D4RL + entry.family
    successor = entry.gymnasium or (pair.environment if pair and pair.same else None)
    if of.environment not in (own, None) and _base(of.environment) != _base(successor):
        return "refused", f"D4RL's references belong to {own}, and {of.environment} is not its successor"
    # A name without a version identifies the task, not the data: its environment is then not compared.
    if of.horizon != entry.horizon and not (of.environment is None and name not in registry()):
        steps = "no limit" if of.horizon is None else f"{of.horizon:,}"
        return "refused", f"D4RL's references are for episodes of {entry.horizon:,} steps, not {steps}"
    if of.environment == own:
        return "measured", f"D4RL's references, measured in {own} with {entry.horizon:,} steps"
    where = of.environment or "the environment of these data"
    return "convention", f"a convention: D4RL's references were measured in {own}, not in {where}"


def _entry(data: str) -> D4RLEntry | None:
    """Return the entry with the references for a data set; None if there is none."""
    if not data.startswith(MINARI):
        return find(data)
    pair = minari_counterpart(data)
    return registry()[pair.d4rl] if pair and pair.same else None


def _base(env_id: str | None) -> str:
    """Return an environment's name without module, namespace and version."""
    return task(re.split(r"[:/]", env_id or "")[-1])


def reference(
    data: str | Key, env_id: str | None = None, horizon: int | None = None
) -> tuple[float, float] | None:
    """Return the returns that score 0 and 100; None if there are none (`reference_status` gives the reason).

    Args:
        data: A data set's id or name, or a key.
        env_id: See `key`.
        horizon: See `key`.
    """
    of = data if isinstance(data, Key) else key(data, env_id, horizon)
    entry = _entry(of.data)
    if reference_status(of)[0] not in ("measured", "convention"):
        return None
    return None if entry is None or entry.low is None or entry.high is None else (entry.low, entry.high)


def to_json(of: Key) -> dict[str, Any]:
    """Convert a key, and the result of `reference_status`, to plain values."""
    kind, why = reference_status(of)
    plain = {name: value for name, value in asdict(of).items() if name != "simulator" or value is not None}
    return {**plain, "standing": kind, "why": why}


def normalised(
    data: str | Key, returns: npt.ArrayLike, env_id: str | None = None, horizon: int | None = None
) -> Array | None:
    """Compute D4RL's score: 0 is the random policy, 100 the expert.

    Args:
        data: A data set's id or name, or a key.
        returns: Undiscounted returns of episodes, of any shape.
        env_id: See `key`.
        horizon: See `key`.

    Returns:
        Scores of the same shape, or None where there is no reference.
    """
    pair = reference(data, env_id, horizon)
    if pair is None:
        return None
    low, high = pair
    scores: Array = 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
    return scores


def mean_normalised(
    data: str | Key, returns: npt.ArrayLike, env_id: str | None = None, horizon: int | None = None
) -> float | None:
    """Return the mean of `normalised`."""
    scores = normalised(data, returns, env_id, horizon)
    return None if scores is None else float(scores.mean())


def compare(one: Key, other: Key) -> None:
    """Check that two scores are comparable.

    Raises:
        UserError: The data, the environments, the horizons or the simulators differ.
    """
    reasons = []
    pair = minari_counterpart(one.data)
    are_counterparts = pair is not None and pair == minari_counterpart(other.data)
    if one.data != other.data and not (are_counterparts and pair and pair.same):
        why = f": {pair.how}" if are_counterparts and pair else ""
        reasons.append(f"Different data: {one.data} and {other.data}{why}.")
    if one.environment != other.environment:
        places = " and ".join(place.environment or "an unknown one" for place in (one, other))
        reasons.append(f"Different environments: {places}.")
    if one.horizon != other.horizon:
        steps = ["no known limit" if k.horizon is None else f"{k.horizon:,} steps" for k in (one, other)]
        reasons.append(f"Different horizons: {' and '.join(steps)}, so returns are sums of other lengths.")
    if one.simulator != other.simulator:
        names = " and ".join(k.simulator or "an unknown one" for k in (one, other))
        reasons.append(f"Different simulators: {names}.")
    if reasons:
        raise UserError(f"scores on {one} and on {other} cannot be compared.", "\n".join(reasons))
