"""Learn a flow over networks trained on a small data set, and sample new ones.

python -m experiments.uci --config=configs/uci.py:geometric --workdir=runs/demo

The workdir is the run: the same command resumes it, and prints it once it is finished.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Key

from experiments import report
from experiments.command import Config, choose, main
from experiments.workdir import Workdir
from wfm.evaluation import (
    Nearest,
    averaged_pairs,
    evaluate,
    median_ratio,
    predictions,
    smallest_disagreement,
    stack_flat,
    with_noise,
)
from wfm.fields import RelationalTransformer
from wfm.flows import BetaTime, EndPoint, Flow, GeodesicPath, Velocity
from wfm.manifolds import Manifold
from wfm.tasks import Task, load_task
from wfm.training import (
    Checkpoints,
    Diverged,
    Trainer,
    TrainState,
    flow_trainer,
    muon,
    progress_bar,
)
from wfm.weights import (
    AsTrained,
    Canonical,
    WeightForm,
    Weights,
    WeightSpec,
    align_all,
    barycentre,
    mlp,
    permute,
    save_weights,
)
from wfm.zoo import Schedule, WeightSet, count_held_out, train_zoo

PRIOR_DRAWS = 1000
REPORTS_PER_CHECKPOINT = 10


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the three flows: the form of the weights, and the space that paths run in."""

    form: Callable[[WeightSpec, str], WeightForm]
    space: Callable[[Manifold], Manifold]


KINDS = {
    "euclidean": Kind(lambda network, last: AsTrained(network), lambda m: m),
    "normalized": Kind(Canonical, lambda m: m.ambient()),
    "geometric": Kind(Canonical, lambda m: m),
}
PREDICTIONS = {"end_point": EndPoint(), "velocity": Velocity()}


