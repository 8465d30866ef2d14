"""Learn a flow over networks trained on a small data set, and sample new ones.

python -m experiments.uci --config=configs/uci.py:geometric --workdir=runs/demo

The workdir is the run: the same command resumes it, and prints it once it is finished.
"""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from experiments import report
from experiments.choices import (
    COUPLINGS,
    DTYPES,
    FIELDS,
    KINDS,
    OPTIMIZERS,
    PREDICTIONS,
    ZOO_OPTIMIZERS,
    ZOO_RATES,
    FieldKind,
    Kind,
    Pairing,
    check_coupling,
    matchings,
)
from experiments.command import Config, choose, main
from experiments.sampling import Sampling
from experiments.workdir import Workdir
from wfm.batching import map_batched
from wfm.devices import device_mesh
from wfm.evaluation import (
    Nearest,
    averaged_pairs,
    crossed_pairs,
    evaluate,
    median_ratio,
    predictions,
    smallest_disagreement,
    stack_flat,
    with_noise,
)
from wfm.flows import BetaTime, Field, Flow, GeodesicPath, Prior, Pushforward, Reference
from wfm.tasks import Task, load_task
from wfm.training import (
    Checkpoints,
    Diverged,
    Stopped,
    StopSignals,
    Trainer,
    TrainState,
    flow_trainer,
    progress_bar,
)
from wfm.weights import (
    AsTrained,
    Canonical,
    Matching,
    Permutation,
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
VALIDATION = 256  # the most held-out networks that the loss of a checkpoint is taken on
KEPT = {"last": False, "best": True}


class Experiment:
    """Everything that a config describes, built and checked before any work begins."""

    def __init__(self, config: Config):
        self.config = config
        self.mesh = device_mesh(config.devices) if config.devices > 1 else None
        self.task: Task = load_task(config.task, config.split)
        (d_in,) = self.task.input_shape
        self.network = mlp(d_in, *config.hidden, self.task.n_classes, activation=config.activation)
        self.initial = AsTrained(self.network).manifold(config.zoo.prior_std)
        self.kind: Kind = choose(KINDS, "flow.kind", config.flow.kind)
        self.quotient = Canonical(self.network)  # where networks are aligned and distances taken
        self.form = self.kind.form(self.network, config.flow.last_layer)
        self.prediction = choose(PREDICTIONS, "flow.prediction", config.flow.prediction)
        self.path = GeodesicPath(config.flow.sigma)
        ways = matchings(self.quotient.spec, self.task)
        self.matching: Matching | None = choose(ways, "flow.align", config.flow.align)
        self.pairing: Pairing = choose(COUPLINGS, "flow.coupling", config.flow.coupling)
        self.sampling = Sampling.of(config, self.form, self.task.train, self.mesh)
        self.field: FieldKind = choose(FIELDS, "field.kind", config.field.kind)
        choose(DTYPES, "field.dtype", config.field.dtype)
        choose(KEPT, "training.keep", config.training.keep)
        check_coupling(config, self.network)
        z = config.zoo
        self.schedule = Schedule(z.epochs, z.batch_size, z.burn_in, z.stride, z.same_batches)
        make_zoo_optimizer = choose(ZOO_OPTIMIZERS, "zoo.optimizer", z.optimizer)
        rate = choose(ZOO_RATES, "zoo.rate", z.rate)
        steps = self.schedule.steps(len(self.task.train))
        self.zoo_optimizer = make_zoo_optimizer(rate(z.learning_rate, steps), z.weight_decay)
        self.time = BetaTime(config.flow.time_b)
        # What is built only once there is data refuses impossible settings now.
        count_held_out(z.networks, z.held_out)
        c = config.training
        make_optimizer = choose(OPTIMIZERS, "training.optimizer", c.optimizer)
        self.optimizer = make_optimizer(c.learning_rate, c.steps)
        self.training = {
            "batch_size": c.batch_size,
            "decay": c.decay,
            "at_once": c.at_once,
            "mesh": self.mesh,
        }
        Trainer(lambda *_: jnp.zeros(()), self.optimizer, **self.training)
        self.keys: dict[str, Array] = dict(
            zip(
                ("initial", "zoo", "prior", "field", "training", "sampling", "novelty"),
                jax.random.split(jax.random.key(config.seed), 7),
                strict=True,
            )
        )
        self.keys["validation"] = jax.random.fold_in(self.keys["training"], 1)

    def make_zoo(self, folder: Path | None = None) -> WeightSet:
        """Networks from draws of the prior; `folder` keeps groups of them that are finished."""
        z = self.config.zoo
        initial = jax.vmap(self.initial.random)(jax.random.split(self.keys["initial"], z.networks))
        with progress_bar("Training networks", z.networks) as bar:
            zoo = train_zoo(
                self.network,
                self.task,
                initial,
                self.zoo_optimizer,
                self.keys["zoo"],
                self.schedule,
                at_once=z.at_once,
                folder=folder,
                mesh=self.mesh,
                report=bar.update,
            )
        return zoo

    def reference(self, zoo: WeightSet) -> Weights:
        """What networks are aligned to: the barycentre of the last snapshots, in canonical form."""
        return barycentre(self.quotient.spec, encode_all(self.quotient, zoo.last().weights))

    def pairs(self, zoo: WeightSet, reference: Weights) -> tuple[Weights, Weights]:
        """Points of the initial weights and of the weights of each snapshot, aligned.

        Each network is permuted as its canonical form, which is blind to scale, matches best, and
        the weights that it was trained from are permuted along with it.
        """
        both = zoo.initial_of_each(), zoo.weights
        if self.matching:
            points = encode_all(self.quotient, zoo.weights)
            _, permutations = align_all(self.quotient.spec, reference, points, self.matching)
            both = tuple(permute_all(self.network, permutations, w) for w in both)
        initial, final = (encode_all(self.form, w) for w in both)
        return initial, final

    def initial_draws(self) -> Weights:
        """Many networks as they are before training, stacked."""
        keys = jax.random.split(self.keys["prior"], PRIOR_DRAWS)
        return jax.vmap(self.initial.random)(keys)

    def sizes(self) -> dict[str, float]:
        """The typical size of the entries of each array of an initial network's point."""
        return {name: m.size for name, m in self._initial_moments().items()}

    def make_flow(self, data: dict[str, float]) -> tuple[Flow, dict[str, float]]:
        """The flow to points whose entries have typical sizes `data`, and the field's units."""
        prior = self._initial_moments()
        manifold = self.form.manifold(
            std={name: m.std for name, m in prior.items()},
            mean={name: m.mean for name, m in prior.items()},
        )
        # The field sees both ends of the path, and velocities are as large as both together.
        size = {name: ((data[name] ** 2 + prior[name].size ** 2) / 2) ** 0.5 for name in data}
        dims = {name: factor.dim for name, factor in manifold.factors.items()}
        flow = Flow(
            self.kind.space(manifold),
            target=manifold,
            prior=self._prior(),
            path=self.path,
            coupling=self.pairing.coupling(self.form.spec),
            time=self.time,
            prediction=self.prediction,
            unit={name: size[name] * dims[name] ** 0.5 for name in size},
        )
        return flow, size

    def _initial_moments(self) -> dict[str, "Moments"]:
        return moments(encode_all(self.form, self.initial_draws()))

    def _prior(self) -> Prior | None:
        """Encoded initial weights if paths start there, else the manifold's own."""
        if not self.pairing.from_initial:
            return None
        return Pushforward(Reference(self.initial), self.form.encode)

    def make_field(self, flow: Flow, unit: dict[str, float]) -> nnx.Module:
        """The vector field."""
        key = self.keys["field"]
        like = flow.prior.sample(key)
        return self.field.make(self.config.field, self.form.spec, like, unit, nnx.Rngs(key))

    def data(self, initial: Weights, points: Weights) -> Any:
        """What the flow learns from: the points, or pairs of them with their initial weights."""
        return (initial, points) if self.pairing.from_initial else points

    def make_validation(self, flow: Flow, bind: Callable, unseen: Any) -> Callable[[Any], Array]:
        """From parameters to the mean loss on `unseen` data, with the same draws every time."""
        key = self.keys["validation"]
        n = len(jax.tree.leaves(unseen)[0])
        rows = jax.random.permutation(key, n)[:VALIDATION]
        some = jax.tree.map(lambda a: a[rows], unseen)

        @jax.jit
        def validate(parameters: Any, some: Any) -> Array:
            one = lambda example: flow.example_loss(bind(parameters), *example)  # noqa: E731
            examples = flow.examples(some, key)
            return map_batched(one, examples, self.config.training.at_once).mean()

        return partial(validate, some=some)

    def make_trainer(self, flow: Flow, field: nnx.Module) -> tuple[Trainer, Callable, Any]:
        """The trainer of a field for a flow, how to bind parameters, and the first of them."""
        return flow_trainer(flow, field, self.optimizer, **self.training)


def of_flow(config: Config) -> dict[str, Any]:
    """All of a config but what is done with a trained flow."""
    used = ("sampling", "averages")
    return {key: value for key, value in config.to_dict().items() if key not in used}


@partial(jax.jit, static_argnums=0)
def encode_all(form: WeightForm, weights: Weights) -> Weights:
    """The points of stacked networks."""
    return jax.vmap(form.encode)(weights)


@partial(jax.jit, static_argnums=0)
def permute_all(spec: WeightSpec, permutations: Permutation, weights: Weights) -> Weights:
    """Stacked networks, each permuted by its own permutation."""
    return jax.vmap(partial(permute, spec))(permutations, weights)


class Moments(NamedTuple):
    """Mean, standard deviation and root mean square of all entries of one array."""

    mean: float
    std: float
    size: float


def moments(points: Weights) -> dict[str, Moments]:
    """Those of each array of stacked points."""
    return {
        name: Moments(
            mean=float(a.mean()),
            std=float(a.std()),
            size=float(jnp.sqrt((a**2).mean())),
        )
        for name, a in points.items()
    }


def train(
    workdir: Workdir, experiment: Experiment, flow: Flow, field: nnx.Module, data: Any, unseen: Any
) -> tuple[Callable, TrainState]:
    """Train the field from the newest checkpoint on; how to bind parameters, and the state to use.

    `unseen`: data that the loss of each checkpoint is taken on, like `data`.
    """
    c = experiment.config.training
    trainer, bind, parameters = experiment.make_trainer(flow, field)
    state = trainer.init(parameters, experiment.keys["training"])
    checkpoints = Checkpoints(workdir / "checkpoints", of_flow(experiment.config))
    state = checkpoints.restore(state) or state
    workdir.metrics.truncate("step", int(state.step))
    validate = experiment.make_validation(flow, bind, unseen)

    with (
        StopSignals() as signals,
        progress_bar("Training the flow", c.steps, int(state.step)) as bar,
    ):

        def on_report(state: TrainState, metrics: dict[str, float]) -> None:
            step, stopped = int(state.step), signals.noted()
            bar.update(step, f"loss {metrics['loss']:.4f}")
            loss = None
            if step == c.steps or step % (REPORTS_PER_CHECKPOINT * c.report_every) == 0:
                metrics["validation_loss"] = loss = float(validate(state.average))
            workdir.metrics.write(step=step, **metrics)
            if loss is not None or stopped:
                # Not judged for a signal: where a run is stopped must not decide which is best.
                checkpoints.save(state, loss)
            if stopped and step < c.steps:
                checkpoints.close()
                raise Stopped(stopped, step)

        try:
            state = trainer.fit(state, data, c.steps, c.report_every, on_report)
        except Diverged as error:
            checkpoints.save(error.state)
            checkpoints.close()
            raise
    if KEPT[c.keep]:
        state = checkpoints.best(state) or state
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


class Trained(NamedTuple):
    """What a run has before it draws samples."""

    seen: WeightSet
    held_out: WeightSet
    reference: Weights
    flow: Flow
    field: Field
    parameters: Any  # of the field
    sizes: dict[str, float]  # of the entries of each array that the flow learned from


def prepare(experiment: Experiment, workdir: Workdir) -> Trained:
    """Zoo, alignment and the trained field, from whatever of them the workdir holds already."""
    config, network = experiment.config, experiment.network
    zoo_file = workdir / "zoo" / "zoo.safetensors"
    with workdir.stage("zoo"):
        groups = workdir / "zoo" / "groups"
        if zoo_file.exists():
            zoo = WeightSet.load(zoo_file, network)
        else:
            zoo = experiment.make_zoo(groups)
            zoo.save(zoo_file)
        shutil.rmtree(groups, ignore_errors=True)
    seen, held_out = zoo.split(config.zoo.held_out, config.seed)
    with workdir.stage("align"):
        reference = experiment.reference(seen)
        initial, points = jax.block_until_ready(experiment.pairs(seen, reference))
    with workdir.stage("train"):
        sizes = {name: m.size for name, m in moments(points).items()}
        flow, unit = experiment.make_flow(sizes)
        field = experiment.make_field(flow, unit)
        unseen = experiment.pairs(held_out, reference)
        data, unseen = (experiment.data(*both) for both in ((initial, points), unseen))
        bind, state = train(workdir, experiment, flow, field, data, unseen)
    parameters = state.average
    return Trained(seen, held_out, reference, flow, bind(parameters), parameters, sizes)


def _run(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    trained = prepare(experiment, workdir)
    samples = sample(experiment, workdir, trained)
    with workdir.stage("evaluate"):
        results, figures = evaluate_samples(experiment, trained, samples)
    results = workdir.finish({"seed": experiment.config.seed} | results)
    report.write(workdir, results, figures)
    return results


def sample(experiment: Experiment, workdir: Workdir, trained: Trained) -> Weights:
    """New networks, which the workdir keeps."""
    flow, field = trained.flow, trained.field
    with workdir.stage("sample"):
        draw = experiment.sampling.sampler(flow, experiment.form, field)
        samples = jax.block_until_ready(draw(experiment.keys["sampling"]))
        save_weights(workdir / "samples.safetensors", samples)
        if experiment.config.sampling.trajectories:
            _save_trajectories(workdir, experiment, flow, field)
    return samples


def _save_trajectories(workdir: Workdir, experiment: Experiment, flow: Flow, field: Field) -> None:
    """Networks at all times on the way of each sample, a file for each chunk of samples."""
    key = experiment.keys["sampling"]
    ways = experiment.sampling.trajectories(flow, experiment.form, field, key)
    for number, networks in enumerate(ways):
        save_weights(workdir / "trajectories" / f"{number:04}.safetensors", networks)


def evaluate_samples(
    experiment: Experiment, trained: Trained, samples: Weights
) -> tuple[dict[str, Any], dict[str, report.Networks]]:
    """Quality and novelty of the samples beside those of the networks they are learned from.

    Baselines are made of as many trained networks as there are samples. Also what the figures
    show of each set of networks.
    """
    network, form, test = experiment.network, experiment.quotient, experiment.task.test
    seen, held_out = trained.seen, trained.held_out
    last = seen.last().weights
    few = jax.tree.map(lambda a: a[: len(jax.tree.leaves(samples)[0])], last)
    noise_key, pair_key = jax.random.split(experiment.keys["novelty"])
    others = {
        "samples": samples,
        "held_out": held_out.weights,
        "noisy": with_noise(few, noise_key),
        "averaged": averaged_pairs(form, few, pair_key),
        "crossed": crossed_pairs(form, few, pair_key),
    }
    nearest = Nearest(form, trained.reference, seen.weights)
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
