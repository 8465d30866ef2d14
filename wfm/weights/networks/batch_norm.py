"""BatchNorm at evaluation: folded into the layer before it, or with statistics from data."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from wfm.checks import check_count
from wfm.errors import UserError
from wfm.weights.networks.layers import EPS, last_axis
from wfm.weights.precision import in_working_precision
from wfm.weights.spec import Axes, Group, Weights, WeightSpec

LEFT = (
    "what the mean and the shift, or the variance and the gain, of a BatchNorm take from each "
    "other (`fold_batch_norm` removes both)"
)
"""What keeps the function of every network with BatchNorm, besides rescalings."""


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """BatchNorm (Ioffe & Szegedy 2015) of what `layer` computes, with its own mean and variance.

    Its arrays are `layer.norm.gain`, `.shift`, `.mean` and `.variance`. The kernel `layer.kernel`
    enters a group of linear neurons, the mean and variance too; the gain leads from it to another
    group of the same order, which the shift enters. Rescaling the linear neurons leaves the
    variance as it is, so that it holds exactly.
    """

    layer: str
    eps: float = EPS

    @property
    def gain(self) -> str:
        """Name of the gain."""
        return f"{self.layer}.norm.gain"

    @property
    def shift(self) -> str:
        """Name of the shift."""
        return f"{self.layer}.norm.shift"

    @property
    def mean(self) -> str:
        """Name of the mean."""
        return f"{self.layer}.norm.mean"

    @property
    def variance(self) -> str:
        """Name of the variance."""
        return f"{self.layer}.norm.variance"

    @property
    def kernel(self) -> str:
        """Name of the kernel of the layer before it."""
        return f"{self.layer}.kernel"

    @property
    def bias(self) -> str:
        """Name of the bias of that layer once the norm is folded into it."""
        return f"{self.layer}.bias"

    def arrays(self, before: str, after: str) -> dict[str, Axes]:
        """The axes of its arrays between these two groups."""
        return {
            self.gain: ((before, after),),
            self.shift: (after,),
            self.mean: (before,),
            self.variance: (before,),
        }

    def powers(self, before: str) -> dict[str, dict[str, int]]:
        """The exceptions to how its arrays are rescaled."""
        return {self.variance: {before: 0}}

    def factor(self, weights: Weights) -> Float[Array, " n"]:
        """What each neuron is multiplied by."""
        return weights[self.gain] * jax.lax.rsqrt(weights[self.variance] + self.eps)

    def __call__(self, weights: Weights, x: Float[Array, "... n"]) -> Float[Array, "... n"]:
        x = (x - last_axis(weights[self.mean], x)) * last_axis(self.factor(weights), x)
        return x + last_axis(weights[self.shift], x)


@runtime_checkable
class HasBatchNorm(Protocol):
    """Activations of a network that list their BatchNorms, in the order of computation."""

    @property
    def norms(self) -> tuple[BatchNorm, ...]:
        """The BatchNorms of this network."""
        ...

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]: ...

    def folded(self) -> "HasBatchNorm":
        """The same forward pass without them, where layers have biases."""
        ...


def batch_norms(spec: WeightSpec) -> tuple[BatchNorm, ...]:
    """The BatchNorms of a network, in the order of computation; most networks have none."""
    return spec.activations.norms if isinstance(spec.activations, HasBatchNorm) else ()


def fold_batch_norm(spec: WeightSpec, weights: Weights) -> tuple[WeightSpec, Weights]:
    """The equal network without BatchNorm: its factor joins the kernel before it, the rest a bias.

    Exact up to rounding, if the network is evaluated (Jacob et al. 2018, section 3.2). Networks
    without BatchNorm come back as they are. The spec does not depend on the weights, so stacked
    networks fold with `jax.vmap(lambda w: fold_batch_norm(spec, w)[1])(weights)`.
    """
    spec.check(weights)
    if not isinstance(activations := spec.activations, HasBatchNorm) or not activations.norms:
        return spec, weights
    new = in_working_precision(weights)
    for norm in activations.norms:
        factor, bias = norm.factor(new), new.get(norm.bias, 0.0)
        new[norm.bias] = new[norm.shift] + (bias - new[norm.mean]) * factor
        axis = spec.target_axis(norm.kernel)
        shape = [-1 if a == axis else 1 for a in range(new[norm.kernel].ndim)]
        new[norm.kernel] = new[norm.kernel] * factor.reshape(shape)
    folded = _folded(spec, activations)
    return folded, {name: new[name] for name in folded.arrays}


def _folded(spec: WeightSpec, activations: HasBatchNorm) -> WeightSpec:
    """The spec without BatchNorms, and without the groups of neurons before them."""
    norms, after, arrays = activations.norms, {}, dict(spec.arrays)
    for norm in norms:
        (_, before), (_, behind) = spec.ends(norm.gain)
        after[before] = behind
        for name in norm.arrays(before, behind):
            del arrays[name]
    arrays = {name: tuple(_moved(axis, after) for axis in a) for name, a in arrays.items()}
    kernels = {norm.kernel: norm for norm in norms}
    with_biases: dict[str, Axes] = {}
    for name, axes in arrays.items():
        with_biases[name] = axes
        if name in kernels:
            norm = kernels[name]
            with_biases[norm.bias] = (after[spec.ends(norm.gain)[0][1]],)
    return WeightSpec(
        _without(spec, set(after)),
        with_biases,
        activations.folded(),
        {name: p for name, p in spec.powers.items() if name in arrays},
        tuple(said for said in spec.left if said != LEFT),
    )


def _moved(axis: str | int | tuple[str, ...], after: dict[str, str]) -> str | int | tuple[str, ...]:
    if isinstance(axis, tuple):
        return tuple(after.get(group, group) for group in axis)
    return after.get(axis, axis) if isinstance(axis, str) else axis


def _without(spec: WeightSpec, gone: set[str]) -> dict[str, Group]:
    """The other groups; the first that is left of each order stands for it."""
    groups, first = {}, {}
    for name, group in spec.groups.items():
        if name not in gone:
            head = first.setdefault(spec.order(name), name)
            order = None if head == name else head
            groups[name] = dataclasses.replace(group, order=order)
    return groups


def recalibrate(
    spec: WeightSpec, weights: Weights, inputs: Float[Array, "n ..."], batch: int = 256
) -> Weights:
    """The network with the means and variances that `inputs` give, of all its BatchNorms.

    In the order of computation each BatchNorm gets the mean and the variance (over inputs and
    places) of what reaches it, when those before it already have theirs. The result does not
    depend on `batch`, the number of inputs computed at once. For stacked networks map with
    `jax.vmap`.

    Recalibrate weights as they were trained or sampled, and not canonical ones: rescaling the
    neurons before a BatchNorm leaves its variance, which is then no longer that of the data.
    """
    spec.check(weights)
    check_count("the number of inputs computed at once", batch)
    if not len(inputs):
        raise UserError("no inputs to recalibrate on; give at least one")
    weights, norms = in_working_precision(weights), batch_norms(spec)

    def better(_: Array | int, weights: Weights) -> Weights:
        """All statistics of these weights; those of the first k norms are right after k rounds."""
        values = jax.lax.map(lambda x: _moments(spec, weights, x), inputs, batch_size=batch)
        new = dict(weights)
        for norm, (means, variances) in zip(norms, values, strict=True):
            new[norm.mean] = mean = means.mean(0)
            new[norm.variance] = (variances + (means - mean[None]) ** 2).mean(0)
        return new

    return jax.lax.fori_loop(0, len(norms), better, weights)


def _moments(spec: WeightSpec, weights: Weights, x: Array) -> list[tuple[Array, Array]]:
    """Over the places of one input, mean and variance of what reaches each BatchNorm."""
    values, moments = spec.activations(weights, x), []
    for norm in batch_norms(spec):
        (_, before), _ = spec.ends(norm.gain)
        reaching = values[before].reshape(-1, values[before].shape[-1])
        moments.append((reaching.mean(0), reaching.var(0)))
    return moments