class Experiment:
    """Everything that a config describes, built and checked before any work begins."""

    def __init__(self, config: Config):
        self.config = config
        self.task: Task = load_task(config.task, config.split)
        (d_in,) = self.task.input_shape
        self.network = mlp(d_in, *config.hidden, self.task.n_classes, activation=config.activation)
        self.initial = AsTrained(self.network).manifold(config.zoo.prior_std)
        self.kind: Kind = choose(KINDS, "flow.kind", config.flow.kind)
        self.quotient = Canonical(self.network)  # where networks are aligned and distances taken
        self.form = self.kind.form(self.network, config.flow.last_layer)
        self.prediction = choose(PREDICTIONS, "flow.prediction", config.flow.prediction)
        self.path = GeodesicPath(config.flow.sigma)
        own = {"all": tuple(self.network.groups), "fixed": self.network.fixed, "none": ()}
        self.own_embedding = choose(own, "field.own_embedding", config.field.own_embedding)
        z = config.zoo
        self.schedule = Schedule(z.epochs, z.batch_size, z.burn_in, z.stride)
        self.time = BetaTime(config.flow.time_b)
        # What is built only once there is data refuses impossible settings now.
        count_held_out(z.networks, z.held_out)
        c = config.training
        Trainer(lambda *_: jnp.zeros(()), muon(c.learning_rate, c.steps), c.batch_size, c.decay)
        self.keys = dict(
            zip(
                ("initial", "zoo", "prior", "field", "training", "sampling", "novelty"),
                jax.random.split(jax.random.key(config.seed), 7),
                strict=True,
            )
        )

    def make_zoo(self) -> WeightSet:
        """Networks from draws of the prior, all trained at once."""
        z = self.config.zoo
        initial = jax.vmap(self.initial.random)(jax.random.split(self.keys["initial"], z.networks))
        optimizer = optax.adam(z.learning_rate)
        return train_zoo(
            self.network, self.task, initial, optimizer, self.keys["zoo"], self.schedule
        )

    def reference(self, zoo: WeightSet) -> Weights:
        """What networks are aligned to: the barycentre of the last snapshots, in canonical form."""
        return barycentre(self.quotient.spec, encode_all(self.quotient, zoo.last().weights))

    def aligned(self, zoo: WeightSet, reference: Weights) -> WeightSet:
        """Each network permuted as its canonical form, which is blind to scale, matches best."""
        if not self.config.flow.align:
            return zoo
        _, permutations = align_all(
            self.quotient.spec, reference, encode_all(self.quotient, zoo.weights)
        )
        weights = jax.vmap(partial(permute, self.network))(permutations, zoo.weights)
        return dataclasses.replace(zoo, weights=weights)

    def make_flow(self, points: Weights) -> tuple[Flow, dict[str, float]]:
        """The flow, and the typical size of the entries of each array."""
        draws = jax.vmap(self.initial.random)(jax.random.split(self.keys["prior"], PRIOR_DRAWS))
        prior, data = _moments(encode_all(self.form, draws)), _moments(points)
        manifold = self.form.manifold(
            std={name: m.std for name, m in prior.items()},
            mean={name: m.mean for name, m in prior.items()},
        )
        # The field sees both ends of the path, and velocities are as large as both together.
        size = {name: ((data[name].size ** 2 + prior[name].size ** 2) / 2) ** 0.5 for name in data}
        dims = {name: factor.dim for name, factor in manifold.factors.items()}
        flow = Flow(
            self.kind.space(manifold),
            target=manifold,
            path=self.path,
            time=self.time,
            prediction=self.prediction,
            unit={name: size[name] * dims[name] ** 0.5 for name in size},
        )
        return flow, size

    def make_field(self, unit: dict[str, float]) -> RelationalTransformer:
        """The vector field."""
        f = self.config.field
        return RelationalTransformer(
            self.form.spec,
            width=f.width,
            depth=f.depth,
            fold=f.fold,
            own_embedding=self.own_embedding,
            unit=unit,
            rngs=nnx.Rngs(self.keys["field"]),
        )

    def make_trainer(self, flow: Flow, field: nnx.Module) -> tuple[Trainer, Callable, Any]:
        """The trainer of a field for a flow, how to bind parameters, and the first of them."""
        c = self.config.training
        return flow_trainer(
            flow, field, c.steps, c.learning_rate, batch_size=c.batch_size, decay=c.decay
        )


@partial(jax.jit, static_argnums=0)
def encode_all(form: WeightForm, weights: Weights) -> Weights:
    """The points of stacked networks."""
    return jax.vmap(form.encode)(weights)


class Moments(NamedTuple):
    """Mean, standard deviation and root mean square of all entries of one array."""

    mean: float
    std: float
    size: float


def _moments(points: Weights) -> dict[str, Moments]:
    return {
        name: Moments(
            mean=float(a.mean()),
            std=float(a.std()),
            size=float(jnp.sqrt((a**2).mean())),
        )
        for name, a in points.items()
    }


def train(
    workdir: Workdir, experiment: Experiment, flow: Flow, field: nnx.Module, points: Weights
) -> tuple[Callable, TrainState]:
    """Train the field from the newest checkpoint on; how to bind parameters, and the last state."""
    c = experiment.config.training
    trainer, bind, parameters = experiment.make_trainer(flow, field)
    state = trainer.init(parameters, experiment.keys["training"])
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = checkpoints.restore(state) or state
    workdir.metrics.truncate("step", int(state.step))
    with progress_bar("Training the flow", c.steps, int(state.step)) as bar:

        def on_report(state: TrainState, metrics: dict[str, float]) -> None:
            step = int(state.step)
            workdir.metrics.write(step=step, **metrics)
            bar.update(step, f"loss {metrics['loss']:.4f}")
            if step % (REPORTS_PER_CHECKPOINT * c.report_every) == 0:
                checkpoints.save(state)

        try:
            state = trainer.fit(state, points, c.steps, c.report_every, on_report)
        except Diverged as error:
            checkpoints.save(error.state)
            raise
    checkpoints.save(state)
    checkpoints.close()
    return bind, state


