"""Stages of runs: what each depends on, what runs share, and zoos from elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import mnist, small
from experiments import stages
from experiments.measures import MEASURES
from experiments.stages import Run, encode_all
from experiments.store import Store
from tests.experiments.tiny import write_tasks
from wfm.errors import UserError
from wfm.io import save_networks
from wfm.weights import load_weights, resnet, save_weights, torch_layout
from wfm.zoo import WeightSet


def run(folder, make=small, **changes):
    config = make()
    config.update({"task": "iris", "network": "mlp:5"} if make is small else {})
    config.zoo.update({"networks": 8, "held_out": 0.25})
    config.update(changes)
    return Run(config, Store(folder))


@pytest.fixture
def made(monkeypatch):
    """The zoos that were made: of networks that are not trained, to save compilations."""
    found = []

    def make_zoo(parts, folder=None):
        found.append(parts)
        keys = jax.random.split(parts.keys["zoo"], parts.config.zoo.networks)
        weights, numbers = jax.vmap(parts.initial.sample)(keys), jnp.arange(len(keys))
        return WeightSet(weights, numbers, numbers, {}, weights)

    monkeypatch.setattr(stages, "make_zoo", make_zoo)
    return found


SETTINGS = {
    "split": {"split": 3},
    "network": {"network": "mlp:5,activation=tanh"},
    "seed": {"seed": 1},
    "zoo": {"zoo": {"networks": 9}},
    "flow": {"flow": {"sigma": 0.5}},
    "field": {"field": {"width": 9}},
    "training": {"training": {"steps": 9}},
    "sampling": {"sampling": {"steps": 9}},
}
SHARED = {  # by what differs: the stages that are the same
    "flow": {"zoo", "align"},
    "field": {"zoo", "align"},
    "training": {"zoo", "align"},
    "sampling": {"zoo", "align", "train"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_runs_share_what_depends_on_the_same_settings(name, tmp_path):
    first, other = run(tmp_path), run(tmp_path, **SETTINGS[name])
    same = {stage for stage, reads in first.reads.items() if reads == other.reads[stage]}
    assert same == SHARED.get(name, set())
    places = [{s: r.store.place(s, reads) for s, reads in r.reads.items()} for r in (first, other)]
    assert {s for s, place in places[0].items() if place == places[1][s]} == same


def test_other_data_of_the_same_name_are_other_data(tmp_path, monkeypatch):
    places = []
    for classes in (2, 3):
        (tmp_path / str(classes)).mkdir()
        write_tasks(tmp_path / str(classes), monkeypatch, "mnist", classes=classes)
        reads = run(tmp_path, mnist, zoo={"stride": 1}).reads["zoo"]
        places.append(Store(tmp_path).place("zoo", reads))
    assert places[0] != places[1]


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        ("quality", {"averages": (1, 3)}, True),
        ("together", {"averages": (1, 3)}, False),
        ("quality", {"sampling": {"steps": 3}}, False),
        ("loss_curve", {"sampling": {"steps": 3}}, True),
        ("barriers", {"training": {"steps": 3}}, True),
        ("barriers", {"zoo": {"epochs": 40}}, False),
    ],
)
def test_a_measure_is_taken_again_where_what_it_reads_differs(name, change, same, tmp_path):
    averages = {"averages": (1, 2)}

    def reads(**more):
        config = small()
        config.averages = (1, 2)
        return MEASURES[name].reads(run(tmp_path, lambda: config, **more))

    first, other = reads(**averages), reads(**averages | change)
    assert (first == other) is same


def test_a_zoo_is_made_once_for_all_runs(tmp_path, made):
    first = run(tmp_path).zoo
    jax.tree.map(
        np.testing.assert_array_equal,
        run(tmp_path, sampling={"steps": 2}).zoo.weights,
        first.weights,
    )
    assert len(made) == 1
    assert run(tmp_path, seed=1).zoo is not None
    assert run(tmp_path / "other").zoo is not None
    assert len(made) == 3


def as_integers(arrays, marks):
    whole = {n: a.astype(np.int32) if n.startswith("weights/") else a for n, a in arrays.items()}
    return whole, marks


def one_number(arrays, marks):
    name = "weights/dense1.kernel"
    kernel = arrays[name].copy()
    kernel[0, 0, 0] += 1
    return arrays | {name: kernel}, marks


ALTERED = {
    "cast": as_integers,
    "cast, without its seal": lambda a, m: as_integers(a, {}),
    "one number": one_number,
    "one number, without its seal": lambda a, m: one_number(a, {}),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_zoo_that_was_altered_is_never_used(name, tmp_path, made):
    before = run(tmp_path).zoo
    (file,) = tmp_path.glob("zoo/*/zoo.safetensors")
    save_weights(file, *ALTERED[name](*load_weights(file)))
    with pytest.warns(UserWarning, match=r"zoo.safetensors is damaged; it is set aside and made"):
        after = run(tmp_path).zoo
    jax.tree.map(np.testing.assert_array_equal, after.weights, before.weights)
    assert len(made) == 2


def outside(path, store, **flow):
    return run(
        store,
        zoo={"path": str(path)},
        field={"own_embedding": "fixed"},
        flow={"align": "none"} | flow,
    )


def random_networks(spec, seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=(6, *spec.shape(n))).astype("float32") for n in spec.arrays}


def test_outside_zoos_are_encoded_without_their_beginning(tmp_path):
    file = tmp_path / "zoo.safetensors"
    mine = outside(file, tmp_path)
    arrays = random_networks(mine.parts.network)
    save_weights(file, arrays)
    zoo = mine.zoo
    jax.tree.map(np.testing.assert_array_equal, zoo.weights, arrays)
    initial, points = mine.pairs(zoo)
    assert initial is None
    mine.parts.form.spec.check(points, batch_dims=1)
    jax.tree.map(np.testing.assert_array_equal, mine.data(zoo), points)
    with pytest.raises(ValueError, match="network 0 has no canonical form"):
        encode_all(
            mine.parts.form, zoo.weights | {"dense2.kernel": 0 * zoo.weights["dense2.kernel"]}
        )


def test_batch_norm_of_outside_networks_is_folded(tmp_path, images):
    spec = resnet(8, 2, 1, 2)
    weights = jax.vmap(spec.init)(jax.random.split(jax.random.key(0), 6))
    weights |= {n: 0.5 + a**2 for n, a in weights.items() if n.endswith("norm.mean")}
    save_networks(WeightSet.of(weights), tmp_path / "nets", layout=torch_layout(spec))
    zoo = {"path": str(tmp_path / "nets"), "layout": "torch", "stride": 1}
    mine = run(tmp_path, mnist, network="resnet:8,2", zoo=zoo)
    assert mine.parts.network == resnet(8, 2, 1, 2, batch_norm=False)
    x = mine.parts.task.test.x[:5]
    for i in range(6):
        w = jax.tree.map(lambda a, i=i: a[i], weights)
        found = mine.parts.network.outputs(mine.zoo.at(i), x)
        np.testing.assert_allclose(found, spec.outputs(w, x), rtol=1e-4, atol=1e-5)
    assert mine.zoo.initial is None


def test_a_flow_is_never_used_with_an_outside_zoo_that_it_did_not_learn_from(tmp_path):
    file, reads = tmp_path / "zoo.safetensors", []
    for seed in (0, 1):
        mine = outside(file, tmp_path)
        save_weights(file, random_networks(mine.parts.network, seed))
        reads.append(mine.reads)
    assert all(reads[0][stage] != reads[1][stage] for stage in reads[0])


def test_what_needs_the_beginning_says_so(tmp_path):
    paired = outside(tmp_path / "none", tmp_path, coupling="trajectory")
    with pytest.raises(UserError, match=r"there is no .*none"):
        _ = paired.zoo
    with pytest.raises(UserError, match=r"there is no zoo at .*; check config.zoo.path"):
        _ = paired.reads
    network = paired.parts.network
    some = {n: np.ones((2, *network.shape(n))) for n in network.arrays}
    with pytest.raises(ValueError, match="choose what needs none"):
        paired.pairs(WeightSet.of(some))
