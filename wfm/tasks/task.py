"""Tasks of networks: data in three splits, and the loss on outputs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from wfm.checks import check_count, is_float, non_finite_rows, numbers, some
from wfm.errors import UserError


def _as_jax(a: Any) -> Any:
    return jnp.asarray(a) if isinstance(a, np.ndarray) else a


class Split(eqx.Module):
    """Inputs and class labels, one row for each example.

    Invalid data are refused when a split is made, except inside `jit`.
    """

    x: Float[Array, "n ..."] = eqx.field(converter=_as_jax)
    y: Int[Array, " n"] = eqx.field(converter=_as_jax)

    def __check_init__(self):
        x, y = numbers(self.x), numbers(self.y)
        if x is None or y is None:
            return
        if not is_float(x):
            raise UserError(f"inputs must be floating-point numbers, got {x.dtype}; convert them")
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise UserError(
                f"labels must be one row of whole numbers, got {y.dtype} of shape {y.shape}; "
                "number the classes from 0"
            )
        if x.ndim < 1 or len(x) != len(y):
            raise UserError(
                f"inputs of shape {x.shape} and {len(y)} labels are not as many; give a label for "
                "each row of inputs"
            )
        if not len(y):
            raise UserError("a split needs at least one example, got none")
        if y.min() < 0:
            rows = np.flatnonzero(y < 0).tolist()
            raise UserError(
                f"labels must not be negative, got {y.min()} (rows {some(rows)}); number the "
                "classes from 0"
            )
        if rows := non_finite_rows(self.x):
            raise UserError(
                f"inputs are NaN or infinite in {len(rows)} rows ({some(rows)}); leave these "
                "examples out, or fill in what is missing"
            )

    def __len__(self) -> int:
        return len(self.y)


class Task(eqx.Module):
    """A classification data set, standardised with the statistics of its training split."""

    train: Split
    validation: Split
    test: Split
    n_classes: int = eqx.field(static=True)

    def __check_init__(self):
        check_count("the number of classes", self.n_classes, least=2)
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            x, y = numbers(split.x), numbers(split.y)
            if x is None or y is None:
                continue
            if x.shape[1:] != self.input_shape:
                raise UserError(
                    f"inputs of the {name} split have shape {x.shape[1:]} and those of the train "
                    f"split {self.input_shape}; prepare all splits alike"
                )
            if y.max() >= self.n_classes:
                raise UserError(
                    f"the {name} split has a label {y.max()} where there are {self.n_classes} "
                    "classes, counted from 0"
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.train.x.shape[1:]


def cross_entropy(
    logits: Float[Array, "... classes"], labels: Int[Array, "..."]
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probs, labels[..., None], axis=-1).mean()


def accuracy(logits: Float[Array, "... classes"], labels: Int[Array, "..."]) -> Float[Array, ""]:
    """Share of examples whose largest output is the label's; NaN if an output is NaN."""
    hits = (logits.argmax(-1) == labels).mean()
    return jnp.where(jnp.isnan(logits).any(), jnp.nan, hits)
