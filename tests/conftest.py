"""Settings of every test; the devices must be set before anything starts jax."""

import atexit
import gc
import os
import shutil
import tempfile

from jaxlib.version import __version_info__

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
# Tests compile much and compute little. Processes that tests start inherit this. Some run as users
# compile them: see `make test-all`.
if "WFM_TESTS_OPTIMISED" not in os.environ:
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    if __version_info__ < (0, 11):  # later ones do not know the flag, which halves compile time
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"

# Tests and the commands they start keep what they compile: for all of them, and not at the user's.
if "WFM_COMPILATION_CACHE" not in os.environ:
    os.environ["WFM_COMPILATION_CACHE"] = tempfile.mkdtemp(prefix="wfm-compiled-")
    atexit.register(shutil.rmtree, os.environ["WFM_COMPILATION_CACHE"], ignore_errors=True)

import hypothesis
import jax
import jaxtyping
import pytest

from experiments.memory import forget_programs
from wfm import enable_compilation_cache

enable_compilation_cache()
gc.set_threshold(50_000, 20, 100)  # tracing makes many objects; 6% of the time went into counting
jax.config.update("jax_numpy_rank_promotion", "raise")

# Seeds do not shrink to anything simpler, so a failure is shown as it was found.
hypothesis.settings.register_profile(
    "wfm",
    deadline=None,
    max_examples=12,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("wfm")


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """A process that keeps thousands of programs runs out of memory maps, and dies (65,530)."""
    yield
    forget_programs()


@pytest.fixture
def as_in_use():
    """Annotations are checked in tests only: without that, as for a user, sentences must do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
