"""Objects from the names in a config: all registries, and all that a config describes."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Key

from experiments.command import Config, choose
from experiments.memory import check_memory, least
from experiments.sampling import Sampling
from wfm.command.networks import Network, for_task
from wfm.devices import device_mesh
from wfm.digest import digest
from wfm.errors import UserError
from wfm.fields import PNA, FullTransformer, GraphField, MLPField, RelationalTransformer
from wfm.flows import (
    BetaTime,
    Coupling,
    EntropicTransport,
    EquivariantTransport,
    GeodesicPath,
    Independent,
    OptimalTransport,
    Paired,
    VelocityPrediction,
    X1Prediction,
)
from wfm.manifolds import Manifold, Point
from wfm.priors import Prior
from wfm.tasks import Split, Task, cross_entropy, load_task
from wfm.training import Trainer, adam, muon
from wfm.weights import (
    ActivationMatching,
    AsTrained,
    Canonical,
    Matching,
    MidpointLoss,
    RandomPointLoss,
    SinkhornMatching,
    WeightForm,
    WeightMatching,
    Weights,
    WeightSpec,
    align,
    batch_norms,
    siren_init,
)
from wfm.zoo import Schedule, count_held_out


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the three flows: the form of the weights, and the space in which paths run."""

    form: Callable[[WeightSpec, str], WeightForm]
    space: Callable[[Manifold], Manifold]


KINDS = {
    "euclidean": Kind(lambda network, last: AsTrained(network), lambda m: m),
    "normalized": Kind(Canonical, lambda m: m.ambient()),
    "geometric": Kind(Canonical, lambda m: m),
}
PREDICTIONS = {"end_point": X1Prediction(), "velocity": VelocityPrediction()}
OPTIMIZERS = {"adam": adam, "muon": muon}
KEPT = {"last": False, "best": True}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# The divisor of each array's error in the loss, from the typical size and number of its entries.
WEIGHTINGS: dict[str, Callable[[float, int], float]] = {
    "arrays": lambda size, dim: size * dim**0.5,  # all arrays count equally
    "entries": lambda size, dim: size,  # all entries count equally: large arrays count most
    "none": lambda size, dim: 1.0,  # the metric of the manifold
}
OWN_EMBEDDING: dict[str, Callable[[WeightSpec], tuple[str, ...]]] = {
    "all": lambda spec: spec.orders,
    "fixed": lambda spec: spec.fixed,
    "none": lambda spec: (),
}


