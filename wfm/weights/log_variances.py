"""A form in which the variances of norms stay positive."""

import dataclasses
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.manifolds import Product
from wfm.weights.form import OfPoints, WeightForm
from wfm.weights.networks.layers import EPS
from wfm.weights.spec import Weights, WeightSpec


@dataclasses.dataclass(frozen=True)
class LogVariances(WeightForm):
    """Another form, with log(v + 10⁻⁵) for every variance v of a norm, in flat space.

    A flow draws any number on flat parts, and a norm computes NaN of a negative variance. `decode`
    gives max(exp(u) - 10⁻⁵, 0), which is a variance for every u. BatchNorm adds 10⁻⁵ itself, so the
    function changes smoothly with u even where a dead channel has the variance 0. Up to rounding,
    nothing is lost. The arrays are those of `WeightSpec.holds_variances`; all else is as in `form`.

    Use it to model networks that keep their BatchNorm, as to `recalibrate` samples of
    `LogVariances(AsTrained(spec))`. Otherwise use `fold_batch_norm`, which leaves fewer symmetries.
    """

    form: WeightForm

    def __post_init__(self):
        if isinstance(self.form, LogVariances):
            raise UserError("this form has logarithms of variances already; use it as it is")
        for name in self._variances:
            ((_, group, power),) = self.form.spec.factors(name)
            if power:
                raise UserError(
                    f"rescaling the neurons of {group!r} multiplies the variances {name!r} by the "
                    f"power {power} of their factors, which no label can say of logarithms; use "
                    f"the form without them, or {group!r} without scaling and with the power 0"
                )

    @property
    def network(self) -> WeightSpec:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The spec of the weights, as of `form`."""
        return self.form.network

    @cached_property
    def spec(self) -> WeightSpec:  # pyright: ignore[reportIncompatibleMethodOverride]
        return dataclasses.replace(self.form.spec, activations=OfPoints(self))

    @property
    def _variances(self) -> tuple[str, ...]:
        return tuple(filter(self.network.holds_variances, self.network.arrays))

    def encode(self, weights: Weights) -> Weights:
        point = self.form.encode(weights)
        return point | {name: jnp.log(point[name] + EPS) for name in self._variances}

    def decode(self, point: Weights) -> Weights:
        variance = lambda u: jnp.maximum(jnp.exp(u) - EPS, 0.0)  # noqa: E731
        return self.form.decode(point | {name: variance(point[name]) for name in self._variances})

    def check(self, weights: Weights) -> None:
        """Raise `UserError` if the inner form does, or if a variance is negative or not finite."""
        self.form.check(weights)
        for name in self._variances:
            values = np.asarray(weights[name], np.float64)
            if (where := np.argwhere(~((values >= 0) & (values < np.inf)))).size:
                network, *entry = where[0].tolist()
                raise UserError(
                    f"network {network} has the variance {values[network, *entry]:.3g} in "
                    f"{name!r}, where a finite number that is not negative is due; leave it out, "
                    "or compute its variances from data (`recalibrate`)"
                )

    def symmetries_left(self) -> tuple[str, ...]:
        return self.form.symmetries_left()

    def manifold(self) -> Product:
        return self.form.manifold()  # where variances are flat, as their logarithms are
