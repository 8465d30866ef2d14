"""Checkpoints: what is kept, and what becomes of damaged ones."""

import warnings

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from wfm.training import Checkpoints, Trainer, adam

START = {"w": jnp.zeros(300), "v": {"b": jnp.ones((3, 2))}}
DATA = jax.random.normal(jax.random.key(1), (50, 300))


def loss(parameters, example):
    row, key = example
    noise = jax.random.normal(key, row.shape)
    return ((row + noise - parameters["w"]) ** 2).mean() + (parameters["v"]["b"] ** 2).sum()


TRAINER = Trainer(loss, adam(0.1, 100), batch_size=8)
INITIAL = TRAINER.init(START, jax.random.key(0))


def states(*steps):
    found, state = [], INITIAL
    for step in steps:
        state = TRAINER.fit(state, DATA, step, chunk=5)
        found.append(state)
    return found


def plain(state):
    return [
        state.step,
        state.parameters,
        state.average,
        state.moments,
        jax.random.key_data(state.key),
    ]


def saved(folder, losses=None, steps=(5, 10, 15, 20)):
    found = states(*steps)
    checkpoints = Checkpoints(folder, {"a": 1})
    for state, value in zip(found, losses or [None] * len(found), strict=True):
        checkpoints.save(state, value)
    checkpoints.close()
    return found


def kept(folder):
    return sorted(int(p.name) for p in folder.iterdir())


def test_the_last_and_the_best_are_kept(tmp_path):
    found = saved(tmp_path / "c", [3.0, 1.0, 2.0, 4.0])
    assert kept(tmp_path / "c") == [10, 15, 20]
    again = Checkpoints(tmp_path / "c", {"a": 1})
    chex.assert_trees_all_equal(plain(again.restore(INITIAL)), plain(found[3]))
    chex.assert_trees_all_equal(plain(again.best(INITIAL)), plain(found[1]))
    again.close()


def test_without_losses_there_is_no_best(tmp_path):
    saved(tmp_path / "c")
    assert kept(tmp_path / "c") == [15, 20]
    assert Checkpoints(tmp_path / "c", {"a": 1}).best(INITIAL) is None


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def alter(folder):
    file = largest_file(folder)
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), 97):
        data[place] ^= 0x10
    file.write_bytes(bytes(data))


def lose_description(folder):
    (file,) = (folder / "meta").glob("metadata")
    file.unlink()


def lie(folder):
    """A whole and readable description, of other contents."""
    (file,) = (folder / "meta").glob("metadata")
    text = file.read_text()
    start = text.index('"digest"') + len('"digest": "')
    file.write_text(text[:start] + "0" * 8 + text[start + 8 :])


@pytest.mark.parametrize("damage", [truncate, alter, lose_description, lie])
def test_damage_is_named_and_the_one_before_is_used(tmp_path, damage):
    found = saved(tmp_path / "c")
    damage(tmp_path / "c" / "20")
    again = Checkpoints(tmp_path / "c", {"a": 1})
    with pytest.warns(UserWarning, match=r"c/20 is damaged \(.+\): .* step 15 used instead"):
        state = again.restore(INITIAL)
    chex.assert_trees_all_equal(plain(state), plain(found[2]))
    assert (tmp_path / "c.damaged" / "20").is_dir()
    again.save(found[3])  # the same step can be saved again
    again.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = Checkpoints(tmp_path / "c", {"a": 1})
        chex.assert_trees_all_equal(plain(third.restore(INITIAL)), plain(found[3]))


def test_if_all_are_damaged_nothing_is_lost(tmp_path):
    saved(tmp_path / "c")
    for step in kept(tmp_path / "c"):
        alter(tmp_path / "c" / str(step))
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
        Checkpoints(tmp_path / "c", {"a": 1}).restore(INITIAL)
    assert kept(tmp_path / "c") == [15, 20]


def test_the_best_falls_back_too(tmp_path):
    found = saved(tmp_path / "c", [3.0, 1.0, 2.0, 4.0])
    truncate(tmp_path / "c" / "10")
    with pytest.warns(UserWarning, match="c/10 is damaged"):
        state = Checkpoints(tmp_path / "c", {"a": 1}).best(INITIAL)
    chex.assert_trees_all_equal(plain(state), plain(found[2]))


def test_what_does_not_fit_is_refused_and_stays(tmp_path):
    saved(tmp_path / "c")
    with pytest.raises(ValueError, match="made with another config"):
        Checkpoints(tmp_path / "c", {"a": 2}).restore(INITIAL)
    other = Trainer(loss, optax.sgd(0.1)).init(START, jax.random.key(0))
    with pytest.raises(ValueError, match="other shapes or types"):
        Checkpoints(tmp_path / "c", {"a": 1}).restore(other)
    assert kept(tmp_path / "c") == [15, 20]


def test_leftovers_of_a_killed_save_do_not_disturb(tmp_path):
    found = saved(tmp_path / "c")
    left = tmp_path / "c" / "25.orbax-checkpoint-tmp-1234"
    left.mkdir()
    (left / "half").write_bytes(b"0" * 100)
    again = Checkpoints(tmp_path / "c", {"a": 1})
    chex.assert_trees_all_equal(plain(again.restore(INITIAL)), plain(found[3]))
