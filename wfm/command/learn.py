"""A flow over the weights of the networks in a file or folder.

Networks are read and their labels verified; hidden neurons are rescaled to the canonical form, if
there is one, and put in one order; then a flow is trained from noise to them. BatchNorm is folded
into the layers before it. The result is one file, from which `wfm sample` draws new networks.

  wfm learn nets --network mlp:4,8,3 --layout torch:dense1=0,dense2=2 --out flow.zip
  wfm learn zoo.h5 --network mine.py:network --out flow.zip --steps 10000 --width 64
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from wfm.command.described import described
from wfm.command.forms import aligned, form_for
from wfm.command.networks import Network
from wfm.command.options import (
    Zoo,
    add_network,
    add_reading,
    add_seed,
    add_skip_bad,
    check_new,
    count,
    read_zoo,
)
from wfm.command.progress import bar, say
from wfm.errors import UserError
from wfm.fields import RelationalTransformer
from wfm.flows import Flow, FlowMatching, VelocityPrediction
from wfm.training import flow_trainer, muon
from wfm.weights import WeightForm, Weights, batch_norms, fold_batch_norm

DEPTH, BATCH, MICROBATCH, EMA_DECAY, RATE = 3, 32, 8, 0.995, 2e-2  # as in configs/base.py
LEAST = 1e-3  # standard deviation of an array that is the same in all networks


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("path", help="a file or folder of networks")
    add_network(parser)
    add_reading(parser)
    add_skip_bad(parser)
    parser.add_argument("--out", required=True, type=Path, help="the flow, such as flow.zip")
    parser.add_argument("--steps", type=count, default=3000, help="of training; default: 3000")
    parser.add_argument("--width", type=count, default=32, help="of the field; default: 32")
    add_seed(parser)


def run(options: argparse.Namespace) -> None:
    """Learn and save."""
    check_new(options.out)
    zoo = read_zoo(options.path, options)
    known, weights = folded(zoo)
    form = form_for(known.spec, weights)
    found = aligned(form, weights)
    start = time.monotonic()
    flow, loss = trained(form, found.points, options.steps, options.width, options.seed)
    about = {
        "form": described(form, known),
        "layout": options.layout or "",
        "networks": len(zoo.networks),
        "steps": options.steps,
        "seed": options.seed,
        "reference": found.reference,
    }
    flow.save(options.out, about)
    print(
        f"a flow over {len(zoo.networks)} networks of {known.spec.n_weights:,} weights, learned in "
        f"{options.steps} steps and {time.monotonic() - start:.0f} s, with loss {loss:.3g}: "
        f"{options.out}"
    )


def folded(zoo: Zoo) -> tuple[Network, Weights]:
    """The networks without BatchNorm, whose statistics would not stay positive in a flow."""
    spec, weights = zoo.network.spec, zoo.networks.weights
    if not batch_norms(spec):
        return zoo.network, weights
    known = zoo.network.without_batch_norm()
    say("BatchNorm is folded into the layers before it: the flow draws networks without it")
    return known, jax.vmap(lambda w: fold_batch_norm(spec, w)[1])(weights)


def trained(
    form: WeightForm, points: Weights, steps: int, width: int, seed: int
) -> tuple[Flow, float]:
    """The flow to stacked points, and its last loss."""
    make, train = jax.random.split(jax.random.key(seed))
    std = {n: max(float(a.std()), LEAST) for n, a in points.items()}
    size = {n: max(float(jnp.sqrt((a**2).mean())), LEAST) for n, a in points.items()}
    manifold = form.manifold()
    matching = FlowMatching(
        manifold,
        prior=form.prior(std, {n: float(a.mean()) for n, a in points.items()}),
        prediction=VelocityPrediction(),
        # All arrays count equally.
        unit={n: size[n] * max(factor.dim, 1) ** 0.5 for n, factor in manifold.factors.items()},
    )
    field = RelationalTransformer(
        form.spec,
        width=width,
        depth=DEPTH,
        fold=True,  # inputs and outputs are channels: most networks fit, and large ones are fast
        own_embedding=form.spec.orders,
        unit=size,
        rngs=nnx.Rngs(make),
    )
    return _fit(matching, field, points, steps, train)


def _fit(
    matching: FlowMatching, field: Any, points: Weights, steps: int, key: Any
) -> tuple[Flow, float]:
    trainer, bind, params = flow_trainer(
        matching,
        field,
        muon(RATE, steps),
        batch_size=BATCH,
        microbatch=MICROBATCH,
        ema_decay=EMA_DECAY,
    )
    losses: list[float] = []
    with bar("learning", steps) as update:

        def report(state: Any, metrics: dict[str, float]) -> None:
            losses.append(metrics["loss"])
            update(int(state.step), f"loss {losses[-1]:.4g}")

        state = trainer.fit(trainer.init(params, key), points, steps, report=report)
    if not losses:
        raise UserError("nothing was learned; give --steps above 0")
    return matching.flow(bind(state.ema)), losses[-1]
