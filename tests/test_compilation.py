"""What is compiled is kept where the environment says, or nowhere; the bits are the same."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs
from jax.experimental.compilation_cache import compilation_cache

import wfm
from tests.cases import cases
from wfm.compilation import SWITCH
from wfm.fields import MLPField, RelationalTransformer
from wfm.flows import FlowMatching, Integrator, TangentNoise
from wfm.manifolds import Sphere
from wfm.training import adam, flow_trainer
from wfm.weights import AsTrained, mlp

ROOT = Path(__file__).parent.parent
PROGRAM = """
import jax, jax.numpy as jnp, wfm
jax.jit(jnp.cos)(1.0)  # compiled before, and so not kept
wfm.enable_compilation_cache()
f = jax.jit(lambda x: jnp.exp(jnp.sin(x)).sum() ** 0.3)
print(float(f(jnp.arange(1000.0))).hex())
"""


def outcome(**env):
    """What a program of its own prints, with these variables alone to say where code is kept."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "WFM_"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=kept | env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_a_second_run_finds_what_the_first_compiled_and_ends_with_the_same_bits(tmp_path):
    # The folder that no variable names lies below the user's cache.
    first = outcome(XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path))
    files = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*-cache")}
    assert any(f.name.startswith("jit__lambda") for f in files)
    (folder,) = {f.parent for f in files}
    assert outcome(WFM_COMPILATION_CACHE=str(folder)) == first
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*-cache")} == files
    assert outcome(WFM_COMPILATION_CACHE="off") == first


@pytest.fixture
def untold(monkeypatch):
    """JAX as no one has told it of a folder."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], None)
    monkeypatch.delenv(SWITCH, raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("word", ["off", "OFF", "0"])
def test_it_can_be_switched_off(untold, monkeypatch, word):
    monkeypatch.setenv(SWITCH, word)
    assert wfm.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_jax_was_told_stays(untold, monkeypatch, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    monkeypatch.setenv(SWITCH, str(tmp_path / "other"))
    assert wfm.enable_compilation_cache() == tmp_path / "told"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "told")


def test_a_folder_that_cannot_be_written_to_is_named_and_nothing_fails(
    untold, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv(SWITCH, str(tmp_path / "file" / "folder"))
    with pytest.warns(UserWarning, match=f"not kept: .*file.*; set {SWITCH} to a folder"):
        assert wfm.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def field(t, x):
    return x


SPHERE = Sphere((3,))
MATCHING = FlowMatching(SPHERE)
FLOW = MATCHING.flow(field)
PROGRAMS = {
    "samples": lambda key: FLOW.sample(key),
    "samples with noise": lambda key: FLOW.sample(key, Integrator(2), TangentNoise(0.1)),
    "densities": lambda key: FLOW.log_prob(SPHERE.uniform(key), Integrator(2)),
    "losses": lambda key: MATCHING.loss(field, jnp.eye(3), key),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_can_be_kept(name):
    """JAX keeps none that calls back to Python, as checks of values inside it would."""
    assert "callback" not in jax.jit(PROGRAMS[name]).lower(jax.random.key(0)).as_text()


NETWORK = mlp(2, 3, 2)
FORM = AsTrained(NETWORK)
LIKE = {name: jnp.asarray(np.ones(NETWORK.shape(name), "f")) for name in NETWORK.arrays}
FIELDS = {
    "graph": lambda **options: RelationalTransformer(NETWORK, width=4, depth=1, **options),
    "flat": lambda **options: MLPField(LIKE, width=4, depth=1, **options),
}


@pytest.mark.parametrize("make", cases(FIELDS, often=("flat",)))
def test_runs_that_differ_in_seed_and_zoo_share_their_programs(make):
    def programs(size, key):
        unit = dict.fromkeys(LIKE, size)
        matching = FlowMatching(FORM.manifold(), prior=FORM.prior(size), unit=unit)
        module = make(unit=unit, rngs=Rngs(key))
        trainer, bind, params = flow_trainer(matching, module, adam(1e-2, 5), batch_size=2)
        data = jax.vmap(matching.prior.sample)(jax.random.split(key, 4))
        state, draw = trainer.init(params, key), eqx.filter_jit(lambda flow, key: flow.sample(key))
        return [
            type(trainer).advance.lower(trainer, state, data, 2).as_text(),
            type(trainer).mean_loss.lower(trainer, params, data, key).as_text(),
            draw.lower(matching.flow(bind(params)), key).as_text(),
        ]

    assert programs(1.0, jax.random.key(0)) == programs(2.5, jax.random.key(1))


def test_grids_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="must rise from each to the next"):
        Integrator(2, grid=lambda _: jnp.asarray(np.array([0.0, 0.5, 0.5]))).times()
