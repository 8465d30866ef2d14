"""Training a field for a flow, in one call."""

from typing import Any

import jax
import optax
from flax import nnx

from wfm.fields import functional
from wfm.flows import Field, Flow
from wfm.manifolds import Point
from wfm.training.trainer import Trainer, muon


def flow_trainer(
    flow: Flow, module: nnx.Module, optimizer: optax.GradientTransformation, **options: Any
) -> tuple[Trainer, Any, Any]:
    """A trainer of `module` as the flow's field; also its `bind` and parameters (`functional`)."""
    bind, parameters = functional(module)

    def loss(parameters: Any, example: Any) -> jax.Array:
        return flow.example_loss(bind(parameters), *example)

    return Trainer(loss, optimizer, flow.examples, **options), bind, parameters


def learn(
    flow: Flow,
    module: nnx.Module,
    data: Point,
    steps: int = 1000,
    learning_rate: float = 1e-2,
    seed: int = 0,
    **options: Any,
) -> Field:
    """The field `(t, x)` that `module` becomes when trained on stacked `data` points.

    `options` are those of `Trainer`: `batch_size`, `decay`, `at_once`, `mesh`.
    """
    optimizer = muon(learning_rate, steps)
    trainer, bind, parameters = flow_trainer(flow, module, optimizer, **options)
    state = trainer.fit(trainer.init(parameters, jax.random.key(seed)), data, steps)
    return bind(state.average)
