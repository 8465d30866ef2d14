"""Several processes train, save and resume together, by the script of docs/devices.md."""

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax.nnx import Rngs

from wfm.fields import MLPField
from wfm.flows import FlowMatching
from wfm.training import Checkpoints, flow_trainer
from wfm.weights import AsTrained, Canonical, mlp
from wfm.zoo import WeightSet

ROOT = Path(__file__).parent.parent
SCRIPT = re.search(r"```python\n(.*?)```", (ROOT / "docs/devices.md").read_text(), re.DOTALL)
NETWORK, STEPS, TIMEOUT = mlp(4, 8, 3), 20, 120
FORM = Canonical(NETWORK)


def start(script, folder, rank, port):
    """One of two processes, as Slurm would start it, with two devices of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NUM_NODES": "1",
    }
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_two(script, folder):
    """What both print, once both have ended; none outlives this."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start(script, folder, rank, port) for rank in (0, 1)]
    try:
        with ThreadPoolExecutor() as pool:  # so that neither waits for the other's full pipe
            outputs = list(pool.map(lambda p: p.communicate(timeout=TIMEOUT)[0], both))
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert [process.returncode for process in both] == [0, 0], outputs


@pytest.mark.slow
def test_two_processes_resume_and_save_what_one_process_saved_and_restores(tmp_path):
    weights = jax.jit(jax.vmap(AsTrained(NETWORK).prior(0.5).sample))(
        jax.random.split(jax.random.key(1), 40)
    )
    numbers = jnp.arange(40)
    WeightSet(weights, numbers, numbers, {}, weights).save(tmp_path / "zoo.safetensors")
    points = jax.vmap(FORM.encode)(weights)
    field = MLPField(jax.tree.map(lambda a: a[0], points), rngs=Rngs(0))
    trainer, _, params = flow_trainer(
        FlowMatching(FORM.manifold()), field, optax.sgd(1e-2, 0.9), batch_size=16
    )
    state = trainer.init(params, jax.random.key(0))
    half = trainer.fit(state, points, STEPS // 2, STEPS // 2)
    whole = trainer.fit(half, points, STEPS, STEPS // 2)

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(half)
    checkpoints.close()
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.group(1))
    run_two(script, tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    restored = checkpoints.restore(state)
    checkpoints.close()
    assert int(restored.step) == STEPS
    chex.assert_trees_all_equal(jax.random.key_data(restored.key), jax.random.key_data(whole.key))
    plain = lambda s: (s.params, s.ema)  # noqa: E731
    chex.assert_trees_all_close(plain(restored), plain(whole), rtol=1e-4, atol=1e-5)
