"""Identities that low precision can break: how far each is off, with products of each precision."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from experiments.budget import seconds_left
from experiments.measures.base import Point
from experiments.records import Figures
from experiments.stages import Run
from wfm.fields import PNA, FullTransformer, GraphField, RelationalTransformer, functional
from wfm.flows import Flow, Integrator, VelocityPrediction, rk4
from wfm.manifolds import (
    SO3,
    SPD,
    Euclidean,
    Hyperboloid,
    Manifold,
    PoincareBall,
    Product,
    Sphere,
    Torus,
    ZeroSum,
)
from wfm.priors import standard
from wfm.weights import AsTrained, Canonical, mlp, permute, random_permutation

Error = Float[Array, ""]
Law = Callable[["Precision", Key[Array, ""]], Error]
N = 16  # draws of which the worst counts
FINE = Integrator(32, rk4)


@dataclasses.dataclass(frozen=True)
class Precision:
    """What products of matrices are rounded to, the type of a field's layers, the largest error.

    The errors are some 200 times the rounding of float32, and 4 times those of shorter mantissas:
    enough for sums, not for a formula that cancels.
    """

    products: str
    layers: Any
    largest: float


PRECISIONS = {
    "float32": Precision("float32", jnp.float32, 2.5e-5),
    "TF32": Precision("tensorfloat32", jnp.float32, 4 * 2**-10),
    "bfloat16": Precision("bfloat16", jnp.bfloat16, 4 * 2**-7),
}
MANIFOLDS: dict[str, Manifold] = {
    "spheres": Sphere((30, 16), axes=0),
    "hyperboloid": Hyperboloid(3),
    "Poincaré ball": PoincareBall(2),
    "SPD matrices": SPD(3),
    "rotations": SO3(),
    "torus": Torus((3,)),
    "last layers": ZeroSum(Sphere((16, 2), radius=2.0), Sphere((16, 1), radius=2.0), axis=1),
    "a product": Product({"w": Sphere((30, 16), axes=0), "b": Euclidean((16,))}),
}
NETWORK = mlp(30, 16, 16, 2)
FORM = Canonical(NETWORK)
FIELDS: dict[str, type[GraphField]] = {
    "neighbours": RelationalTransformer,
    "all pairs": FullTransformer,
    "PNA": PNA,
}


def worst(one: Callable[[Key[Array, ""]], Any], key: Key[Array, ""]) -> Error:
    """The largest entry of the errors of `N` draws; not a number if any of them is none."""
    errors = jax.tree.leaves(jax.jit(jax.vmap(one))(jax.random.split(key, N)))
    return jnp.stack([jnp.abs(a).max(initial=0) for a in errors]).max()


def difference(a: Any, b: Any) -> Any:
    """a − b, array by array."""
    return jax.tree.map(jnp.subtract, a, b)


def _tangent(manifold: Manifold, x: Any, key: Key[Array, ""]) -> Any:
    """A tangent vector of length 1."""
    leaves, tree = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    v = manifold.to_tangent(x, manifold.frame(x, tree.unflatten(noise)))
    return jax.tree.map(lambda a: a / manifold.norm(x, v), v)


def log_undoes_exp(manifold: Manifold, precision: Precision, key: Key[Array, ""]) -> Error:
    """log_x exp_x v = v, and the distance is the length of v."""

    def one(key: Key[Array, ""]) -> Any:
        first, second = jax.random.split(key)
        x = standard(manifold, 0.5).sample(first)
        v = _tangent(manifold, x, second)
        y = manifold.exp(x, v)
        return difference(manifold.log(x, y), v), manifold.dist(x, y) - 1

    return worst(one, key)


def transport_keeps_lengths(manifold: Manifold, precision: Precision, key: Key[Array, ""]) -> Error:
    """Parallel transport along a geodesic is an isometry."""

    def one(key: Key[Array, ""]) -> Array:
        first, second = jax.random.split(key)
        x = standard(manifold, 0.5).sample(first)
        v = _tangent(manifold, x, second)
        w = manifold.transport(x, manifold.exp(x, v), v)
        return manifold.norm(manifold.exp(x, v), w) - 1

    return worst(one, key)


def form_keeps_function(precision: Precision, key: Key[Array, ""]) -> Error:
    """A network and the weights of its canonical form compute the same, up to their size."""

    def one(key: Key[Array, ""]) -> Array:
        first, second = jax.random.split(key)
        weights = AsTrained(NETWORK).prior(0.3).sample(first)
        x = jax.random.normal(second, (30,))
        same = FORM.decode(FORM.encode(weights))
        out, other = (jax.nn.log_softmax(NETWORK.apply(w, x)) for w in (weights, same))
        return (out - other) / jnp.abs(out).max()

    return worst(one, key)


def field_is_equivariant(kind: type[GraphField], precision: Precision, key: Key) -> Error:
    """The field of permuted weights is the permuted field, up to its size."""
    module = kind(
        NETWORK, width=16, depth=2, dtype=precision.layers, own_embedding=(), rngs=nnx.Rngs(0)
    )
    bind, params = functional(module)
    noise = np.random.default_rng(0).normal  # on the host, where nothing is compiled for it
    # Fields begin at zero, which is equivariant in any case.
    field = bind(jax.tree.map(lambda a: a + jnp.asarray(noise(0, 0.1, a.shape), a.dtype), params))

    def one(key: Key[Array, ""]) -> Any:
        first, second = jax.random.split(key)
        x = AsTrained(NETWORK).prior(0.5).sample(first)
        permutation = random_permutation(NETWORK, second)
        out = permute(NETWORK, permutation, field(0.3, x))
        other = field(0.3, permute(NETWORK, permutation, x))
        size = jnp.stack([jnp.abs(a).max() for a in out.values()]).max()
        return jax.tree.map(lambda a, b: (a - b) / size, out, other)

    return worst(one, key)


def solver_arrives(manifold: Manifold, precision: Precision, key: Key[Array, ""]) -> Error:
    """The field that points at y along the geodesic ends there."""

    def one(key: Key[Array, ""]) -> Array:
        first, second = jax.random.split(key)
        x = standard(manifold, 0.5).sample(first)
        y = manifold.exp(x, _tangent(manifold, x, second))
        start = manifold.log(x, y)

        def field(t: Array, z: Any) -> Any:
            return manifold.transport(x, z, start)

        flow = Flow(manifold, field, prediction=VelocityPrediction())
        return manifold.dist(flow.integrate(x, FINE), y)

    return worst(one, key)


def density_is_the_closed_form(precision: Precision, key: Key[Array, ""]) -> Error:
    """For the field A x: log N(x; 0, exp(A) exp(A)ᵀ)."""
    space, n = Euclidean((6,)), 6
    a = 0.3 * jax.random.normal(jax.random.key(1), (n, n))
    flow = Flow(space, lambda t, x: a @ x, prediction=VelocityPrediction())

    def one(key: Key[Array, ""]) -> Array:
        x = jax.random.normal(key, (n,))
        with jax.default_matmul_precision("float32"):
            back = jax.scipy.linalg.expm(-a) @ x
            expected = flow.prior.log_prob(back) - jnp.trace(a)
        return (flow.log_prob(x, FINE) - expected) / n

    return worst(one, key)


def rotation_keeps_density(precision: Precision, key: Key[Array, ""]) -> Error:
    """A rotation of the sphere leaves the uniform density as it is."""
    sphere = Sphere((4,))
    turn = jax.random.normal(jax.random.key(1), (4, 4))
    flow = Flow(sphere, lambda t, x: (turn - turn.T) @ x / 2, prediction=VelocityPrediction())

    def one(key: Key[Array, ""]) -> Array:
        x = sphere.uniform(key)
        return flow.log_prob(x, FINE) - flow.prior.log_prob(x)

    return worst(one, key)


# What is most likely to break comes first, as the time may end before the last.
LAWS: dict[str, Law] = (
    {"canonical forms keep functions": form_keeps_function}
    | {f"equivariance, {name}": partial(field_is_equivariant, f) for name, f in FIELDS.items()}
    | {
        "density of a linear flow": density_is_the_closed_form,
        "density of a rotation": rotation_keeps_density,
    }
    | {
        f"geodesics arrive, {name}": partial(solver_arrives, MANIFOLDS[name])
        for name in ("spheres", "a product")  # fields there give tangent vectors as they are
    }
    | {
        f"transport keeps lengths, {name}": partial(transport_keeps_lengths, MANIFOLDS[name])
        for name in ("spheres", "hyperboloid", "SPD matrices")
    }
    | {f"log undoes exp, {name}": partial(log_undoes_exp, m) for name, m in MANIFOLDS.items()}
)


def points(run: Run) -> Iterator[Point]:
    """Every law with products of every precision, for as many minutes as there are."""
    for law in LAWS:
        for precision in PRECISIONS:
            if seconds_left(run.config) > 0:
                at = {"law": law, "precision": precision}
                yield Point(at, partial(_figures, law, precision))


def _figures(law: str, name: str, folder: Path) -> Figures:
    precision = PRECISIONS[name]
    with jax.default_matmul_precision(precision.products):
        error = float(LAWS[law](precision, jax.random.key(0)))
    return {"error": error, "largest": precision.largest}
