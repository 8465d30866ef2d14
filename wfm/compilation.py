"""Compiled programs kept on disk, so that only the first run of a program waits for XLA."""

import os
import tempfile
import warnings
from pathlib import Path

import jax
import pooch
from jax.experimental.compilation_cache import compilation_cache

SWITCH = "WFM_COMPILATION_CACHE"
OFF = ("off", "0", "no", "false")
FOLDER = "jax_compilation_cache_dir"
MIN_SECONDS = "jax_persistent_cache_min_compile_time_secs"


def enable_compilation_cache() -> Path | None:
    """Let JAX cache compiled programs in the user's cache folder; returns the folder, or `None`.

    Results are the same to the bit, and a program starts sooner from the second time on. The
    environment decides: `WFM_COMPILATION_CACHE=off` switches the cache off, and any other value is
    the folder to use. A folder set for JAX itself (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`) is
    kept. If the folder cannot be written to, a warning names it and nothing is cached.
    Programs of another version of JAX or another machine are never read, and any file may be
    deleted at any time.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted.lower() in OFF:
        return None
    if told := getattr(jax.config, FOLDER):
        return Path(told)
    folder = (
        Path(wanted).expanduser().absolute() if wanted else Path(pooch.os_cache("wfm")) / "compiled"
    )
    if not _writable(folder):
        return None
    jax.config.update(FOLDER, str(folder))
    if MIN_SECONDS.upper() not in os.environ:
        jax.config.update(MIN_SECONDS, 0.0)  # hundreds of small programs take most of the time
    compilation_cache.reset_cache()  # JAX decides at its first compilation whether it has one
    return folder


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        warnings.warn(
            f"compiled programs are not kept: {error}; set {SWITCH} to a folder that can be "
            "written to, or to off",
            stacklevel=3,
        )
        return False
