"""Flows on disk: the same bits again, or one sentence that says why not."""

import functools
import json
import re

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs
from safetensors.numpy import load_file

import wfm
from tests.cases import cases
from tests.manifolds.table import MANIFOLDS
from wfm import artefacts
from wfm.artefacts import files
from wfm.fields import PNA, FullTransformer, MLPField, RelationalTransformer, functional
from wfm.flows import (
    Flow,
    FlowMatching,
    Integrator,
    OptimalTransport,
    VelocityPrediction,
    X1Prediction,
    about,
    load_flow,
)
from wfm.flows.flow import CLASSES
from wfm.jsons import digest_of_json
from wfm.manifolds import Euclidean, Hyperboloid, Sphere
from wfm.priors import Pushforward, Uniform, standard
from wfm.weights import Canonical, mlp

KEY = jax.random.key(0)
FORM = Canonical(mlp(2, 3, 2))
SPEC, WEIGHTS = FORM.spec, FORM.manifold()
SETTINGS = {"width": 4, "depth": 1, "rngs": Rngs(0)}
POINT = jax.tree.map(
    lambda a: jnp.asarray(np.ones(a.shape, a.dtype)),
    jax.eval_shape(standard(WEIGHTS, 0.3).sample, KEY),
)
UNIT = {name: 0.1 + i for i, name in enumerate(SPEC.arrays)}
CASES = {
    "transformer": (WEIGHTS, lambda: RelationalTransformer(SPEC, **SETTINGS, unit=UNIT)),
    "half precision": (
        WEIGHTS,
        lambda: RelationalTransformer(SPEC, **SETTINGS, dtype=jnp.bfloat16),
    ),
    "PNA": (WEIGHTS, lambda: PNA(SPEC, **SETTINGS, fold=True, own_embedding=("h1",))),
    "all pairs": (WEIGHTS, lambda: FullTransformer(SPEC, **SETTINGS)),
    "flat": (WEIGHTS.ambient(), lambda: MLPField(POINT, **SETTINGS, unit=UNIT)),
    "hyperboloid": (Hyperboloid(2), lambda: MLPField(jnp.ones(3), **SETTINGS)),
}


def moved(module):
    """A field with parameters that no initialisation gives."""
    bind, params = functional(module)
    return bind(jax.tree.map(lambda a: a + 0.1 * jax.random.normal(KEY, a.shape), params))


@pytest.mark.parametrize(("space", "make"), cases(CASES, often=("hyperboloid",)))
def test_what_is_loaded_draws_the_same_bits(space, make, tmp_path):
    target = WEIGHTS if space == WEIGHTS.ambient() else space
    matching = FlowMatching(space, target=target, prediction=VelocityPrediction())
    flow = matching.flow(moved(make()))
    flow.save(tmp_path / "a flow")
    loaded = wfm.load_flow(tmp_path / "a flow")
    chex.clear_trace_counter()
    draw = chex.assert_max_traces(lambda flow, key: flow.sample(key, Integrator(2)), n=1)
    sample = jax.jit(draw)  # one program for both
    chex.assert_trees_all_equal(sample(flow, KEY), sample(loaded, KEY))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "a flow",
        "flow.json",
        "parameters.safetensors",
    ]


@pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS)
def test_every_manifold_comes_back(manifold):
    encoded, arrays = artefacts.encode(manifold, "space", CLASSES)
    text = json.dumps(encoded)
    assert eqx.tree_equal(artefacts.decode(json.loads(text), arrays, CLASSES), manifold)


SPHERE = Sphere((3,))


@functools.cache
def field():
    return moved(MLPField(jnp.ones(3), width=2, depth=1, rngs=Rngs(0)))


@functools.cache
def velocity_flow():
    return Flow(SPHERE, field(), prediction=VelocityPrediction())


def test_all_parts_come_back_and_what_is_said_about_the_flow(tmp_path):
    matching = FlowMatching(SPHERE, coupling=OptimalTransport())
    flow = matching.flow(field())
    reference = {"dense1.kernel": jnp.arange(6.0).reshape(2, 3)}
    said = {"task": "iris", "reference": reference, "widths": [4, 8, 3], "pair": (1, None)}
    flow.save(tmp_path / "flow", said)
    loaded = load_flow(tmp_path / "flow")
    assert eqx.tree_equal(loaded, flow)
    assert loaded.prediction == X1Prediction()
    assert not loaded.independent
    chex.assert_trees_all_equal(about(tmp_path / "flow"), said)
    versions = json.loads((tmp_path / "flow" / "flow.json").read_text())["content"]["versions"]
    assert versions == {"wfm": wfm.__version__, "jax": jax.__version__}


def test_a_flow_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    velocity_flow().save(tmp_path / "flow")
    other = jax.tree.map(lambda a: a + 1, velocity_flow())

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", fail)
        with pytest.raises(OSError, match="disk is full"):
            other.save(tmp_path / "flow")
    assert eqx.tree_equal(load_flow(tmp_path / "flow"), velocity_flow())
    other.save(tmp_path / "flow")
    assert eqx.tree_equal(load_flow(tmp_path / "flow"), other)
    assert [path.name for path in tmp_path.iterdir()] == ["flow"]


class Stranger(Euclidean):
    """A manifold from elsewhere."""