def run(config: Config, path: str) -> None:
    """The whole experiment."""
    experiment = Experiment(config)
    workdir = Workdir(path, config)
    results = workdir.results()
    if results is None:
        results = _run(experiment, workdir)
    print(report.table(results))
    print(f"Report: {workdir / 'report.html'}")


def _run(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    config, network, form = experiment.config, experiment.network, experiment.form
    zoo_file = workdir / "zoo" / "zoo.safetensors"
    with workdir.stage("zoo"):
        if zoo_file.exists():
            zoo = WeightSet.load(zoo_file, network)
        else:
            zoo = experiment.make_zoo()
            zoo.save(zoo_file)
    seen, held_out = zoo.split(config.zoo.held_out, config.seed)
    with workdir.stage("align"):
        reference = experiment.reference(seen)
        points = encode_all(form, experiment.aligned(seen, reference).weights)
        jax.block_until_ready(points)
    with workdir.stage("train"):
        flow, unit = experiment.make_flow(points)
        field = experiment.make_field(unit)
        bind, state = train(workdir, experiment, flow, field, points)
    with workdir.stage("sample"):
        draw = sampler(flow, form, bind(state.average), config)
        samples = jax.block_until_ready(draw(experiment.keys["sampling"]))
        save_weights(workdir / "samples.safetensors", samples)
    with workdir.stage("evaluate"):
        results, figures = evaluate_samples(experiment, reference, seen, held_out, samples)
    results = workdir.finish({"seed": config.seed} | results)
    report.write(workdir, results, figures)
    return results


def sampler(
    flow: Flow, form: WeightForm, field: Callable, config: Config
) -> Callable[[Key[Array, ""]], Weights]:
    """From a key to as many new networks as the config asks for, compiled."""
    c = config.sampling
    one = lambda key: form.decode(flow.sample(field, key, c.steps))  # noqa: E731
    return jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, c.networks)))


def evaluate_samples(
    experiment: Experiment,
    reference: Weights,
    seen: WeightSet,
    held_out: WeightSet,
    samples: Weights,
) -> tuple[dict[str, Any], dict[str, report.Networks]]:
    """Quality and novelty of the samples beside those of the networks they are learned from.

    Also what the figures show of each set of networks.
    """
    network, form, test = experiment.network, experiment.quotient, experiment.task.test
    last = seen.last().weights
    noise_key, pair_key = jax.random.split(experiment.keys["novelty"])
    others = {
        "samples": samples,
        "held_out": held_out.weights,
        "noisy": with_noise(last, noise_key),
        "averaged": averaged_pairs(form, last, pair_key),
    }
    nearest = Nearest(form, reference, seen.weights)
    distance = {name: nearest.distances(w) for name, w in others.items()}
    known = predictions(network, seen.weights, test.x)
    disagreement = {
        name: smallest_disagreement(predictions(network, w, test.x), known)
        for name, w in others.items()
    }
    sets = {"target": seen.weights, "trained": last} | others
    metrics = {name: evaluate(network, w, test) for name, w in sets.items()}
    results = {name: _spread(values) for name, values in metrics.items()} | {
        "novelty": {
            "ratio": median_ratio(distance["samples"], distance["held_out"]),
            "distance": {name: float(jnp.median(d)) for name, d in distance.items()},
            "disagreement": {name: float(d.mean()) for name, d in disagreement.items()},
        }
    }
    aligned = {"target": nearest.points} | {
        name: nearest.align(others[name]) for name in ("held_out", "samples")
    }
    figures = {
        name: report.Networks(**metrics[name], weights=stack_flat(points))
        for name, points in aligned.items()
    }
    return results, figures


def _spread(metrics: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": float(values.mean()), "std": float(values.std())}
        for name, values in metrics.items()
    }


if __name__ == "__main__":
    main(run)
