"""What measures compute, on cases whose answer is known."""

import chex
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.measures import path_errors, pictures, steps, surfaces, transfer
from experiments.measures.quality import quality, sets_of
from experiments.stages import Run
from experiments.store import Store
from experiments.study import load
from tests.experiments.tiny import check_ways, make_tiny, write_tasks
from wfm.errors import UserError
from wfm.flows import (
    Flow,
    FlowMatching,
    Integrator,
    VelocityPrediction,
    X1Prediction,
    euler,
    midpoint,
)
from wfm.manifolds import Sphere
from wfm.tasks import load_task
from wfm.weights import Canonical, mlp

KEY = jax.random.key(0)
SPHERE = Sphere((5,))
ENDS = tuple(SPHERE.uniform(jax.random.key(seed)) for seed in (0, 1))


# Quality.


def test_quality_has_figures_to_choose_by_and_figures_to_report():
    network, task = mlp(4, 3, 3), load_task("iris")
    sizes = {name: network.shape(name) for name in network.arrays}
    weights = {name: jnp.zeros((2, *shape)) for name, shape in sizes.items()}
    weights["dense2.bias"] = jnp.array([[1.0, 0, 0], [0, 0, 1.0]])  # always 0, always 2
    found = quality(network, task, weights)
    for split, name in ((task.test, ""), (task.validation, "validation_")):
        shares = [np.mean(np.asarray(split.y) == k) for k in (0, 2)]
        assert found[f"{name}accuracy"].value == pytest.approx(np.mean(shares))
        error = np.std(shares, ddof=1) / 2**0.5
        assert found[f"{name}accuracy"].error == pytest.approx(error, abs=1e-6)
        assert found[f"{name}average"].value == pytest.approx(shares[0])  # the first of equals


# Path errors.


def led_on(prediction, field, steps, t):
    matching = FlowMatching(SPHERE, prediction=prediction)
    return path_errors.led_on(
        matching, matching.flow(field), Integrator(steps, euler), *ENDS, KEY, t
    )


@pytest.mark.slow
@pytest.mark.parametrize("t", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("prediction", [VelocityPrediction(), X1Prediction()])
def test_a_field_that_knows_the_end_leads_there_without_loss(t, prediction):
    def field(t, x):
        to_end = jax.tree.map(lambda v: v / (1 - t), SPHERE.log(x, ENDS[1]))
        return ENDS[1] if prediction.lands else to_end

    end, loss = led_on(prediction, field, 6, t)
    np.testing.assert_allclose(end, ENDS[1], atol=2e-6)
    assert loss < 1e-6


def test_a_field_that_stands_still_stays_and_loses_the_length_of_the_way():
    end, loss = led_on(VelocityPrediction(), lambda t, x: jnp.zeros_like(x), 3, 0.5)
    np.testing.assert_allclose(end, SPHERE.geodesic(*ENDS, 0.5), atol=1e-6)
    np.testing.assert_allclose(loss, SPHERE.dist(*ENDS) ** 2, rtol=1e-5)


# Steps.


@pytest.mark.slow
@pytest.mark.parametrize("prediction", [VelocityPrediction(), X1Prediction()])
def test_the_number_of_steps_need_not_be_known_in_advance(prediction):
    space = Canonical(mlp(4, 5, 3)).manifold()
    traces = []

    def field(t, x):
        return jax.tree.map(lambda a: jnp.sin(3 * a) + t, x)

    def counted(t, x):
        traces.append(t)
        return field(t, x)

    def flow(field):
        return Flow(space.ambient(), field, target=space, prediction=prediction)

    drawn = jax.jit(lambda n: steps.sample_in_steps(flow(counted), KEY, midpoint, n))
    drawn(1)
    before = len(traces)
    for n in (1, 5, 8):
        expected = jax.jit(lambda n=n: flow(field).sample(KEY, Integrator(n, midpoint)))()
        chex.assert_trees_all_close(drawn(n), expected, atol=1e-5)
    assert len(traces) == before


@pytest.mark.parametrize(
    ("rate", "expected"), [("constant", [0.05, 0.05, 0.05]), ("falling", [0.05, 0.025, 0.0])]
)
def test_descent_goes_as_far_down_as_guidance(rate, expected):
    config = load("steps").base
    config.sampling.guidance_rate = rate
    rates = steps.descent_rates(config, 200)  # guidance of 10
    np.testing.assert_allclose([rates(done) for done in (0, 100, 200)], expected, rtol=1e-6)


# Transfer.


@pytest.fixture
def lab_of(tmp_path, monkeypatch):
    """From changes of a tiny config to the lab of its run."""
    write_tasks(tmp_path, monkeypatch, "mnist", "fashion_mnist")

    def lab(**changes):
        config = load("transfer").base
        make_tiny(config, "full_transformer")
        config.transfer.update({"widths": (5,), "gradients": (2, 4)} | changes.pop("transfer", {}))
        config.update(changes)
        return transfer.Lab(Run(config, Store(tmp_path / "store")))

    return lab


def test_samples_side_by_side_average_their_outputs(lab_of):
    lab = lab_of(transfer={"widths": (6,)})
    own, (six,) = lab.own, lab.wide
    samples = jax.jit(jax.vmap(own.initial.sample))(
        jax.random.split(KEY, own.config.sampling.networks)
    )
    wide = transfer.side_by_side(own.network, six.network, samples)
    x = own.task.test.x
    apply = lambda spec, w, row: jax.vmap(  # noqa: E731
        lambda x: spec.apply(jax.tree.map(lambda a: a[row], w), x)
    )(x)
    two = [apply(own.network, samples, row) for row in (1, 2)]
    np.testing.assert_allclose(
        apply(six.network, wide, 1), jnp.stack(two).mean(0), rtol=1e-5, atol=1e-6
    )


def test_he_has_the_variance_of_its_paper():
    network = mlp(200, 300, 4)
    weights = network.init(KEY, "he")
    kernel = weights["dense1.kernel"]
    error = (2 / kernel.size) ** 0.5  # standard error of a Gaussian's relative variance
    assert float(kernel.var()) == pytest.approx(2 / 200, rel=4 * error)
    assert not weights["dense1.bias"].any()


@pytest.mark.slow
def test_novelty_is_asked_of_networks_for_the_own_task_and_width(lab_of):
    lab = lab_of(transfer={"task": "mnist", "widths": (3, 5)})
    copies = jax.tree.map(lambda a: a[:2], lab.run.seen.weights)
    own, wide = (lab._judge(of) for of in (lab.other, lab.wide[1]))
    assert own(copies)["novelty"].value == pytest.approx(0, abs=1e-3)
    assert "novelty" not in wide(lab._of_width(lab.wide[1])["from He"]())
    assert sets_of(lab.run).unit > 0


@pytest.mark.slow
def test_units_of_a_wider_network_are_those_of_its_prior(lab_of):
    lab = lab_of(transfer={"widths": (12,)})
    own, (wide,) = lab.own, lab.wide
    now, then = transfer.initial_moments(wide), transfer.initial_moments(own)
    ratio = {name: now[name].size / then[name].size for name in now}
    # The last kernel has norm √C, whatever the width.
    assert ratio["dense2.kernel"] == pytest.approx(0.5, rel=1e-4)
    assert ratio["dense1.kernel"] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transfer": {"task": "digits"}}, "inputs or classes are not as many"),
        ({"network": "mlp:3,3"}, "with one hidden layer"),
    ],
)
def test_tasks_and_networks_between_which_nothing_is_transferred(change, message, lab_of):
    with pytest.raises(UserError, match=message):
        lab_of(**change)


