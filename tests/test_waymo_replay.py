"""The simulator plays episodes back exactly, and what is not played back drives, reacts and is drawn."""

import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from toy_scene import toy_scene

from datasets_io import Source, environments
from datasets_io.driving.dynamics import CONTROLLERS
from datasets_io.driving.episodes import episodes
from datasets_io.driving.geometry import wrap_angle
from datasets_io.driving.picture import HEIGHT, WIDTH
from datasets_io.driving.simulator import WaymoReplay
from datasets_io.errors import BadValues, UnknownName
from datasets_io.ingestion.ingest import ingest
from off2on.simulators import WAYMO_REPLAY, register

DATA = Path(__file__).parents[2] / "shared" / "data"
REWARDS = ("reward_progress", "reward_collision", "reward_offroad")
METRICS = ("overlap", "offroad", "kinematic_infeasibility", "log_divergence", "progress_ratio")
FLOOR = np.array([6.0, 0.0], np.float32)


def play(env, episode):
    """Observations [T+1, D], rewards [T], infos and the last step's two flags, under an episode's actions."""
    scene, vehicle = episode.id.rsplit("/", 1)
    seen, told = env.reset(options={"scene": scene, "vehicle": int(vehicle)})
    assert told == {"scene": scene, "vehicle": int(vehicle)}
    rows, rewards, infos, ended = [seen], [], [], (False, False)
    for action in episode.actions:
        assert ended == (False, False)
        seen, reward, *ended, info = env.step(action)
        ended = tuple(ended)
        rows.append(seen)
        rewards.append(reward)
        infos.append(info)
    return np.stack(rows), np.array(rewards, np.float32), infos, ended


