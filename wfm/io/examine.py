"""What is in a file or folder, without a network to read it as."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.io.entry import Entry
from wfm.io.formats import naming
from wfm.io.load import Bad, Track, finite, results
from wfm.io.nested import listed
from wfm.io.networks import Origin, Reading, as_named
from wfm.io.sources import entries
from wfm.weights import WeightSpec
from wfm.weights.layout import Layout

Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What `examine` found.

    `kind`: "file", "folder", "run" (of orbax), "Small CNN Zoo" or "Model Zoo". `count`: of
    networks, or of files if no network was given to read them as. `arrays`: type and shape of each
    array, as most files have them, or as the network does. `metrics`: the least and the largest
    value of each. `trajectories`: how many there are. `bad`: what cannot be used, and why.
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
    figures = [origin.metrics for origin in origins]
    names = dict.fromkeys(name for each in figures for name in each)
    return Findings(
        path=path,
        kind=kind.name,
        count=len(origins),
        arrays=arrays,
        metrics={name: _range(name, figures) for name in names},
        trajectories=len({origin.trajectory for origin in origins}),
        bad=bad,
    )


Found = tuple[list[Origin], dict[str, str], list[Bad]]


def _as(found: Sequence[Entry], reading: Reading, track: Track) -> Found:
    origins, bad = [], []
    for result in results(found, reading, None, track):
        if isinstance(result, Bad):
            bad.append(result)
        else:
            origins += result.origins
    arrays = {name: str(reading.spec.shape(name)) for name in reading.spec.arrays}
    return origins, arrays, bad


def _unlabelled(found: Sequence[Entry], track: Track) -> Found:
    """Files with the arrays that most have, and the others."""
    signatures: dict[str, Signature] = {}
    origins: dict[str, list[Origin]] = {}
    bad: list[Bad] = []
    for entry in track(found):
        try:
            signature, known, of_it = _looked_at(entry)
        except UserError as error:
            bad.append(Bad(entry.name, str(error)))
            continue
        signatures[entry.name] = signature
        origins.setdefault(entry.name, []).extend(known)
        bad += of_it
    counts = Counter(frozenset(signature) for signature in signatures.values())
    usual = counts.most_common(1)[0][0] if counts else frozenset()
    others = {name: s for name, s in signatures.items() if frozenset(s) != usual}
    arrays = next((s for name, s in signatures.items() if name not in others), ())
    return (
        [origin for name in origins if name not in others for origin in origins[name]],
        {name: f"{dtype} {shape}" for name, dtype, shape in arrays},
        [*bad, *(Bad(name, _other(signature, usual)) for name, signature in others.items())],
    )


def _looked_at(entry: Entry) -> tuple[Signature, list[Origin], list[Bad]]:
    """Names, types and shapes; where the networks in it are from; those with NaN."""
    arrays, others = entry.read()
    if not arrays:
        raise UserError("it holds no arrays")
    rows = arrays if entry.first is not None else {name: a[None] for name, a in arrays.items()}
    known = entry.origins([others] if entry.abouts is None else entry.abouts())
    good = finite({n: a for n, a in rows.items() if jnp.issubdtype(a.dtype, jnp.inexact)})
    good = np.broadcast_to(good, len(known))
    bad = [
        Bad(origin.name, "it has NaN or infinite entries")
        for origin, fine in zip(known, good, strict=True)
        if not fine
    ]
    kept = [origin for origin, fine in zip(known, good, strict=True) if fine]
    return tuple((n, str(a.dtype), a.shape[1:]) for n, a in rows.items()), kept, bad


def _other(signature: Signature, usual: frozenset[tuple[str, str, tuple[int, ...]]]) -> str:
    only = [f"{n} {shape} {dtype}" for n, dtype, shape in sorted(set(signature) - usual)]
    lacks = [n for n, _, _ in sorted(usual - set(signature))]
    return (
        f"it is another network than most files here: it has {listed(only, 3)}, and they have "
        f"{listed(lacks, 3)} otherwise"
    )


def _range(name: str, figures: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    values = np.array([each.get(name, np.nan) for each in figures])
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)
