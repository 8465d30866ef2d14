"""Forms of weights that a flow can model: as trained, or with symmetries removed."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool

from wfm.errors import UserError
from wfm.manifolds import Euclidean, Manifold, Product, ZeroSum
from wfm.priors import Prior, ProductPrior, Uniform, WrappedNormal, entries
from wfm.weights.normal_form import normalize
from wfm.weights.precision import in_working_precision
from wfm.weights.scaling import NO_SCALING, safe_norm, sphere_or_sign
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import rescale

ByArray = ArrayLike | Mapping[str, ArrayLike]


def _of_array(name: str, value: ByArray) -> Any:
    return value[name] if isinstance(value, Mapping) else value


def _prior(manifold: Manifold, std: Any, mean: Any) -> Prior:
    """The prior of one array; on flat parts its entries have standard deviation `std`."""
    if manifold.is_compact:
        return Uniform(manifold)
    n = entries(manifold)
    if manifold.dim == n:
        return WrappedNormal(manifold, std, mean)
    # n entries with standard deviation s that sum to 0 have n - 1 free ones with a larger one.
    return WrappedNormal(manifold, std * math.sqrt(n / max(manifold.dim, 1)))


class WeightForm(abc.ABC):
    """A way to write a network's weights as points of a manifold.

    `network` is the spec of the weights, `spec` that of the points. Both can compute, so any
    function of a spec and weights also takes `form.spec` and points. Forms are values: two forms
    are equal if they treat equal networks alike.
    """

    network: WeightSpec

    @property
    @abc.abstractmethod
    def spec(self) -> WeightSpec:
        """The spec of points: their arrays, and how they compute."""

    @abc.abstractmethod
    def encode(self, weights: Weights) -> Weights:
        """The point of these weights."""

    def encode_all(self, weights: Weights) -> Weights:
        """The points of stacked networks, by one compiled program for all calls."""
        return _encode_all(self, weights)

    @abc.abstractmethod
    def decode(self, point: Weights) -> Weights:
        """The weights of a point."""

    @abc.abstractmethod
    def check(self, weights: Weights) -> None:
        """Raise `UserError` if stacked weights do not fit, or `encode` would lose something."""

    @abc.abstractmethod
    def symmetries_left(self) -> tuple[str, ...]:
        """Symmetries that still change points but not functions, in words, except permutations."""

    def check_quotient(self) -> None:
        """Raise `UserError` if distances, after alignment, are not those between functions.

        If a symmetry is left, two points of one function can lie apart. Distances are then only
        upper bounds, and a copy may look new.
        """
        if left := self.symmetries_left():
            raise UserError(
                f"distances in this form are not those of the quotient, for it keeps "
                f"{'; '.join(left)}; compare such networks by what they compute"
            )

    @abc.abstractmethod
    def manifold(self) -> Product:
        """Where the points live."""

    def prior(self, std: ByArray = 1.0, mean: ByArray = 0.0) -> ProductPrior:
        """Uniform on spheres, and Gaussian with `std` and `mean` on flat parts.

        Each is one number, or one number for each array of `spec` by name. Entries that sum to 0
        have mean 0, and each of them has this standard deviation.
        """
        factors = self.manifold().factors
        part = lambda name, m: _prior(m, _of_array(name, std), _of_array(name, mean))  # noqa: E731
        return ProductPrior({name: part(name, factor) for name, factor in factors.items()})


@partial(jax.jit, static_argnums=0)
def _encode_all(form: WeightForm, weights: Weights) -> Weights:
    return jax.vmap(form.encode)(weights)


@dataclasses.dataclass(frozen=True)
class AsTrained(WeightForm):
    """Weights as they are, in flat space.

    So are the variances of norms, and a flow may draw negative ones: see `LogVariances`.
    """

    network: WeightSpec

    @property
    def spec(self) -> WeightSpec:
        return self.network

    def encode(self, weights: Weights) -> Weights:
        return in_working_precision(weights)

    def decode(self, point: Weights) -> Weights:
        return point

    def check(self, weights: Weights) -> None:
        self.network.check(weights, batch_dims=1)

    def symmetries_left(self) -> tuple[str, ...]:
        shift = (SHIFT,) if self.network.groups[self.network.output].size > 1 else ()
        return self.network.rescalings() + self.network.symmetries_left() + shift

    def manifold(self) -> Product:
        shape = self.network.shape
        return Product({name: Euclidean(shape(name)) for name in self.network.arrays})


@dataclasses.dataclass(frozen=True)
class LastLayer:
    """Treatment of what enters the outputs: its kernel gets norm √C, and the scale is kept."""

    normalized: bool
    keeps_scale: bool


LAST_LAYERS = {
    "sphere": LastLayer(normalized=True, keeps_scale=False),
    "sphere+scale": LastLayer(normalized=True, keeps_scale=True),
    "euclidean": LastLayer(normalized=False, keeps_scale=False),
}
LOG_SCALE = "log_scale"
SHIFT = "a number added to all outputs, which probabilities do not see"


@dataclasses.dataclass(frozen=True)
class Canonical(WeightForm):
    """The canonical form of Pittorino et al. (2022, 'Deep networks on toroids', section 2).

    Layer by layer, every hidden neuron's incoming weights and bias are divided by its scale (for
    ReLU the norm of its incoming weights, for tanh their sign), and its outgoing weights are
    multiplied by it. If several arrays enter a group, the first kernel gives the scale and the rest
    stay flat. A neuron that nothing enters gets a fixed direction and sends nothing (`check` says
    if that would change the function). A sphere of dimension 0 is a sign, and is treated as flat.

    Outputs are logits: probabilities do not change if a number is added to all of them. What enters
    the outputs is therefore centred over them, so that it sums to 0. `keep_logits=True` turns this
    off, for networks whose outputs have their own meaning. A single output is never centred.

    Variances of norms stay flat, and a flow may draw negative ones: see `LogVariances`.

    `last` says how a classifier's last layer is treated:

    - `"sphere"`: kernel and bias are rescaled so that the kernel of C outputs has norm √C, as
      published. Keeps the arg-max and loses the temperature.
    - `"sphere+scale"`: the same, with the lost log-scale as one more flat coordinate,
      `log_scale`. Lossless: `decode(encode(w))` gives the same probabilities as `w`.
    - `"euclidean"`: the last layer keeps its scale. Lossless.
    """

    network: WeightSpec
    last: str = "sphere+scale"
    keep_logits: bool = False

    def __post_init__(self):
        if self.last not in LAST_LAYERS:
            names = ", ".join(LAST_LAYERS)
            raise UserError(f"unknown form {self.last!r} of the last layer; choose one of {names}")
        _check_order(self.network)
        if self._last.normalized and self.network.lead(self.network.output) is None:
            raise UserError(
                f"no array of its own enters {self.network.output!r}, so that no last layer has "
                "a scale; use last='euclidean'"
            )

    @cached_property
    def spec(self) -> WeightSpec:  # pyright: ignore[reportIncompatibleMethodOverride]
        extra = {LOG_SCALE: ()} if self._last.keeps_scale else {}
        arrays = dict(self.network.arrays) | extra
        return dataclasses.replace(self.network, arrays=arrays, activations=OfPoints(self))

    @property
    def _last(self) -> LastLayer:
        return LAST_LAYERS[self.last]

    @property
    def _centred(self) -> bool:
        """Whether the weights that enter the outputs sum to 0 over them."""
        return not self.keep_logits and self.network.groups[self.network.output].size > 1

    def encode(self, weights: Weights) -> Weights:
        self.network.check(weights)
        return self._encode(weights)[0]

    def decode(self, point: Weights) -> Weights:
        if not self._last.keeps_scale:
            return point
        weights = {name: point[name] for name in self.network.arrays}
        return self._scale_outputs(weights, jnp.exp(point[LOG_SCALE]))

    def check(self, weights: Weights) -> None:
        """Raise `UserError` if stacked weights do not fit, or have no form with their function.

        This happens if only a constant enters a hidden neuron, or if the whole last kernel is 0.
        `encode` still gives a point of the manifold, but of another function.
        """
        self.network.check(weights, batch_dims=1)
        changed = _changed(self, weights)
        for group in self.network.groups:
            if group in changed and (where := np.argwhere(changed[group])).size:
                raise UserError(self._has_no_form(group, *where[0].tolist()))

    def symmetries_left(self) -> tuple[str, ...]:
        kept = not self._centred and self.network.groups[self.network.output].size > 1
        return self.network.symmetries_left() + ((SHIFT,) if kept else ())

    def manifold(self) -> Product:
        return Product({name: self._factor(name) for name in self.spec.arrays})

    def _factor(self, name: str) -> Manifold:
        """The manifold of the array `name`: flat or spheres, of arrays that sum to 0 if centred."""
        shape, axis = self.spec.shape(name), self.spec.target_axis(name)
        flat = Euclidean(shape)
        whole = self._bent(name, flat)
        if not self._is_centred(name):
            return whole
        assert axis is not None
        short_flat = Euclidean((*shape[:axis], shape[axis] - 1, *shape[axis + 1 :]))
        short = self._bent(name, short_flat)
        return ZeroSum(flat if short is short_flat else whole, short, axis)

    def _bent(self, name: str, flat: Euclidean) -> Manifold:
        """The spheres in `flat` that the array `name` lives on, or `flat` itself."""
        axis = self.spec.target_axis(name)
        if self._last.normalized and name == self._last_kernel[0]:
            return sphere_or_sign(flat, flat.shape, list(range(len(flat.shape))), self._radius)
        group = self.spec.entered(name)
        if group is None or self.spec.lead(group) != (name, axis):
            return flat
        assert axis is not None
        return self.spec.groups[group].scaling.manifold(flat, flat.shape, axis)

    def _is_centred(self, name: str) -> bool:
        return self._centred and self.spec.entered(name) == self.spec.output

    @property
    def _radius(self) -> float:
        return math.sqrt(self.network.groups[self.network.output].size)

    @property
    def _last_kernel(self) -> tuple[str, int]:
        lead = self.network.lead(self.network.output)
        assert lead, "no array brings signals to the outputs"
        return lead

    def _encode(self, weights: Weights) -> tuple[Weights, dict[str, Bool[Array, "..."]]]:
        """The point, and in each group the neurons whose form changes the function."""
        weights, changed = in_working_precision(weights), {}
        for group, neurons in self.network.groups.items():
            if neurons.scaling != NO_SCALING and self.network.lead(group):
                weights, changed[group] = normalize(self.network, group, weights)
        uncentred = weights
        if self._centred:
            weights = self._centre(weights)
        if not self._last.normalized:
            return weights, changed
        name, axis = self._last_kernel
        norm, most = (safe_norm(w[name].reshape(1, -1))[0] for w in (weights, uncentred))
        empty = norm <= 4 * jnp.finfo(norm.dtype).eps * most  # zero, or rounding errors
        scale = jnp.where(empty, 1.0, norm / self._radius)
        point = self._scale_outputs(weights, 1 / scale)
        point[name] = jnp.where(empty, self._direction(axis, point[name]), point[name])
        changed[self.network.output] = empty[None]
        return point | ({LOG_SCALE: jnp.log(scale)} if self._last.keeps_scale else {}), changed

    def _centre(self, weights: Weights) -> Weights:
        """The weights without what is added equally to all outputs."""

        def act(name: str) -> Array:
            axis, array = self.network.target_axis(name), weights[name]
            return array - array.mean(axis, keepdims=True) if self._is_centred(name) else array

        return {name: act(name) for name in self.network.arrays}

    def _direction(self, axis: int, like: Array) -> Array:
        """A fixed point of the last kernel's sphere, independent of the order of hidden neurons."""
        row = jnp.zeros(like.shape[axis], like.dtype).at[0].set(1.0)
        row = row - row.mean() if self._centred else row
        row = row.reshape([-1 if a == axis else 1 for a in range(like.ndim)])
        whole = jnp.broadcast_to(row, like.shape)
        return whole * (self._radius / jnp.sqrt((whole**2).sum()))

    def _scale_outputs(self, weights: Weights, factor: Array) -> Weights:
        outputs = self.network.output
        factors = jnp.full(self.network.groups[outputs].size, factor)
        return rescale(self.network, {outputs: factors}, weights)

    def _has_no_form(self, group: str, network: int, neuron: int) -> str:
        lead = self.network.lead(group)
        assert lead, "what nothing enters has a form"
        if group == self.network.output:
            return (
                f"network {network} has no canonical form: its outputs are the same for all "
                f"inputs, as {lead[0]!r} is zero (or one number for all outputs, which "
                "probabilities do not see); leave it out, or use last='euclidean'"
            )
        return (
            f"network {network} has no canonical form: {lead[0]!r} brings nothing to neuron "
            f"{neuron} of {group!r}, which still passes on a constant; add what that gives to the "
            "biases it reaches and set its outgoing weights to zero"
        )


@dataclasses.dataclass(frozen=True)
class OfPoints:
    """The activations of the networks that a form's points represent."""

    form: WeightForm

    def __call__(self, point: Weights, x: Array) -> dict[str, Array]:
        return self.form.network.activations(self.form.decode(point), x)


@partial(jax.jit, static_argnums=0)
def _changed(form: Canonical, weights: Weights) -> dict[str, Bool[Array, "networks _"]]:
    return jax.vmap(lambda w: form._encode(w)[1])(weights)


def _check_order(network: WeightSpec) -> None:
    order = list(network.groups)
    for group in order:
        if lead := network.lead(group):
            sources = [source for _, source in network.ends(lead[0])[:-1]]
            scaled = [s for s in sources if network.groups[s].scaling != NO_SCALING]
            if any(order.index(source) >= order.index(group) for source in scaled):
                raise UserError(
                    f"the first kernel into {group!r}, {lead[0]!r}, comes from a group that is not "
                    "before it; list groups and arrays in the order of computation"
                )


def canonicalize(spec: WeightSpec, weights: Weights, last: str = "sphere+scale") -> Weights:
    """Canonical form of `weights`; see `Canonical` for the options of the last layer."""
    return Canonical(spec, last).encode(weights)
