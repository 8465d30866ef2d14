"""What is in a file or folder, without a network to read it as."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.io.formats import naming
from wfm.io.load import Bad, Track, results
from wfm.io.nested import listed
from wfm.io.networks import Origin, Reading, as_named, origin
from wfm.io.sources import entries
from wfm.weights import WeightSpec
from wfm.weights.layout import Layout

Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What `examine` found.

    `kind`: "file", "folder", "Small CNN Zoo" or "Model Zoo". `count`: of networks, or of files if
    no network was given to read them as. `arrays`: type and shape of each array, as most files
    have them, or as the network does. `metrics`: the least and the largest value of each.
    `trajectories`: how many there are. `bad`: what cannot be used, and why.
    """

    path: Path
    kind: str
    count: int
    arrays: Mapping[str, str]
    metrics: Mapping[str, tuple[float, float]]
    trajectories: int
    bad: Sequence[Bad]

    def __str__(self) -> str:
        total = f"{self.count} usable in {self.trajectories} trajectories, {len(self.bad)} bad"
        lines = [f"{self.path}: {self.kind}, {total}"]
        lines += [f"  {name}: {what}" for name, what in self.arrays.items()]
        lines += [f"  {n}: {least:.4g} to {most:.4g}" for n, (least, most) in self.metrics.items()]
        lines += [f"  bad: {name}: {reason}" for name, reason in self.bad]
        return "\n".join(lines)


def examine(
    path: str | Path,
    spec: WeightSpec | None = None,
    layout: Layout | None = None,
    *,
    key: str | None = None,
    flat: str | None = None,
    ignore: Sequence[str] = (),
    like: Any = None,
    track: Track = iter,
) -> Findings:
    """What is at `path`, and which files cannot be used, each with the reason.

    With `spec`, files are read as `load_networks` reads them, and all it refuses is bad. Without,
    the arrays of most files say what is usual, and others, unreadable ones and those with NaN are
    bad. One file is in memory at a time. Raises `UserError` if nothing can be listed.
    """
    path = Path(path)
    with naming(path):
        kind, found = entries(path, key, like)
        if spec is None:
            origins, arrays, bad = _unlabelled(found, track)
        else:
            reading = Reading(spec, as_named(spec) if layout is None else layout, flat, ignore)
            origins, arrays, bad = _as(found, reading, track)
    names = dict.fromkeys(name for origin in origins for name in origin.metrics)
    return Findings(
        path=path,
        kind=kind.name,
        count=len(origins),
        arrays=arrays,
        metrics={name: _range(name, origins) for name in names},
        trajectories=len({origin.trajectory for origin in origins}),
        bad=bad,
    )


Found = tuple[list[Origin], dict[str, str], list[Bad]]


def _as(found: Sequence[Any], reading: Reading, track: Track) -> Found:
    origins, bad = [], []
    for result in results(found, reading, None, track):
        if isinstance(result, Bad):
            bad.append(result)
        else:
            origins += result.origins
    arrays = {name: str(reading.spec.shape(name)) for name in reading.spec.arrays}
    return origins, arrays, bad


def _unlabelled(found: Sequence[Any], track: Track) -> Found:
    """Files with the arrays that most have, and the others."""
    signatures: dict[str, Signature] = {}
    known: dict[str, list[Origin]] = {}
    bad: list[Bad] = []
    for entry in track(found):
        try:
            arrays, others = entry.read()
            _check_finite(arrays)
            signatures[entry.name] = tuple((n, str(a.dtype), a.shape) for n, a in arrays.items())
            abouts = [others] if entry.abouts is None else entry.abouts()
            known[entry.name] = [origin(entry.name, about) for about in abouts]
        except UserError as error:
            bad.append(Bad(entry.name, str(error)))
    counts = Counter(tuple(sorted(s)) for s in signatures.values())
    usual = counts.most_common(1)[0][0] if counts else ()
    usual_arrays: dict[str, str] = {}
    origins = []
    for name, signature in signatures.items():
        if tuple(sorted(signature)) == usual:
            usual_arrays = {n: f"{dtype} {shape}" for n, dtype, shape in signature}
            origins += known[name]
        else:
            bad.append(Bad(name, _other(signature, usual)))
    return origins, usual_arrays, bad


def _other(signature: Signature, usual: Signature) -> str:
    only = [f"{n} {shape} {dtype}" for n, dtype, shape in sorted(set(signature) - set(usual))]
    lacks = [n for n, _, _ in sorted(set(usual) - set(signature))]
    return (
        f"it is another network than most files here: it has {listed(only, 3)}, and they have "
        f"{listed(lacks, 3)} otherwise"
    )


def _check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    if not arrays:
        raise UserError("it holds no arrays")
    for name, a in arrays.items():
        if jnp.issubdtype(a.dtype, jnp.floating) and not np.isfinite(a).all():
            raise UserError(f"it has NaN or infinite entries in {name!r}")


def _range(name: str, origins: Sequence[Origin]) -> tuple[float, float]:
    values = np.array([origin.metrics.get(name, np.nan) for origin in origins])
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)
