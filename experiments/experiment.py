"""Everything that a config describes: task, networks, zoo, forms, flow, field, trainer."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from experiments.choices import (
    COUPLINGS,
    DTYPES,
    FIELDS,
    KINDS,
    OPTIMIZERS,
    PREDICTIONS,
    WEIGHTINGS,
    ZOO_OPTIMIZERS,
    ZOO_RATES,
    FieldKind,
    Kind,
    Pairing,
    check_coupling,
    matchings,
)
from experiments.command import Config, choose
from experiments.memory import check_memory, least
from experiments.sampling import Sampling
from wfm.batching import map_batched
from wfm.devices import device_mesh
from wfm.flows import BetaTime, Flow, GeodesicPath, Prior, Pushforward, Reference
from wfm.tasks import Task, load_task
from wfm.training import Trainer, flow_trainer, progress_bar
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
)
from wfm.zoo import Schedule, WeightSet, count_held_out, train_zoo

PRIOR_DRAWS = 1000
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
        self.weighting = choose(WEIGHTINGS, "flow.weighting", config.flow.weighting)
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
        snapshots = self.schedule.snapshots(len(self.task.train))
        check_memory(least(config, self.network.n_weights, snapshots))
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
        """Networks from draws of the prior; `folder` keeps groups of them that are finished.

        Or those of the file that the config names.
        """
        z = self.config.zoo
        if z.path:
            return WeightSet.load(z.path, self.network, self.task.train.x)
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

    def pairs(self, zoo: WeightSet, reference: Weights) -> tuple[Weights | None, Weights]:
        """Points of the initial weights (if known) and of the weights of each snapshot, aligned.

        Each network is permuted as its canonical form, which is blind to scale, matches best, and
        the weights that it was trained from are permuted along with it.
        """
        known = self.pairing.from_initial or zoo.initial is not None
        both = (zoo.initial_of_each(), zoo.weights) if known else (zoo.weights,)
        if self.matching:
            points = encode_all(self.quotient, zoo.weights)
            _, permutations = align_all(self.quotient.spec, reference, points, self.matching)
            both = tuple(permute_all(self.network, permutations, w) for w in both)
        points = [encode_all(self.form, w) for w in both]
        return points[0] if known else None, points[-1]

    def initial_draws(self) -> Weights:
        """Many networks as they are before training, stacked."""
        keys = jax.random.split(self.keys["prior"], PRIOR_DRAWS)
        return jax.vmap(self.initial.random)(keys)

    def sizes(self) -> dict[str, float]:
        """The typical size of the entries of each array of an initial network's point."""
        return {name: m.size for name, m in self._initial_moments.items()}

    def make_flow(self, data: dict[str, float]) -> tuple[Flow, dict[str, float]]:
        """The flow to points whose entries have typical sizes `data`, and the field's units."""
        prior = self._initial_moments
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
            unit={name: self.weighting(size[name], dims[name]) for name in size},
        )
        return flow, size

    @cached_property
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

    def data(self, initial: Weights | None, points: Weights) -> Any:
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


def encode_all(form: WeightForm, weights: Weights) -> Weights:
    """The points of stacked networks; raises `ValueError` for one that has none."""
    form.check(weights)
    return _encode_all(form, weights)


@partial(jax.jit, static_argnums=0)
def _encode_all(form: WeightForm, weights: Weights) -> Weights:
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