UNSAVED = {
    "a function": (
        lambda: Flow(SPHERE, lambda t, x: x),
        "flow.field cannot be saved: a plain function is",
    ),
    "guided": (
        lambda: velocity_flow().guided(lambda x, key: x.sum(), 1.0, KEY),
        "flow.prediction cannot be saved: guidance goes down an objective, which is code; save the "
        "flow that is guided",
    ),
    "a map": (
        lambda: Flow(SPHERE, field(), prior=Pushforward(Uniform(SPHERE), lambda x: x)),
        "flow.prior cannot be saved: the map of a Pushforward prior is code",
    ),
    "coordinates": (
        lambda: Flow(SPHERE, moved(MLPField(jnp.ones(3), coordinates=jnp.sin, rngs=Rngs(0)))),
        "flow.field.module cannot be saved: the coordinates of an MLPField are code",
    ),
    "a stranger": (
        lambda: Flow(Stranger((3,)), field()),
        "flow.space cannot be saved: Stranger is no public class of wfm.manifolds, wfm.priors",
    ),
    "many flows": (
        lambda: jax.tree.map(lambda a: jnp.stack([a, a]), velocity_flow()),
        "flow.field.module cannot be saved: it is many fields, stacked; save them one by one",
    ),
}


@pytest.mark.parametrize("name", UNSAVED)
def test_what_cannot_be_saved(name, tmp_path):
    make, message = UNSAVED[name]
    flow = make()
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        flow.save(tmp_path / "flow")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_is_said_about_a_flow_must_be_data(tmp_path):
    with pytest.raises(ValueError, match=r"about.form cannot be saved: Canonical is no public"):
        velocity_flow().save(tmp_path / "flow", {"form": FORM})


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "results.json").touch()
    with pytest.raises(ValueError, match=r"holds other files, such as results.json, which saving"):
        velocity_flow().save(tmp_path)
    with pytest.raises(ValueError, match=r"is a file where a folder is to be"):
        velocity_flow().save(tmp_path / "results.json")


def rewritten(folder, change):
    """The JSON, changed and with the digest of what it says then."""
    path = folder / "flow.json"
    record = json.loads(path.read_text())
    change(record)
    record["digest"] = digest_of_json(record["content"])
    path.write_text(json.dumps(record))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-10])


def renamed(folder, old, new):
    path = folder / "flow.json"
    text = path.read_text().replace(old, new)
    path.write_text(text)
    rewritten(folder, lambda record: None)


def other_bit(folder):
    path = folder / "parameters.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "no JSON": (lambda f: (f / "flow.json").unlink(), "there is no saved flow in"),
    "truncated JSON": (lambda f: truncated(f / "flow.json"), "is not the JSON that was saved"),
    "bytes": (lambda f: (f / "flow.json").write_bytes(b"\xff\xfe\0"), "is not the JSON that"),
    "another JSON": (lambda f: (f / "flow.json").write_text("[1]"), "is not the JSON that was"),
    "altered JSON": (
        lambda f: (f / "flow.json").write_text(
            (f / "flow.json").read_text().replace('"radius": 1.0', '"radius": 2.0')
        ),
        "flow.json is damaged: it is not what was saved",
    ),
    "newer": (
        lambda f: rewritten(f, lambda record: record.update(format=2)),
        "has format 2, and this version of wfm reads none beyond 1; install a newer one",
    ),
    "no arrays": (
        lambda f: (f / "parameters.safetensors").unlink(),
        "parameters.safetensors is missing; copy the artefact as a whole",
    ),
    "truncated arrays": (
        lambda f: truncated(f / "parameters.safetensors"),
        "parameters.safetensors is damaged: it cannot be read",
    ),
    "another bit": (other_bit, "does not hold the arrays that were saved"),
    "an unknown class": (
        lambda f: renamed(f, "wfm.manifolds.Sphere", "wfm.manifolds.Cube"),
        "there is no class wfm.manifolds.Cube in this version of wfm",
    ),
    "a class from elsewhere": (
        lambda f: renamed(f, "wfm.manifolds.Sphere", "subprocess.Popen"),
        "there is no class subprocess.Popen",
    ),
    "a function": (
        lambda f: renamed(f, "wfm.manifolds.Sphere", "wfm.flows.load_flow"),
        "there is no class wfm.flows.load_flow",
    ),
    "unknown settings": (
        lambda f: renamed(f, '"radius"', '"size"'),
        "cannot be rebuilt",
    ),
    "no flow": (
        lambda f: rewritten(f, lambda r: r["content"]["objects"].update(flow=3)),
        "holds no flow but a int",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_files_that_cannot_be_read(name, tmp_path):
    damage, message = DAMAGES[name]
    velocity_flow().save(tmp_path / "flow")
    damage(tmp_path / "flow")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_flow(tmp_path / "flow")
    assert "\n" not in str(error.value)


def test_arrays_are_under_their_places(tmp_path):
    velocity_flow().save(tmp_path / "flow")
    arrays = load_file(tmp_path / "flow" / "parameters.safetensors")
    assert "flow.field.params.layers/0/kernel/value" in arrays
    n = sum(a.size for a in jax.tree.leaves(field().params))
    assert sum(np.size(a) for a in arrays.values()) == n
