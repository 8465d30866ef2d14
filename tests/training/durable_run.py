"""A training run for tests to kill: `python durable_run.py FOLDER`, again and again until done.

Prints `from STEP` when it starts, `saved STEP` once a checkpoint is begun, and at the end `done`
with the digest of the final state.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.signals import Stopped, StopSignals
from wfm.digest import digest
from wfm.training import Checkpoints, Trainer, adam

STEPS, EVERY = 800, 5


def loss(params, example):
    row, key = example
    noise = 0.1 * jax.random.normal(key, row.shape)
    return ((jnp.tanh(row @ params["a"]) @ params["b"] + noise - row) ** 2).mean()


def main(folder):
    keys = jax.random.split(jax.random.key(0), 3)
    data = jax.random.normal(keys[0], (200, 8))
    start = {"a": jax.random.normal(keys[1], (8, 200)), "b": jnp.zeros((200, 8))}
    trainer = Trainer(loss, adam(1e-2, STEPS), batch_size=16)
    state = trainer.init(start, keys[2])
    checkpoints = Checkpoints(Path(folder) / "checkpoints")
    state = checkpoints.restore(state) or state
    print("from", int(state.step), flush=True)
    with StopSignals() as signals:

        def report(state, metrics):
            time.sleep(0.05)
            checkpoints.save(state, metrics["loss"])
            print("saved", int(state.step), flush=True)
            if signals.noted():
                checkpoints.close()
                raise Stopped(signals.noted(), int(state.step))

        try:
            state = trainer.fit(state, data, STEPS, EVERY, report)
        except Stopped as stop:
            print(stop, flush=True)
            sys.exit(stop.exit_status)
    checkpoints.close()
    print(
        "done", digest([*jax.tree.leaves(state)[:-1], jax.random.key_data(state.key)]), flush=True
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
