"""A flow over the weights of the networks in a file or folder.

Networks are read and their labels verified; hidden neurons are rescaled to the canonical form, if
there is one, and put in one order; then a flow is trained from noise to them. BatchNorm is folded
into the layers before it. The result is one file, from which `wfm sample` draws new networks.

A command that was stopped or killed goes on where it was, if it is given again: until the flow is
written, the state of training is in a folder beside it, OUT.begun, and at most seconds old.

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

from wfm.command.begun import begun
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
    in_words,
    read_zoo,
)
from wfm.command.progress import bar, say
from wfm.digest import digest
from wfm.errors import UserError
from wfm.fields import RelationalTransformer
from wfm.flows import Flow, FlowMatching, VelocityPrediction
from wfm.training import Checkpoints, TrainState, flow_trainer, muon
from wfm.versions import version_of
from wfm.weights import WeightForm, Weights, batch_norms, fold_batch_norm

DEPTH, BATCH, MICROBATCH, EMA_DECAY, RATE = 3, 32, 8, 0.995, 2e-2  # as in configs/base.py
WIDTH = "features of each neuron and weight in the network that learns; default: 32"
CHUNK = 10  # steps between reports
SECONDS = 5.0  # between saves, and so what a kill costs
LEAST = 1e-3  # standard deviation of an array that is the same in all networks


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("path", help="a file or folder of networks")
    add_network(parser)
    add_reading(parser)
    add_skip_bad(parser)
    parser.add_argument("--out", required=True, type=Path, help="a new file, such as flow.zip")
    parser.add_argument("--steps", type=count, default=3000, help="of training; default: 3000")
    parser.add_argument("--width", type=count, default=32, help=WIDTH)
    add_seed(parser)


def run(options: argparse.Namespace) -> None:
    """Learn and save."""
    check_new(options.out)
    zoo = read_zoo(options.path, options)
    known, weights = folded(zoo)
    form = form_for(known.spec, weights)
    found = aligned(form, weights)
    start = time.monotonic()
    about = {
        "form": described(form, known),
        "layout": options.layout or "",
        "networks": len(zoo.networks),
        "steps": options.steps,
        "seed": options.seed,
        "reference": found.reference,
    }
    with begun(options.out, settings(known, zoo.networks.weights, options)) as states:
        flow, loss = trained(form, found.points, options, states)
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


def settings(known: Network, weights: Weights, options: argparse.Namespace) -> dict[str, Any]:
    """All that a state of training depends on."""
    return {
        "networks": digest(weights),
        "--network": [known.code, known.spec.explain()],
        "--steps": options.steps,
        "--width": options.width,
        "--seed": options.seed,
        "version of wfm": version_of("wfm"),
    }


def trained(
    form: WeightForm, points: Weights, options: argparse.Namespace, states: Checkpoints
) -> tuple[Flow, float]:
    """The flow to stacked points, and its last loss; it goes on from the last of `states`."""
    make, train = jax.random.split(jax.random.key(options.seed))
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
        width=options.width,
        depth=DEPTH,
        fold=True,  # inputs and outputs are channels: most networks fit, and large ones are fast
        own_embedding=form.spec.orders,
        unit=size,
        rngs=nnx.Rngs(make),
    )
    return _fit(matching, field, points, options.steps, train, states)


def _fit(
    matching: FlowMatching,
    field: Any,
    points: Weights,
    steps: int,
    key: Any,
    states: Checkpoints,
) -> tuple[Flow, float]:
    trainer, bind, params = flow_trainer(
        matching,
        field,
        muon(RATE, steps),
        batch_size=BATCH,
        microbatch=MICROBATCH,
        ema_decay=EMA_DECAY,
    )
    state, loss, saved = _start(states, trainer.init(params, key)), 0.0, time.monotonic()
    with bar("learning", steps, int(state.step)) as update:

        def report(state: TrainState, metrics: dict[str, float]) -> None:
            nonlocal loss, saved
            step, loss = int(state.step), metrics["loss"]
            # Not the last one: the flow is written at once.
            if step < steps and time.monotonic() - saved >= SECONDS:
                states.save(state)
                saved = time.monotonic()
            update(step, f"loss {loss:.4g}")

        state = trainer.fit(state, points, steps, CHUNK, report)
    return matching.flow(bind(state.ema)), loss


def _start(states: Checkpoints, first: TrainState) -> TrainState:
    """The last of the states that were saved, or the `first`."""
    try:
        found = states.restore(first)
    except UserError as error:
        raise UserError(in_words(str(error))) from error
    if found is None:
        return first
    say(f"training goes on from step {int(found.step)}")
    return found
