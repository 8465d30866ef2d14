"""Forms of weights that a flow can model: as trained, or with rescaling symmetries removed."""

import abc
import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array

from wfm.manifolds import Euclidean, Manifold, Product, Sphere
from wfm.manifolds.base import safe_sqrt
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import rescale

ByArray = float | Mapping[str, float]


def _flat_space(spec: WeightSpec, name: str, std: ByArray, mean: ByArray) -> Euclidean:
    own = [v[name] if isinstance(v, Mapping) else v for v in (std, mean)]
    return Euclidean(spec.shape(name), *own)


class WeightForm(abc.ABC):
    """A way to write a network's weights as points of a manifold.

    `network` is the spec of the weights, `spec` the spec of the points; both compute, so whatever
    takes a spec and weights takes `form.spec` and points.
    """

    network: WeightSpec
    spec: WeightSpec

    @abc.abstractmethod
    def encode(self, weights: Weights) -> Weights:
        """The point of some weights."""

    @abc.abstractmethod
    def decode(self, point: Weights) -> Weights:
        """Weights of a point."""

    @abc.abstractmethod
    def manifold(self, std: ByArray = 1.0, mean: ByArray = 0.0) -> Product:
        """Where the points live; reference draws of its flat parts have this `std` and `mean`.

        Both are one number, or one for each array of `spec` by name.
        """


class AsTrained(WeightForm):
    """Weights as they are, in flat space."""

    def __init__(self, network: WeightSpec):
        self.network = self.spec = network

    def encode(self, weights: Weights) -> Weights:
        return weights

    def decode(self, point: Weights) -> Weights:
        return point

    def manifold(self, std: ByArray = 1.0, mean: ByArray = 0.0) -> Product:
        spec = self.network
        return Product({name: _flat_space(spec, name, std, mean) for name in spec.arrays})


@dataclasses.dataclass(frozen=True)
class LastLayer:
    """What is done to all that enters the outputs: bring its kernel to norm √C; keep the scale."""

    normalized: bool
    keeps_scale: bool


LAST_LAYERS = {
    "sphere": LastLayer(normalized=True, keeps_scale=False),
    "sphere+scale": LastLayer(normalized=True, keeps_scale=True),
    "euclidean": LastLayer(normalized=False, keeps_scale=False),
}
LOG_SCALE = "log_scale"


class Canonical(WeightForm):
    """The canonical form of Pittorino et al. (2022, 'Deep networks on toroids', section 2).

    Layer by layer every hidden neuron's incoming weights and bias are divided by its scale (for
    ReLU the norm of its incoming weights, for tanh their sign) and what leaves it is multiplied
    by the same. Where several arrays enter a group, the first kernel gives the scale and the rest
    stays flat. `last` says what becomes of a classifier's last layer:

    - `"sphere"`: kernel and bias rescaled so that the kernel of C outputs has norm √C, as
      published. Keeps the arg-max, loses the temperature.
    - `"sphere+scale"`: the same, with the lost log-scale as one more flat coordinate,
      `log_scale`. Lossless: `decode(encode(w))` computes what `w` computes.
    - `"euclidean"`: the last layer is left as it is. Lossless.
    """

    def __init__(self, network: WeightSpec, last: str = "sphere+scale"):
        if last not in LAST_LAYERS:
            raise ValueError(
                f"unknown form {last!r} of the last layer; choose one of {', '.join(LAST_LAYERS)}"
            )
        _check_order(network)
        self.network = network
        self.last = LAST_LAYERS[last]
        extra = {LOG_SCALE: ()} if self.last.keeps_scale else {}
        self.spec = dataclasses.replace(
            network,
            arrays=dict(network.arrays) | extra,
            activations=lambda point, x: network.activations(self.decode(point), x),
        )

    def encode(self, weights: Weights) -> Weights:
        spec = self.network
        spec.check(weights)
        for group in spec.groups:
            factor = self._measure(group, weights)
            if factor is not None:
                weights = rescale(spec, {group: 1 / factor}, weights)
        if not self.last.normalized:
            return weights
        norm = safe_sqrt((weights[self._last_kernel] ** 2).sum())
        scale = jnp.where(norm > 0, norm / self._radius, 1.0)
        point = self._scale_outputs(weights, 1 / scale)
        return point | ({LOG_SCALE: jnp.log(scale)} if self.last.keeps_scale else {})

    def decode(self, point: Weights) -> Weights:
        if not self.last.keeps_scale:
            return point
        weights = {name: point[name] for name in self.network.arrays}
        return self._scale_outputs(weights, jnp.exp(point[LOG_SCALE]))

    def manifold(self, std: ByArray = 1.0, mean: ByArray = 0.0) -> Product:
        spec = self.spec
        factors: dict[str, Manifold] = {
            name: _flat_space(spec, name, std, mean) for name in spec.arrays
        }
        for group_name, group in spec.groups.items():
            if lead := spec.lead(group_name):
                name, axis = lead
                factors[name] = group.scaling.manifold(factors[name], spec.shape(name), axis)
        if self.last.normalized:
            name = self._last_kernel
            factors[name] = Sphere(spec.shape(name), radius=self._radius)
        return Product(factors)

    @property
    def _radius(self) -> float:
        return math.sqrt(self.network.groups[self.network.output].size)

    @property
    def _last_kernel(self) -> str:
        lead = self.network.lead(self.network.output)
        assert lead, "no array brings signals to the outputs"
        return lead[0]

    def _measure(self, group: str, weights: Weights) -> Array | None:
        """Scales of the neurons of `group`, read off its leading kernel."""
        lead = self.network.lead(group)
        if lead is None:
            return None
        name, axis = lead
        kernel = jnp.moveaxis(weights[name], axis, 0)
        return self.network.groups[group].scaling.measure(kernel.reshape(len(kernel), -1))

    def _scale_outputs(self, weights: Weights, factor: Array) -> Weights:
        outputs = self.network.output
        factors = jnp.full(self.network.groups[outputs].size, factor)
        return rescale(self.network, {outputs: factors}, weights)


def _check_order(network: WeightSpec) -> None:
    order = list(network.groups)
    for group in order:
        if lead := network.lead(group):
            sources = list(network.labels(lead[0]).values())[:-1]
            if any(order.index(source) >= order.index(group) for source in sources):
                raise ValueError(
                    f"the first kernel into {group!r}, {lead[0]!r}, comes from a group that is not "
                    "before it; list groups and arrays in the order of computation"
                )


def canonicalize(spec: WeightSpec, weights: Weights, last: str = "sphere+scale") -> Weights:
    """Canonical form of `weights`; see `Canonical` for the choices of the last layer."""
    return Canonical(spec, last).encode(weights)