def _sgd(rate: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    """SGD with the momentum of the thesis (appendix, MNIST)."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=0.9))


def _adamw(rate: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    return optax.adamw(rate, weight_decay=weight_decay)


ZOO_OPTIMIZERS = {"adam": _adamw, "sgd": _sgd}
# Maps the initial learning rate and the number of steps to a schedule.
ZOO_RATES = {"constant": lambda rate, steps: rate, "cosine": optax.cosine_decay_schedule}


class Drawn(Prior):
    """Initial weights by a rule that gives no density."""

    network: WeightSpec = eqx.field(static=True)
    rule: Callable[[WeightSpec, Key[Array, ""]], Weights] = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Weights:
        return self.rule(self.network, key)

    def log_prob(self, x: Point) -> Array:
        raise NotImplementedError("these initial weights have no known density; use normal ones")


# How initial weights are drawn; normal ones have a density, and the config's standard deviation.
STARTS = {
    "normal": None,
    **{how: partial(WeightSpec.init, how=how) for how in ("he", "lecun", "glorot")},
    "siren": siren_init,
}


@dataclasses.dataclass(frozen=True)
class Pairing:
    """A coupling, made for the spec of the points, and its demands on the other parts."""

    coupling: Callable[[WeightSpec], Coupling]
    up_to_permutation: bool = False  # x₀'s neurons are ordered like x₁'s
    from_initial: bool = False  # x₀ are the networks' initial weights


COUPLINGS = {
    "independent": Pairing(lambda spec: Independent()),
    "ot": Pairing(lambda spec: OptimalTransport()),
    "entropic": Pairing(lambda spec: EntropicTransport()),
    "equivariant": Pairing(lambda spec: EquivariantTransport(partial(align, spec)), True),
    "trajectory": Pairing(lambda spec: Paired(), True, from_initial=True),
}


def matchings(spec: WeightSpec, task: Task) -> dict[str, Matching | None]:
    """Methods to align networks that `spec` describes, by name."""

    def loss(point: Weights) -> Array:
        return cross_entropy(jax.vmap(partial(spec.apply, point))(task.train.x), task.train.y)

    return {
        "none": None,
        "weights": WeightMatching(),
        "activations": ActivationMatching(task.train.x),
        "sinkhorn_l2": SinkhornMatching(),
        "sinkhorn_mid": SinkhornMatching(MidpointLoss(loss)),
        "sinkhorn_rnd": SinkhornMatching(RandomPointLoss(loss)),
    }


@dataclasses.dataclass(frozen=True)
class FieldKind:
    """A vector field: how it is made, and whether it can treat all hidden neurons alike."""

    make: Callable[..., nnx.Module]
    equivariant: bool


def _on_graph(
    kind: type[GraphField],
    config: Config,
    spec: WeightSpec,
    like: Point,
    unit: Mapping[str, float],
    rngs: nnx.Rngs,
) -> nnx.Module:
    return kind(
        spec,
        width=config.width,
        depth=config.depth,
        fold=config.fold,
        own_embedding=OWN_EMBEDDING[config.own_embedding](spec),
        unit=unit,
        dtype=DTYPES[config.dtype],
        rngs=rngs,
    )


def _mlp(
    config: Config, spec: WeightSpec, like: Point, unit: Mapping[str, float], rngs: nnx.Rngs
) -> nnx.Module:
    return MLPField(like, width=config.width, depth=config.depth, unit=unit, rngs=rngs)


FIELDS = {
    "transformer": FieldKind(partial(_on_graph, RelationalTransformer), True),
    "full_transformer": FieldKind(partial(_on_graph, FullTransformer), True),
    "pna": FieldKind(partial(_on_graph, PNA), True),
    "mlp": FieldKind(_mlp, False),
}
PARTS_OF_TASK = ("train", "validation", "test")
KEYS = ("initial", "zoo", "prior", "field", "training", "sampling", "novelty")


class Data:
    """A task and the fingerprint of its data, computed once."""

    def __init__(self, name: str, split: int):
        self.task: Task = load_task(name, split)
        self._shaped = {self.task.input_shape: self.task}

    @cached_property
    def digest(self) -> str:
        """The fingerprint of all inputs and labels."""
        return digest(self.task)

    def shaped(self, network: Network) -> Task:
        """The task with inputs of the shape that a network takes."""
        shape = network.inputs_of(self.task.train.x[:1]).shape[1:]
        if shape not in self._shaped:
            splits = {part: getattr(self.task, part) for part in PARTS_OF_TASK}
            self._shaped[shape] = dataclasses.replace(
                self.task,
                **{part: Split(network.inputs_of(s.x), s.y) for part, s in splits.items()},
            )
        return self._shaped[shape]


load_once = lru_cache(maxsize=4)(Data)  # MNIST takes seconds to load, and cells share it


class Parts:
    """Everything that a config describes, built and checked before any work begins."""

    def __init__(self, config: Config):
        self.config = config
        self.mesh = device_mesh(config.devices) if config.devices > 1 else None
        self.data = load_once(config.task, config.split)
        self._of_network(config)
        self._of_zoo(config.zoo)
        self._of_flow(config.flow)
        self._of_field(config)
        self._of_training(config.training)
        self.sampling = Sampling.of(config, self.form, self.task.train, self.mesh)
        snapshots = self.schedule.snapshots(len(self.task.train))
        check_memory(least(config, self.network.n_weights, snapshots))
        drawn = jax.random.split(jax.random.key(config.seed), len(KEYS))
        self.keys: dict[str, Array] = dict(zip(KEYS, drawn, strict=True))
        self.keys["validation"] = jax.random.fold_in(self.keys["training"], 1)

    def _of_network(self, config: Config) -> None:
        """`stored` is the network in files at `zoo.path`; `known` is it without BatchNorm."""
        task = self.data.task
        self.stored = for_task(config.network, task.input_shape, task.n_classes)
        if batch_norms(self.stored.spec) and not config.zoo.path:
            raise UserError(
                f"config.network is {config.network!r}, with BatchNorm, which networks are trained "
                "without here; add batch_norm=False, or give networks trained elsewhere by zoo.path"
            )
        self.known = self.stored.without_batch_norm()
        self.task, self.network = self.data.shaped(self.known), self.known.spec
        self.flat = AsTrained(self.network).manifold()
        own_last_layer = self.network.lead(self.network.output) is not None
        # For alignment and distances.
        self.quotient = Canonical(self.network, "sphere+scale" if own_last_layer else "euclidean")

    def _of_zoo(self, z: Config) -> None:
        rule, normal = choose(STARTS, "zoo.initial", z.initial), AsTrained(self.network).prior
        self.initial = Drawn(self.network, rule) if rule else normal(z.prior_std)
        jax.eval_shape(self.initial.sample, jax.random.key(0))  # refuses what a rule is not for
        self.schedule = Schedule(z.epochs, z.batch_size, z.burn_in, z.stride, z.same_batches)
        make = choose(ZOO_OPTIMIZERS, "zoo.optimizer", z.optimizer)
        rate = choose(ZOO_RATES, "zoo.rate", z.rate)
        steps = self.schedule.steps(len(self.task.train))
        self.zoo_optimizer = make(rate(z.learning_rate, steps), z.weight_decay)
        count_held_out(z.networks, z.held_out)  # refuses impossible shares early

    def _of_flow(self, f: Config) -> None:
        self.kind: Kind = choose(KINDS, "flow.kind", f.kind)
        self.form = self.kind.form(self.network, f.last_layer)
        self.prediction = choose(PREDICTIONS, "flow.prediction", f.prediction)
        self.weighting = choose(WEIGHTINGS, "flow.weighting", f.weighting)
        self.path, self.time = GeodesicPath(f.sigma), BetaTime(f.time_b)
        ways = matchings(self.quotient.spec, self.task)
        self.matching: Matching | None = choose(ways, "flow.align", f.align)
        self.pairing: Pairing = choose(COUPLINGS, "flow.coupling", f.coupling)

    def _of_field(self, config: Config) -> None:
        field = config.field
        self.field: FieldKind = choose(FIELDS, "field.kind", field.kind)
        choose(DTYPES, "field.dtype", field.dtype)
        own = choose(OWN_EMBEDDING, "field.own_embedding", field.own_embedding)(self.network)
        equivariant = self.field.equivariant and not set(own) & set(self.network.permutable)
        if self.pairing.up_to_permutation and not equivariant:
            raise UserError(
                f"config.flow.coupling is {config.flow.coupling!r}, which orders x₀'s neurons like "
                "x₁'s and so misleads a field that tells hidden neurons apart; set "
                "field.kind=transformer and field.own_embedding=fixed, or flow.coupling=ot"
            )

    def _of_training(self, c: Config) -> None:
        choose(KEPT, "training.keep", c.keep)
        make = choose(OPTIMIZERS, "training.optimizer", c.optimizer)
        self.optimizer = make(c.learning_rate, c.steps)
        self.training = {
            "batch_size": c.batch_size,
            "ema_decay": c.ema_decay,
            "microbatch": c.microbatch,
            "mesh": self.mesh,
        }
        Trainer(lambda *_: jnp.zeros(()), self.optimizer, **self.training)

    def changed(self, **changes: Any) -> "Parts":
        """The parts of a config with these changes."""
        config = self.config.copy_and_resolve_references()
        config.update(changes)
        return Parts(config)