def test_every_way_has_places_of_its_own_at_equal_gradients(lab_of):
    points = list(lab_of(transfer={"scales": (0.5,), "rates": (0.01,)}).points())
    places = [tuple(point.at.values()) for point in points]
    assert len(set(places)) == len(places)
    at = check_ways(points)
    # 4 epochs of 40 examples, 10 at a time.
    assert {("width", "from samples", 5, 0), ("width", "trained as the zoo", 5, 16)} < at


# Surfaces.


@pytest.mark.slow
@pytest.mark.parametrize("name", surfaces.SURFACES)
def test_the_learned_density_is_the_data_s(name):
    (cell,) = load("surfaces").cells({"manifold": name})
    config, surface = cell.config, surfaces.SURFACES[name]
    _, samples, _ = surfaces.learn(surface, config, lambda step, loss: None)
    assert np.allclose(surface.manifold.project(samples[0]), samples[0], atol=1e-5)
    # The true shares of each bin, from so many draws that their own error does not matter.
    truth = surfaces.mixture(surface.manifold, config.data.spread, 400_000, jax.random.key(11))
    true, found = surfaces.histogram(surface, truth), surfaces.histogram(surface, samples)
    # Total variation that as many perfect samples would show: E|share - p| for each bin.
    noise = np.sqrt(2 / np.pi * true * (1 - true) / len(samples)).sum() / 2
    variation = abs(found - true).sum() / 2
    uniform = abs(1 / true.size - true).sum() / 2
    assert variation < noise + 0.1
    assert variation < uniform / 5


# Pictures.


def test_held_out_networks_are_drawn_above_the_zoo(monkeypatch):
    class Sets:
        points = np.eye(3)
        of = staticmethod(lambda name: np.eye(3))
        align = staticmethod(lambda weights: weights)
        nearest = property(lambda self: self)

    monkeypatch.setattr(pictures, "sets_of", lambda run: Sets())
    monkeypatch.setattr(pictures, "stack_flat", lambda points: points)
    figure, axes = plt.subplots()
    pictures._map(axes, None)  # type: ignore
    order = {c.get_label(): c.get_zorder() for c in axes.collections}
    assert order["zoo"] < order["held out"] < order["samples"]
    plt.close(figure)
