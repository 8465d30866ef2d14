"""SIREN: networks with sine activations."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from wfm.errors import UserError
from wfm.weights.networks.mlp import MLPActivations, layered
from wfm.weights.scaling import SignScaling
from wfm.weights.spec import Weights, WeightSpec

LEFT = (
    "2π/{1:g} added to the bias of each neuron of {{0!r}}, and other signs of its incoming weights "
    "with π/{1:g} minus its bias, as sin(π - z) = sin(z)"
)


@dataclasses.dataclass(frozen=True)
class Sine:
    """z ↦ sin(w0 z)."""

    w0: float

    def __call__(self, z: Array) -> Array:
        return jnp.sin(self.w0 * z)


def siren(*widths: int, w0: float = 30.0) -> WeightSpec:
    """SIREN, as in `siren(2, 64, 64, 3)` for an image (Sitzmann et al. 2020, section 3).

    An `mlp` whose hidden neurons compute sin(w0 z). The sine is odd, so signs are the rescalings.
    Train it from `siren_init`, since `spec.init` does not know of `w0`.
    """
    if not w0 > 0:
        raise UserError(f"the frequency w0 of a siren is positive, got {w0}")
    activations = MLPActivations(len(widths) - 1, Sine(w0))
    return layered(widths, activations, SignScaling(), left=(LEFT.format(None, w0),))


def siren_init(spec: WeightSpec, key: Key[Array, ""]) -> Weights:
    """Initial weights of a `siren` (Sitzmann et al. 2020, section 3.2 and supplement 1.5).

    Uniform, with bound √(6/fan_in)/w0, so that hidden neurons have about the same distribution in
    all layers; 1/fan_in in the first layer. Biases: bound 1/√fan_in, as in the authors' code.
    """
    activations = spec.activations
    if not (isinstance(activations, MLPActivations) and isinstance(activations.act, Sine)):
        raise UserError("siren_init is for networks that `siren` made; use `spec.init`")
    w0 = activations.act.w0

    def array(name: str, key: Key[Array, ""]) -> Array:
        layer = name.rpartition(".")[0]
        kernel = f"{layer}.kernel"
        fan_in = spec.shape(kernel)[0]
        bound = 1 / fan_in if layer == "dense1" else math.sqrt(6 / fan_in) / w0
        bound = bound if name == kernel else 1 / math.sqrt(fan_in)
        return jax.random.uniform(key, spec.shape(name), minval=-bound, maxval=bound)

    keys = jax.random.split(key, len(spec.arrays))
    return {name: array(name, k) for name, k in zip(spec.arrays, keys, strict=True)}
