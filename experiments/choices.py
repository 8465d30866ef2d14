"""What the configs of `experiments.uci` can name: flows, couplings, matchings, fields."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from experiments.command import Config, UsageError, choose
from wfm.fields import PNA, FullTransformer, GraphField, MLPField, RelationalTransformer
from wfm.flows import (
    Coupling,
    EndPoint,
    EntropicTransport,
    EquivariantTransport,
    Given,
    Independent,
    OptimalTransport,
    Velocity,
)
from wfm.manifolds import Manifold, Point
from wfm.tasks import Task, cross_entropy
from wfm.training import adam, muon
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
)


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
OPTIMIZERS = {"adam": adam, "muon": muon}
# What the loss divides each array's error by, from the typical size and the number of its entries.
WEIGHTINGS: dict[str, Callable[[float, int], float]] = {
    "arrays": lambda size, dim: size * dim**0.5,  # arrays count alike, whatever their size
    "entries": lambda size, dim: size,  # entries count alike: large arrays count most
    "none": lambda size, dim: 1.0,  # the metric of the manifold
}


def _sgd(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float
) -> optax.GradientTransformation:
    """With the momentum of the thesis (appendix, MNIST)."""
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(decay, optax.sgd(learning_rate, momentum=0.9))


def _adamw(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float
) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=weight_decay)


ZOO_OPTIMIZERS = {"adam": _adamw, "sgd": _sgd}
# From the first learning rate and the number of steps.
ZOO_RATES = {"constant": lambda rate, steps: rate, "cosine": optax.cosine_decay_schedule}


@dataclasses.dataclass(frozen=True)
class Pairing:
    """A coupling, made for the spec of the points, and what it asks of the rest."""

    coupling: Callable[[WeightSpec], Coupling]
    up_to_permutation: bool = False  # x₀'s neurons come in the order of x₁'s
    from_initial: bool = False  # x₀ are the weights that the networks were trained from


COUPLINGS = {
    "independent": Pairing(lambda spec: Independent()),
    "ot": Pairing(lambda spec: OptimalTransport()),
    "entropic": Pairing(lambda spec: EntropicTransport()),
    "equivariant": Pairing(lambda spec: EquivariantTransport(partial(align, spec)), True),
    "trajectory": Pairing(lambda spec: Given(), True, from_initial=True),
}


def matchings(spec: WeightSpec, task: Task) -> dict[str, Matching | None]:
    """Ways to align networks that `spec` describes, by name."""

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
    """A vector field: how it is made, and whether it can treat hidden neurons all alike."""

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
        own_embedding=own_embedding(config, spec),
        unit=unit,
        dtype=choose(DTYPES, "field.dtype", config.dtype),
        rngs=rngs,
    )


def _mlp(
    config: Config, spec: WeightSpec, like: Point, unit: Mapping[str, float], rngs: nnx.Rngs
) -> nnx.Module:
    return MLPField(like, width=config.width, depth=config.depth, unit=unit, rngs=rngs)


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
FIELDS = {
    "transformer": FieldKind(partial(_on_graph, RelationalTransformer), True),
    "full_transformer": FieldKind(partial(_on_graph, FullTransformer), True),
    "pna": FieldKind(partial(_on_graph, PNA), True),
    "mlp": FieldKind(_mlp, False),
}


def own_embedding(config: Config, spec: WeightSpec) -> tuple[str, ...]:
    """The groups whose neurons `config.field` gives an embedding each."""
    choices = {"all": tuple(spec.groups), "fixed": spec.fixed, "none": ()}
    if config.own_embedding not in choices:
        raise UsageError(
            f"config.field.own_embedding is {config.own_embedding!r}; "
            f"choose one of {', '.join(choices)}"
        )
    return choices[config.own_embedding]


def check_coupling(config: Config, spec: WeightSpec) -> None:
    """Refuse a coupling that orders x₀'s neurons for a field that tells neurons apart."""
    field = config.field
    told_apart = set(own_embedding(field, spec)) & set(spec.permutable)
    equivariant = FIELDS[field.kind].equivariant and not told_apart
    if COUPLINGS[config.flow.coupling].up_to_permutation and not equivariant:
        raise UsageError(
            f"config.flow.coupling is {config.flow.coupling!r}, which orders x₀'s neurons like "
            "x₁'s and so misleads a field that tells hidden neurons apart; set "
            "field.kind=transformer and field.own_embedding=fixed, or flow.coupling=ot"
        )