def is_played_back(env, episode):
    rows, rewards, infos, ended = play(env, episode)
    np.testing.assert_array_equal(rows, episode.obs)
    np.testing.assert_array_equal(rewards, episode.rewards)
    assert ended == (episode.terminated, episode.truncated)
    for name in (*REWARDS, "log_divergence"):
        played = np.array([info[name] for info in infos], np.float32)
        np.testing.assert_array_equal(played, episode.extras[name])
    return infos


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_stored_actions_bring_back_the_episode_exactly(controller, seed):
    env = WaymoReplay([toy_scene(seed)], controller=controller, vehicles="all", nearest=5)
    for episode in episodes(toy_scene(seed), controller=controller, vehicles="all", nearest=5):
        infos = is_played_back(env, episode)
        assert infos[0].keys() == {*REWARDS, *METRICS}
        assert infos[-1]["progress_ratio"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", ["scenario", "example"])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_real_episodes_are_brought_back_exactly(kind, controller):
    from datasets_io.waymo.records import read_scenes

    path = DATA / f"waymo-motion-{kind}.tfrecord"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the project")
    (scene,) = read_scenes(path)
    env = WaymoReplay([scene], controller=controller, vehicles="moving")
    for episode in episodes(scene, controller=controller, vehicles="moving"):
        infos = is_played_back(env, episode)
        if controller == "bicycle":
            assert not any(info["kinematic_infeasibility"] for info in infos)


def test_an_ending_by_collision_is_played_back_too():
    scene = toy_scene()
    scene.xy[3] = scene.xy[0, 50]  # the parked car stands in the lane
    env = WaymoReplay([scene], end_on_collision=True)
    (episode,) = episodes(scene, end_on_collision=True)
    assert episode.terminated
    assert is_played_back(env, episode)[-1]["overlap"] == 1


def turning_scene(gap):
    """The recording car drives 24 m east and then west: on a line `gap` m to the north, or in reverse."""
    scene = toy_scene()
    bend = 0.5 * gap * np.pi
    metres = 0.8 * (np.arange(91) - 10.0)
    xy = np.stack([24 - np.abs(24 - metres), np.zeros(91)], -1)
    heading = np.zeros(91)
    if gap:
        angle = np.clip((metres - 24) / bend, 0, 1) * np.pi
        xy = np.stack(
            [np.minimum(metres, 24) + 0.5 * gap * np.sin(angle), 0.5 * gap * (1 - np.cos(angle))], -1
        )
        xy[:, 0] -= np.maximum(metres - 24 - bend, 0)
        heading = wrap_angle(angle)
    scene.xy[0], scene.heading[0] = xy, heading
    scene.velocity[0] = np.gradient(xy, 0.1, axis=0)
    return scene


@pytest.mark.parametrize("gap", [0, 10])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_route_that_comes_back_gives_its_length(gap, controller):
    scene = turning_scene(gap)
    env = WaymoReplay([scene], controller=controller)
    (episode,) = episodes(scene, controller=controller)
    is_played_back(env, episode)
    progress = episode.extras["reward_progress"]
    assert progress.sum() == pytest.approx(env.car.route.length, abs=1)
    assert progress.sum() > 60
    assert (np.abs(progress) < 3).all()


def test_a_step_to_the_side_does_not_skip_a_part_of_the_route():
    scene = turning_scene(10)
    env = WaymoReplay([scene], controller="delta")
    env.reset(seed=0)
    infos = [env.step(np.array([0.0, 6.0, 0.0]))[-1] for _ in range(2)]
    assert [info["reward_progress"] for info in infos] == pytest.approx([0, 0], abs=0.1)


def test_it_is_an_environment_as_gymnasium_wants_it():
    env = gym.make(
        f"off2on.simulators:{WAYMO_REPLAY}", scenes=[toy_scene(0), toy_scene(1)], render_mode="rgb_array"
    )
    register()  # a second time does nothing
    with warnings.catch_warnings():
        # It recommends actions in [-1, 1] and bounded observations.
        warnings.filterwarnings(
            "ignore", message=".*WARN: (For Box action|A Box observation).*", category=UserWarning
        )
        check_env(env.unwrapped)
    first = [env.reset(seed=seed)[1]["scene"] for seed in range(10)]
    assert set(first) == {"toy-0", "toy-1"}
    assert first == [env.reset(seed=seed)[1]["scene"] for seed in range(10)]
    env.close()


def test_scenes_are_read_from_where_the_ingest_put_them(tmp_path):
    class Toys(Source):
        """Made scenes."""

        def episodes(self, part):
            for seed in range(3):
                yield from episodes(toy_scene(seed), vehicles="moving")

    shards = ingest(Toys(), None, tmp_path, name="toys")
    env = environments.make(WAYMO_REPLAY, {**shards.env_options, "vehicles": "moving"})
    stored = shards.read_all(["obs", "actions", "rewards"])
    (episode, *_) = episodes(toy_scene(0), vehicles="moving")
    is_played_back(env, episode)
    np.testing.assert_array_equal(np.asarray(stored["obs"])[:80], episode.obs[:80])
    assert env.reset(seed=3)[1]["scene"] in {"toy-0", "toy-1", "toy-2"}
    files = shards.path / "scenes"
    files.rename(shards.path / "away")  # a further environment does not look for the scenes again
    assert environments.make(WAYMO_REPLAY, shards.env_options).unwrapped.vehicles == "ego"


def test_full_throttle_runs_into_the_car_ahead_and_pays():
    env = WaymoReplay([toy_scene()], weights={"collision": 10.0})
    env.reset(seed=0)
    total, hits, ended = 0.0, 0, False
    while not ended:
        _, reward, terminated, ended, info = env.step(FLOOR)
        assert not terminated
        total += reward - 0.1 * info["reward_progress"] - info["reward_offroad"]
        hits += int(info["overlap"])
    assert hits > 0
    assert total == pytest.approx(-10 * hits, abs=1e-3)
    assert info["log_divergence"] > 50
    assert info["progress_ratio"] == pytest.approx(1, abs=0.02)  # past the end of the route


def test_leaving_the_road_costs():
    env = WaymoReplay([toy_scene()])
    env.reset(seed=0)
    offroad = [env.step(np.array([0.0, -0.05], np.float32))[-1]["offroad"] for _ in range(40)]
    assert offroad[0] == 0
    assert offroad[-1] == 1
    assert sorted(offroad) == offroad


def test_an_impossible_step_is_said_to_be_one():
    env = WaymoReplay([toy_scene()], controller="delta")
    env.reset(seed=0)
    info = env.step(np.array([2.0, 0.0, 0.0], np.float32))[-1]  # from 8 to 20 m/s
    assert info["kinematic_infeasibility"] == 1
    assert env.step(np.array([2.0, 0.0, 0.0], np.float32))[-1]["kinematic_infeasibility"] == 0


def test_an_action_outside_its_box_is_clipped():
    env = WaymoReplay([toy_scene()])
    env.reset(seed=0)
    far = env.step(np.array([60.0, 9.0]))[0]
    env.reset(seed=0)
    np.testing.assert_array_equal(far, env.step(np.array([6.0, 0.3]))[0])


def gap_behind(others):
    """Least distance of the overtaking car to the driven one, which moves into its lane and stops there."""
    scene = toy_scene()
    shift = np.float32(3.5)
    scene.xy[0, :, 1] += shift  # the recording car is in the left lane from the start
    env = WaymoReplay([scene], others=others)
    env.reset(seed=0)
    hits, gaps, ended = 0.0, [], False
    while not ended:
        *_, ended, info = env.step(np.array([-6.0 if env.now.states[0, 3] > 0.6 else 0.0, 0.0]))
        hits += info["overlap"]
        gaps.append(env.now.states[0, 0] - env.traffic[int(env.now.steps[0]), 2, 0])
    return min(gaps), hits


def test_others_react_if_asked_to():
    assert gap_behind("log")[1] > 0  # the recording drives through who stands there
    gap, hits = gap_behind("idm")
    assert hits == 0
    assert gap > 4.8


def test_reactive_traffic_begins_anew_with_every_episode():
    env = WaymoReplay([toy_scene()], others="idm")
    runs = []
    for _ in range(2):
        env.reset(seed=0)
        runs.append(np.stack([env.step(np.array([-3.0, 0.0]))[0] for _ in range(40)]))
    np.testing.assert_array_equal(*runs)


def test_the_picture_shows_the_driven_car_in_blue_and_a_crash_in_red():
    env = WaymoReplay([toy_scene()], render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    red, _, blue = picture[HEIGHT // 2, WIDTH // 2].astype(int)
    assert blue > red + 100
    for _ in range(79):
        info = env.step(FLOOR)[-1]
        if info["overlap"]:
            break
    red, _, blue = env.render()[HEIGHT // 2, WIDTH // 2].astype(int)
    assert red > blue + 100
    assert WaymoReplay([toy_scene()]).render() is None


def test_wrong_options_are_refused(tmp_path):
    scenes = [toy_scene()]
    with pytest.raises(BadValues, match="others is 'robots'"):
        WaymoReplay(scenes, others="robots")
    with pytest.raises(BadValues, match="one of: ego moving all"):
        WaymoReplay(scenes, vehicles="cars")
    with pytest.raises(BadValues, match="nearest is -2"):
        WaymoReplay(scenes, nearest=-2)
    with pytest.raises(BadValues, match="no term 'comfort'"):
        WaymoReplay(scenes, weights={"comfort": 1.0})
    with pytest.raises(UnknownName, match="nearest: bicycle"):
        WaymoReplay(scenes, controller="bike")
    with pytest.raises(UnknownName, match="contains no scene"):
        WaymoReplay(str(tmp_path))
    env = WaymoReplay(scenes)
    with pytest.raises(UnknownName, match="nearest: toy-0"):
        env.reset(options={"scene": "toy-1"})
    with pytest.raises(UnknownName, match=r"no vehicle 101 .*\n.*: 100"):
        env.reset(options={"vehicle": 101})
    parked = toy_scene(1)
    parked.xy[:] = 0
    env = WaymoReplay([*scenes, parked], vehicles="moving")
    with pytest.raises(BadValues, match="scene toy-1 has no vehicle to drive with vehicles='moving'"):
        env.reset(options={"scene": "toy-1"})
    with pytest.raises(BadValues, match="no scene has a vehicle"):
        WaymoReplay([parked], vehicles="moving").reset()
