"""What is timed of this code, and of PyTorch beside it.

Command    python -m experiments run bench --workdir=runs/bench
Hardware   2 CPU cores, 24 GB, nothing else running; torch and geoopt (the extra `bench`)
Time       21 to 42 minutes, as busy as the machine is
Expected   docs/results/bench.md
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.bench.page import Bench
from experiments.pages import Cost
from experiments.study import Study

CORES = 2
# This code uses each core as a device: two devices of one core each beat one with both.
DEVICES = {"JAX_NUM_CPU_DEVICES": str(CORES)}
# glibc otherwise returns large blocks to the system after each use, and asks for them again.
KEEP_BLOCKS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
SMALL = {"widths": [30, 16, 16, 2], "width": 64, "depth": 5}
WIDE = {"widths": [784, 10, 10], "width": 32, "depth": 5}
HIDDEN = (8, 22, 64, 181, 512, 984)  # of 30-h-h-2: 300 to 10⁶ weights
MOST_FOR_ALL_PAIRS = 200  # hidden neurons; more exceed the memory
ALIGNED = {"weights": 4000, "activations": 4000, "sinkhorn_l2": 250, "sinkhorn_mid": 250}


def get_study() -> Study:
    """All cases by name: module and function in `experiments.bench`, options, environment."""
    config: Any = ConfigDict()
    config.seed = 0
    config.cases = _rivals() | _growth() | _rest()
    page = (Cost(), Bench("Seconds and memory against the number of weights"))
    return Study("bench", config, ("bench",), page=page)


def ours(case: str, **options: Any) -> dict[str, Any]:
    """A case of this code."""
    return {"module": "jax_cases", "case": case, "options": options, "env": DEVICES}


def rival(case: str, env: dict[str, str] | None = None, /, **options: Any) -> dict[str, Any]:
    """A case of PyTorch."""
    return {"module": "torch_cases", "case": case, "options": options, "env": env or {}}


def _rivals() -> dict[str, Any]:
    """Training steps and samples of two networks, by this code and by PyTorch.

    Cases that take too long or too much memory are measured at a smaller size; the page scales
    them.
    """
    cases = {
        "train_small_graph": ours("training", **SMALL, batch=32, microbatch=1),
        "train_small_fold": ours("training", **SMALL, batch=32, microbatch=8, fold=True, steps=10),
        "train_small_full": ours("training", **SMALL, batch=32, microbatch=1, attention="full"),
        "train_wide_graph": ours("training", **WIDE, batch=8, microbatch=1),
        "train_wide_fold": ours("training", **WIDE, batch=8, microbatch=8, fold=True, steps=20),
        "sample_small_graph": ours("sampling", **SMALL, networks=32, steps=100, at_once=1),
        "sample_small_fold": ours(
            "sampling", **SMALL, networks=32, steps=100, at_once=8, fold=True
        ),
        "sample_wide_graph": ours("sampling", **WIDE, networks=8, steps=100, at_once=1),
        "sample_wide_fold": ours("sampling", **WIDE, networks=8, steps=100, at_once=8, fold=True),
        "sample_small_torch": rival(
            "sampling", KEEP_BLOCKS, **SMALL, networks=32, steps=5, compiled=False, threads=CORES
        ),
        "sample_wide_torch": rival(
            "sampling", KEEP_BLOCKS, **WIDE, networks=1, steps=2, compiled=False, threads=CORES
        ),
        "train_wide_torch": rival(
            "training", KEEP_BLOCKS, **WIDE, batch=1, compiled=False, threads=CORES
        ),
    }
    for compiled in (False, True):
        for allocator, env in {"": {}, "_keeping": KEEP_BLOCKS}.items():
            name = f"train_small_torch{'_compiled' if compiled else ''}{allocator}"
            options: dict[str, Any] = {"batch": 32, "compiled": compiled, "threads": CORES}
            cases[name] = rival("training", env, **(SMALL | options))
    return cases


def _growth() -> dict[str, Any]:
    """Training steps of increasingly wide networks, two examples each."""
    size = {"width": 32, "depth": 2, "batch": 2, "microbatch": 1}
    cases = {}
    for h in HIDDEN:
        widths = [30, h, h, 2]
        cases[f"grow_graph_{h}"] = ours("training", widths=widths, **size)
        cases[f"grow_fold_{h}"] = ours("training", widths=widths, fold=True, **size)
        if h < MOST_FOR_ALL_PAIRS:
            cases[f"grow_full_{h}"] = ours("training", widths=widths, attention="full", **size)
    return cases


def _rest() -> dict[str, Any]:
    task = {"task": "breast_cancer", "hidden": [16, 16]}
    schedule = {"epochs": 50, "batch_size": 32}
    cases = {
        "zoo": ours("zoo", **task, networks=100, **schedule),
        "zoo_torch": rival("zoo", **task, networks=2, threads=1, **schedule),
        "roofline": ours("roofline", **SMALL, batch=32, microbatch=1) | {"env": {}},
        "densities": ours(
            "densities",
            widths=[30, 16, 16, 2],
            width=32,
            depth=3,
            fold=True,
            networks=32,
            steps=64,
            at_once=8,
        ),
        "manifold_30": rival("manifold", n=10_000, dim=30),
        "manifold_784": rival("manifold", n=10_000, dim=784),
    }
    for name in ("independent", "ot", "entropic", "equivariant"):
        cases[f"coupling_{name}"] = ours("coupling", name=name, widths=[30, 16, 16, 2], batch=64)
    for name, networks in ALIGNED.items():
        cases[f"alignment_{name}"] = ours("alignment", name=name, networks=networks, **task)
    return cases
