"""Transfer to another task and to other widths, small."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import transfer as configs
from experiments import transfer
from experiments.command import UsageError
from experiments.publish.transfer import alike, best, over_seeds, publish, table
from tests.experiments.tiny import make_tiny, write_tasks
from wfm.weights import mlp


@pytest.fixture
def config(tmp_path, monkeypatch):
    write_tasks(tmp_path, monkeypatch, "mnist", "fashion_mnist")
    config = configs.get_config()
    make_tiny(config.base)
    config.widths, config.gradients = (5,), (2, 4)
    config.scales, config.rates = (0.5,), (0.01,)
    return config


@pytest.mark.slow
def test_every_way_is_measured_once_at_equal_gradients(config, tmp_path):
    run = tmp_path / "run"
    transfer.run(config, str(run))
    points = json.loads((run / "results.json").read_text())["points"]
    at = {(p["part"], p["way"], p["width"], p["gradients"]) for p in points}
    assert len(at) == len(points)
    starts = {"from Gaussian", "from He", "from samples"}
    for part, width, more in (
        ("task", 3, {"guided at x_t", "guided at end_point", "from trained networks"}),
        ("width", 5, {"guided at end_point", "from samples side by side"}),
    ):
        for n in (2, 4):
            ways = {way for p, way, w, g in at if (p, w, g) == (part, width, n)}
            assert ways == starts | more
    assert ("width", "from samples", 5, 0) in at
    assert ("width", "trained as the zoo", 5, 16) in at  # 4 epochs of 40 examples, 10 at a time

    page = tmp_path / "page"
    publish(page, [run])
    text = page.with_suffix(".md").read_text()
    (found,) = (
        p for p in points if (p["way"], p["width"], p["gradients"]) == ("from samples", 5, 0)
    )
    assert f"| from samples | {found['accuracy']:.4f} ±" in text
    assert page.with_suffix(".png").stat().st_size > 0
    assert len(json.loads(page.with_suffix(".json").read_text())) == 4 * len(points)

    before = (run / "points.jsonl").read_text()
    (run / "results.json").unlink()
    transfer.run(config, str(run))
    assert (run / "points.jsonl").read_text() == before


def test_samples_side_by_side_average_their_outputs(config):
    lab = transfer.Lab(config)
    (six,) = [transfer._changed(config.base, hidden=(6,))]
    keys = jax.random.split(jax.random.key(0), config.base.sampling.networks)
    samples = jax.vmap(lab.own.initial.random)(keys)
    wide = transfer.side_by_side(lab.own.network, six.network, samples)
    x = lab.own.task.test.x
    apply = lambda spec, w, row: jax.vmap(  # noqa: E731
        lambda x: spec.apply(jax.tree.map(lambda a: a[row], w), x)
    )(x)
    two = [apply(lab.own.network, samples, row) for row in (1, 2)]
    np.testing.assert_allclose(
        apply(six.network, wide, 1), jnp.stack(two).mean(0), rtol=1e-5, atol=1e-6
    )


def test_settings_are_chosen_on_validation_data():
    where = {"part": "task", "way": "guided", "width": 3, "gradients": 2}
    points = [
        where | {"setting": 1.0, "accuracy": 0.9, "validation_accuracy": 0.7},
        where | {"setting": 2.0, "accuracy": 0.8, "validation_accuracy": 0.8},
        where | {"gradients": 4, "setting": 1.0, "accuracy": 0.5, "validation_accuracy": 0.1},
    ]
    assert best(points) == points[1:]


def test_runs_of_several_seeds_are_seen_as_one(config, tmp_path):
    where = {"part": "task", "way": "from He", "width": 3, "gradients": 2, "setting": 0.1}
    where["novelty"] = 0.75
    runs = [tmp_path / f"seed{seed}" for seed in range(3)]
    for seed, run in enumerate(runs):
        run.mkdir()
        config.base.seed = seed
        (run / "config.json").write_text(json.dumps(config.to_dict()))
        point = {"accuracy": 0.5 + 0.1 * seed, "accuracy_error": 0.0, "average": 0.3 * seed}
        results = {"points": [where | point | {"validation_accuracy": 0.5}]}
        (run / "results.json").write_text(json.dumps(results))
    assert alike(runs) == [runs]
    (mean,) = over_seeds(runs)
    assert mean["accuracy"] == pytest.approx(0.6)
    assert mean["accuracy_error"] == pytest.approx(0.1 / 3**0.5)  # standard error of three seeds
    assert mean["average"] == pytest.approx(0.3)
    assert "| from He | 0.6000 ± 0.0577 / 0.3000 / 0.75 (0.1) |" in table(over_seeds(runs))


@pytest.mark.parametrize("variant", configs.CHANGES)
def test_presets_of_every_variant_are_ready(variant, tmp_path, monkeypatch):
    write_tasks(tmp_path, monkeypatch, "mnist", "fashion_mnist", classes=10)
    config = configs.get_config(variant)
    config.base.zoo.stride = 1  # the files are tiny
    lab = transfer.Lab(config)
    assert lab.other.config.task == config.task
    assert config.variant == variant


def test_he_has_the_variance_of_its_paper():
    network = mlp(200, 300, 4)
    weights = transfer.he(network, jax.random.key(0))
    kernel = weights["dense1.kernel"]
    error = (2 / kernel.size) ** 0.5  # standard error of a Gaussian's relative variance
    assert float(kernel.var()) == pytest.approx(2 / 200, rel=4 * error)
    assert not weights["dense1.bias"].any()


def test_novelty_is_asked_of_networks_for_the_own_task_and_width(config, tmp_path):
    config.widths, config.task = (3, 5), "mnist"
    lab = transfer.Lab(config)
    lab.prepare(transfer.Workdir(tmp_path / "run", config))
    copies = jax.tree.map(lambda a: a[:2], lab.trained.seen.weights)
    own, wide = (lab._judge(of) for of in (lab.other, lab.wide[1]))
    assert own(copies)["novelty"] == pytest.approx(0, abs=1e-3)
    assert "novelty" not in wide(lab._of_width(lab.wide[1])["from He"]())


def test_units_of_a_wider_network_are_those_of_its_prior(config):
    lab = transfer.Lab(config)
    wide = transfer._changed(config.base, hidden=(12,))
    ratio = {n: wide.sizes()[n] / s for n, s in lab.own.sizes().items()}
    # The last kernel has norm √C, whatever the width.
    assert ratio["dense2.kernel"] == pytest.approx(0.5, rel=1e-4)
    assert ratio["dense1.kernel"] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "digits"}, "inputs or classes are not as many"),
        ({"base.hidden": (3, 3)}, "needs one hidden layer"),
    ],
)
def test_what_does_not_fit(change, message, config):
    config.update_from_flattened_dict(change)
    with pytest.raises(UsageError, match=message):
        transfer.Lab(config)
