"""Zoos trained in groups, over devices, and resumed from finished groups."""

import shutil

import jax
import numpy as np
import optax
import pytest

from tests.cases import cases
from wfm.devices import device_mesh
from wfm.tasks import load_task
from wfm.weights import AsTrained, mlp
from wfm.zoo import Schedule, train_zoo
from wfm.zoo.train import _compiled

TASK = load_task("iris")
SPEC = mlp(4, 6, 3)
N = 7


def initial(seed=0):
    keys = jax.random.split(jax.random.key(seed), N)
    return jax.jit(jax.vmap(AsTrained(SPEC).prior(0.5).sample))(keys)


def train(start=0, stride=7, key=1, **options):
    schedule = Schedule(epochs=8, batch_size=16, burn_in=3, stride=stride)
    start = initial(start)
    return train_zoo(SPEC, TASK, start, optax.adam(1e-2), jax.random.key(key), schedule, **options)


@pytest.fixture(scope="module")
def whole():
    return train()


def assert_same(zoo, other, atol=0.0):
    assert jax.tree.structure(zoo) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), zoo, other)


WAYS = {
    f"{at_once} at once, devices {devices}": (at_once, devices)
    for at_once, devices in [(1, None), (3, None), (99, None), (6, 1), (3, 8), (99, 8)]
}
OFTEN = ("3 at once, devices None",)


@pytest.mark.parametrize(("at_once", "devices"), cases(WAYS, OFTEN))
def test_groups_and_devices_do_not_change_the_networks(whole, at_once, devices):
    done = []
    mesh = device_mesh(devices) if devices else None
    zoo = train(at_once=at_once, mesh=mesh, report=done.append)
    assert_same(whole, zoo, atol=1e-4)
    assert done == {1: [1, 2, 3, 4, 5, 6, 7], 3: [3, 6, 7], 6: [4, 7], 99: [7]}[at_once]


def test_all_groups_share_a_compilation(monkeypatch):
    traces = []

    def counted(run, data, mesh):
        def traced(*arguments):
            traces.append(1)
            return run(*arguments)

        return _compiled(traced, data, mesh)

    monkeypatch.setattr("wfm.zoo.train._compiled", counted)
    train(at_once=2)
    assert len(traces) == 1


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A zoo trained in groups of three, and the folder that keeps them."""
    folder = tmp_path_factory.mktemp("zoo") / "groups"
    zoo = train(at_once=3, folder=folder)
    names = ["000000-000002.safetensors", "000003-000005.safetensors", "000006-000008.safetensors"]
    assert sorted(p.name for p in folder.iterdir()) == names
    return zoo, folder


@pytest.fixture
def finished(grouped, tmp_path):
    """A folder of finished groups, and when each was written."""
    folder = shutil.copytree(grouped[1], tmp_path / "groups")
    return folder, times(folder)


def times(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.glob("*.safetensors"))}


def test_the_same_call_trains_only_what_is_missing(grouped, finished):
    folder, before = finished
    first, second, third = before
    second.rename(second.with_name(second.name + ".partial"))  # as a killed save leaves it
    assert_same(grouped[0], train(at_once=3, folder=folder))
    after = times(folder)
    assert (after[first], after[third]) == (before[first], before[third])
    assert after[second] > before[second]
    assert sorted(after) == sorted(before)


def cut(content):
    return content[: len(content) // 2]


def last_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def origin(content):
    start = content.index(b'"origin":"') + 10
    return content[:start] + (b"0" if content[start] != ord("0") else b"1") + content[start + 1 :]


@pytest.mark.parametrize("damage", [cut, last_bit, origin, lambda content: b""])
def test_a_damaged_group_is_named_and_trained_again(grouped, finished, damage):
    folder, before = finished
    file = sorted(before)[1]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match=f"{file} is damaged; its networks are trained again"):
        zoo = train(at_once=3, folder=folder)
    assert_same(grouped[0], zoo)
    assert {p for p, t in times(folder).items() if t != before[p]} == {file}


@pytest.mark.parametrize(
    "other", [{"key": 2}, {"stride": 6}, {"start": 5}], ids=["key", "stride", "initial"]
)
def test_groups_of_another_training_are_refused(finished, other):
    folder, before = finished
    with pytest.raises(ValueError, match=f"{folder} holds networks trained from other weights"):
        train(at_once=3, folder=folder, **other)
    assert times(folder) == before


def test_at_least_one_network_at_a_time():
    with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
        train(at_once=0)
