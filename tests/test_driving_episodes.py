"""Scenes as episodes: shapes, rewards by hand, endings, and how near real recordings are kept to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_scene import CURRENT, toy_scene

from datasets_io.driving.dynamics import CONTROLLERS, limits
from datasets_io.driving.episodes import episodes
from datasets_io.driving.idm import Followers
from datasets_io.driving.observation import columns
from datasets_io.driving.reward import Weights, combine
from datasets_io.driving.scene import Scene
from datasets_io.driving.world import POSITION, SEEN, VELOCITY, World
from datasets_io.errors import BadValues, UnknownName

DATA = Path(__file__).parents[2] / "shared" / "data"


def crash_scene():
    """The recording car drives straight through the parked one, which stands in its lane."""
    scene = toy_scene()
    xy = scene.xy.copy()
    xy[3] = xy[0, 50]
    return replace(scene, xy=xy)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_an_episode_of_the_recording_car(controller):
    scene = toy_scene()
    (episode,) = episodes(scene, controller=controller)
    model = CONTROLLERS[controller]
    episode.check()
    assert episode.id == "toy-0/100"
    assert episode.obs.shape == (81, len(columns(model)))
    assert (episode.obs.dtype, episode.actions.dtype) == (np.float32, np.float32)
    assert episode.actions.shape == (80, len(model.axes))
    assert (np.abs(episode.actions) <= limits(model)).all()
    assert (episode.terminated, episode.truncated) == (False, True)
    assert episode.extras.keys() == {
        *("reward_progress", "reward_collision", "reward_offroad"),
        *("log_divergence", "action_clipped"),
    }
    name, arrays = episode.scene
    again = Scene.from_arrays(name, arrays)
    np.testing.assert_array_equal(again.xy, scene.xy)
    assert (again.id, again.ego, again.dt) == (scene.id, scene.ego, scene.dt)


def test_rewards_are_metres_and_unit_penalties():
    scene = toy_scene()
    (episode,) = episodes(scene, controller="delta")
    path = np.hypot(*np.diff(scene.xy[0, CURRENT:], axis=0).T)
    np.testing.assert_allclose(episode.extras["reward_progress"], path, atol=0.02)
    assert not episode.extras["reward_collision"].any()
    assert not episode.extras["reward_offroad"].any()
    np.testing.assert_allclose(episode.rewards, 0.1 * episode.extras["reward_progress"], rtol=1e-6)
    weights = Weights(progress=0, collision=5, offroad=2)
    parts = {
        f"reward_{name}": np.array([value])
        for name, value in (("progress", 3), ("collision", -1), ("offroad", -1))
    }
    assert combine(parts, weights) == [-7]


def test_a_parked_car_off_the_road_pays_for_it():
    by_id = {episode.id: episode for episode in episodes(toy_scene(), vehicles="all")}
    assert (by_id["toy-0/103"].extras["reward_offroad"] == -1).all()
    assert (by_id["toy-0/103"].extras["reward_progress"] == 0).all()
    assert (by_id["toy-0/101"].extras["reward_offroad"] == 0).all()


def test_collisions_cost_and_may_end_an_episode():
    scene = crash_scene()
    (whole,) = episodes(scene)
    hits = np.flatnonzero(whole.extras["reward_collision"])
    # The boxes are 4.8 m long: they overlap while the centres are less than that apart, around step 50.
    apart = np.abs(scene.xy[0, CURRENT + 1 :, 0] - scene.xy[3, 0, 0])
    np.testing.assert_array_equal(hits, np.flatnonzero(apart < 4.8))
    assert (whole.length, whole.terminated) == (80, False)
    np.testing.assert_allclose(
        whole.rewards, 0.1 * whole.extras["reward_progress"] + whole.extras["reward_collision"], rtol=1e-5
    )
    (cut,) = episodes(scene, end_on_collision=True)
    assert (cut.length, cut.terminated, cut.truncated) == (hits[0] + 1, True, False)
    np.testing.assert_array_equal(cut.obs, whole.obs[: cut.length + 1])
    assert cut.extras["reward_collision"][-1] == -1


def test_who_is_driven():
    scene = toy_scene()
    assert [episode.id for episode in episodes(scene, vehicles="moving")] == [
        "toy-0/100",
        "toy-0/101",
        "toy-0/102",
    ]
    assert [episode.id[-3:] for episode in episodes(scene, vehicles="all")] == ["100", "101", "102", "103"]


def test_an_episode_ends_where_the_recording_loses_the_vehicle():
    scene = toy_scene()
    valid = scene.valid.copy()
    valid[1, 40] = False  # seen until 39, and again later
    valid[2, 15:] = False  # too short
    found = {episode.id[-3:]: episode for episode in episodes(replace(scene, valid=valid), vehicles="moving")}
    assert list(found) == ["100", "101"]
    assert found["101"].length == 39 - CURRENT
    assert found["101"].truncated


def test_a_recording_that_ends_with_its_warm_up_is_refused():
    scene = toy_scene()
    past = {
        name: getattr(scene, name)[:, : CURRENT + 1]
        for name in ("xy", "z", "heading", "velocity", "size", "valid")
    }
    with pytest.raises(BadValues, match="ends with its warm-up: it has 11 steps"):
        list(episodes(replace(scene, **past)))


def test_a_recording_car_that_is_lost_at_once_is_named():
    scene = toy_scene()
    valid = scene.valid.copy()
    valid[scene.ego, CURRENT + 1 :] = False
    with pytest.raises(BadValues, match=r"recording car of scene toy-0 is not seen at step 11") as caught:
        list(episodes(replace(scene, valid=valid)))
    assert "testing" not in caught.value.expected


def test_wrong_words_are_refused():
    with pytest.raises(BadValues, match="one of: ego moving all"):
        list(episodes(toy_scene(), vehicles="every"))
    with pytest.raises(UnknownName, match="nearest: delta"):
        list(episodes(toy_scene(), controller="delt"))


def followed(scene, driven=0):
    world = World(scene)
    traffic = world.traffic.copy()
    followers = Followers(world, driven)
    for step in range(CURRENT, 90):
        followers.step(traffic, step)
    return world.traffic, traffic, followers


def test_followers_keep_to_their_paths_and_others_to_the_recording():
    recorded, played, followers = followed(toy_scene())
    assert followers.indices.tolist() == [1, 2]
    np.testing.assert_array_equal(played[:, [0, 3, 4, 5]], recorded[:, [0, 3, 4, 5]])
    np.testing.assert_allclose(played[:, 1, 1], recorded[:, 1, 1], atol=1e-4)  # a straight lane
    speed = np.hypot(*played[CURRENT:, 1, VELOCITY].T)
    # Nobody is ahead of 1: it goes as fast as recorded, and a fifth faster at most.
    assert (speed >= speed[0] - 1e-4).all()
    assert (speed <= 1.2 * speed[0] + 1e-4).all()
    assert (played[CURRENT:, 1, SEEN] == 1).all()


def test_a_follower_stops_behind_what_stands_in_its_way():
    scene = toy_scene()
    xy = scene.xy.copy()
    xy[3] = xy[1, CURRENT] + [50, 0]
    _, played, _ = followed(replace(scene, xy=xy))
    gap = played[CURRENT:, 3, 0] - played[CURRENT:, 1, 0] - 4.8
    assert gap.min() > 1
    assert gap[-1] < 6
    assert np.hypot(*played[-1, 1, VELOCITY]) < 1
    braking = np.diff(np.hypot(*played[CURRENT:, 1, VELOCITY].T)) / 0.1
    assert braking.min() >= -6 - 1e-3


def test_a_follower_that_stood_at_the_end_stops_there():
    scene = toy_scene()
    xy, velocity = scene.xy.copy(), scene.velocity.copy()
    xy[1, 50:], velocity[1, 50:] = xy[1, 50], 0
    _, played, _ = followed(replace(scene, xy=xy, velocity=velocity))
    assert abs(played[-1, 1, 0] - xy[1, 50, 0]) < 2.5
    assert np.isfinite(played[..., POSITION]).all()


@pytest.fixture(scope="module", params=["scenario", "example"])
def real(request):
    from datasets_io.waymo.records import read_scenes

    path = DATA / f"waymo-motion-{request.param}.tfrecord"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the project")
    return list(read_scenes(path))


@pytest.mark.parametrize(("controller", "bar"), [("bicycle", 0.1), ("delta", 1e-3)])
def test_real_vehicles_are_kept_to(real, controller, bar):
    driven = [
        episode for scene in real for episode in episodes(scene, vehicles="moving", controller=controller)
    ]
    away = [float(episode.extras["log_divergence"].mean()) for episode in driven]
    clipped = float(np.concatenate([episode.extras["action_clipped"] for episode in driven]).mean())
    assert len(away) >= 14
    assert np.median(away) <= bar
    assert clipped < 0.05
    for episode in driven:
        episode.check()


def test_the_real_recording_car_hits_nothing_and_stays_on_the_road(real):
    for scene in real:
        (episode,) = episodes(scene)
        assert not episode.extras["reward_collision"].any()
        assert not episode.extras["reward_offroad"].any()
