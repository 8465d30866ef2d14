"""Checkpoints whose files are damaged, which are kept, and what is refused."""

import functools
import re
import shutil
import warnings
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from wfm.training import Checkpoints, Trainer


def trainer(optimizer=None):
    return Trainer(lambda w, example: (w["w"] ** 2).sum(), optimizer or optax.sgd(0.1, 0.9))


def state_at(step, width=30_000, names=("w",), optimizer=None):
    """A state whose numbers are all its own, in arrays that fill files of their own."""
    t, key = trainer(optimizer), jax.random.key(step)
    state = t.init({n: jax.random.normal(key, (width,)) for n in names}, key)
    return type(state)(jnp.asarray(step, jnp.int32), state.params, state.ema, state.opt_state, key)


@functools.cache
def like():
    return state_at(0)


def plain(state):
    return jax.tree.leaves((state.params, state.opt_state, jax.random.key_data(state.key)))


def write(folder, losses, **options):
    with Checkpoints(folder, **options) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(state_at(step), loss)


def steps(folder):
    return sorted(int(p.name) for p in folder.iterdir())


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = bytes(255 - b for b in content[middle : middle + 4])
    file.write_bytes(content)


DAMAGES = {"truncated": truncate, "altered": flip, "deleted": Path.unlink}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    write(folder, {3: 0.5, 6: 0.4})
    return folder


def files(folder):
    """All files of the newest state, the largest first."""
    found = [p for p in (folder / "6").rglob("*") if p.is_file()]
    return sorted(found, key=lambda p: -p.stat().st_size)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_the_one_before_it_used(saved, tmp_path, damage):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    DAMAGES[damage](files(folder)[0])
    with Checkpoints(folder) as checkpoints:
        told = rf"{folder}/6 is damaged; the state of step 3 is used .* moved to {folder}\.damaged"
        with pytest.warns(UserWarning, match=told):
            restored = checkpoints.restore(like())
        chex.assert_trees_all_equal(plain(restored), plain(state_at(3)))
        assert [p.name for p in (tmp_path / "checkpoints.damaged").iterdir()] == ["6"]
        checkpoints.save(state_at(6))
        chex.assert_trees_all_equal(plain(checkpoints.restore(like())), plain(state_at(6)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_whichever_file_is_damaged_what_is_restored_was_saved(saved, tmp_path, damage):
    for number, file in enumerate(files(saved)):
        folder = shutil.copytree(saved, tmp_path / str(number))
        DAMAGES[damage](folder / file.relative_to(saved))
        with warnings.catch_warnings(record=True) as told, Checkpoints(folder) as checkpoints:
            warnings.simplefilter("always")
            restored = checkpoints.restore(like())
        expected = 3 if any("is damaged" in str(w.message) for w in told) else 6
        assert int(restored.step) == expected, file
        chex.assert_trees_all_equal(plain(restored), plain(state_at(expected)))


def test_without_an_intact_state_the_folder_and_the_remedy_are_named(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    for step in ("3", "6"):
        shutil.rmtree(folder / step / "state")
    with Checkpoints(folder) as checkpoints:
        told = rf"{folder} is intact \(damaged: steps 6, 3\); delete the folder to start anew"
        with pytest.raises(ValueError, match=told):
            checkpoints.restore(like())
    assert steps(folder) == [3, 6]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"width": 7}, r"\.params\['w'\] is float32\[30000\] there and float32\[7\]"),
        ({"names": ("v", "w")}, r"\['v'\] is absent there and float32\[30000\] here"),
        ({"optimizer": optax.adam(0.1)}, "delete the folder to start anew"),
    ],
)
def test_another_structure_is_no_damage(saved, changes, difference):
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(ValueError, match=f"{saved} holds a state of other arrays .*{difference}"),
    ):
        checkpoints.restore(state_at(0, **changes))
    assert steps(saved) == [3, 6]


def test_another_config_is_refused_by_the_keys_that_differ(tmp_path):
    config = {"seed": 0, "field": {"hidden": (16, 16), "depth": 3}}
    write(tmp_path, {1: None}, config=config)
    with Checkpoints(tmp_path, config) as checkpoints:
        assert int(checkpoints.restore(like()).step) == 1
    other = {"seed": 0, "field": {"hidden": (16, 8), "depth": 3}}
    with (
        Checkpoints(tmp_path, other) as checkpoints,
        pytest.raises(ValueError, match=r"another config \(different: field\.hidden\)"),
    ):
        checkpoints.restore(like())


def test_the_last_states_are_kept_and_the_best(tmp_path):
    losses = {1: 5.0, 2: 1.0, 3: None, 4: float("nan"), 5: 2.0, 6: None, 7: 3.0}
    write(tmp_path, losses)
    assert steps(tmp_path) == [2, 6, 7]
    with Checkpoints(tmp_path) as checkpoints:
        assert int(checkpoints.restore(like()).step) == 7
        best = checkpoints.best(like())
        chex.assert_trees_all_equal(plain(best), plain(state_at(2)))
        # The next session knows the losses of this one.
        checkpoints.save(state_at(8), 4.0)
        checkpoints.save(state_at(9), 0.5)
    assert steps(tmp_path) == [8, 9]


def test_without_losses_there_is_no_best(tmp_path):
    write(tmp_path, {1: None, 2: None, 3: None}, keep=1)
    assert steps(tmp_path) == [3]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best(like()) is None


def test_a_damaged_best_state_is_named_and_the_next_best_used(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    flip(folder / "6" / "meta" / "metadata")
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(UserWarning, match="6 is damaged; the state of step 3 is used instead"):
            best = checkpoints.best(like())
        assert int(best.step) == 3


def test_what_killed_saves_leave_does_not_disturb(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    for step in (6, 9, 12):
        shutil.copytree(folder / "3", folder / f"{step}.orbax-checkpoint-tmp")
        shutil.rmtree(folder / f"{step}.orbax-checkpoint-tmp" / "state" / "d")
    with Checkpoints(folder) as checkpoints:
        assert int(checkpoints.restore(like()).step) == 6
        checkpoints.save(state_at(9))
    assert steps(folder) == [6, 9]


def test_saving_returns_before_the_state_is_on_disk_and_closing_after(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(1, width=3_000_000))
    assert not (tmp_path / "1").exists()
    checkpoints.close()
    assert (tmp_path / "1").exists()


def test_at_least_one_state_is_kept(tmp_path):
    with pytest.raises(ValueError, match=re.escape("keep must be at least 1, got 0")):
        Checkpoints(tmp_path, keep=0)
