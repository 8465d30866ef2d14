"""All readers of files that users bring or runs leave, each with a good file."""

import dataclasses
import functools
import gzip
import json
import os
import random
import struct
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.nnx import Rngs

from experiments import records
from experiments.log import MetricsLog
from experiments.records import Record, Source
from experiments.store import Store, about
from experiments.study import load
from experiments.workdir import Workdir
from tests.io.test_zoos_of_others import CNN, model_zoo, small_cnn_zoo
from tests.io.torch_nets import LAYOUT
from tests.io.torch_nets import SPEC as NET
from tests.io.written import WRITTEN
from tests.tasks.idx_files import idx, write_images
from wfm.digest import digest
from wfm.fields import MLPField, functional
from wfm.flows import Flow, load_flow
from wfm.io import (
    SMALL_CNN_ZOO,
    Layout,
    examine,
    load_networks,
    read_arrays,
    write_arrays,
)
from wfm.jsons import digest_of_json, parse
from wfm.manifolds import Sphere
from wfm.tasks import load_task
from wfm.tasks.idx import read_idx
from wfm.tasks.images import FILES, FOLDER
from wfm.training import Checkpoints, Trainer
from wfm.weights import WeightSpec, load_weights, mlp, save_weights
from wfm.zoo import WeightSet
from wfm.zoo.groups import kept_in

Layer = tuple[Callable[[bytes], bytes], Callable[[bytes, bytes], bytes]]


@dataclasses.dataclass(frozen=True)
class Reader:
    """`write` makes a good file or folder, and `read` returns what it holds, to be compared.

    `sealed`: nothing but the original can be read, because a digest is kept. `layers`: by the end
    of a file's name, how what is inside is taken out, and put back as if written so. `share`: of
    the usual number of inputs, for readers that take long.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    sealed: bool = False
    layers: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    share: float = 1.0


def _header(content: bytes) -> bytes:
    return content[8 : 8 + struct.unpack("<Q", content[:8])[0]]


def _with_header(content: bytes, header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + content[8 + len(_header(content)) :]


def _content(text: bytes) -> bytes:
    return json.dumps(json.loads(text)["content"]).encode()


def _resealed(text: bytes, inside: bytes) -> bytes:
    """A record whose digest is that of its changed content, as one who means it writes it."""
    try:
        content = json.loads(inside)
        record = json.loads(text) | {"content": content, "digest": digest_of_json(content)}
        return json.dumps(record).encode()
    except (ValueError, RecursionError):
        return text.replace(_content(text)[:20], inside)


SAFETENSORS: Mapping[str, Layer] = {".safetensors": (_header, _with_header)}
RESEALED: Mapping[str, Layer] = {".json": (_content, _resealed)}
ZIPPED: Mapping[str, Layer] = {
    ".gz": (gzip.decompress, lambda _, inside: gzip.compress(inside, mtime=0))
}

SPEC = mlp(3, 2, 2)
KEY = jax.random.key(0)


def _weights(n: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lead = () if n is None else (n,)
    return {a: rng.normal(size=(*lead, *SPEC.shape(a))).astype("f") for a in SPEC.arrays}


def _write_weights(folder: Path) -> None:
    half = _weights()["dense1.kernel"].astype(jnp.bfloat16)
    save_weights(folder / "w.safetensors", _weights() | {"half": half}, {"task": "iris"})


def _read_weights(folder: Path) -> Any:
    arrays, marks = load_weights(folder / "w.safetensors")
    return digest(arrays), marks


def _zoo(folder: Path) -> Any:
    return digest(WeightSet.load(folder / "zoo.safetensors", SPEC))


def _write_zoo(folder: Path) -> None:
    zoo = WeightSet.of(_weights(4), SPEC, metrics={"loss": np.arange(4.0)}, initial=_weights(4))
    zoo.save(folder / "zoo.safetensors")


def _group(folder: Path) -> Any:
    initial = jax.tree.map(jnp.asarray, _weights(2))
    train = kept_in(folder, lambda *_: initial, 0)
    return digest(train("0-1", initial, jax.random.split(KEY, 2)))


@functools.cache
def _flow() -> Flow:
    bind, params = functional(MLPField(jnp.ones(3), width=2, depth=1, rngs=Rngs(0)))
    return Flow(Sphere((3,)), bind(params))


def _read_flow(folder: Path) -> Any:
    return digest(load_flow(folder / "flow"))


def _read_made(folder: Path) -> Any:
    flow = load_flow(folder / "flow")
    return digest(flow), str(jax.tree.structure(flow))


def _idx(name: str, array: np.ndarray, code: int, pack: Callable[[bytes], bytes] = bytes) -> Reader:
    def read(folder: Path) -> Any:
        return digest(read_idx(folder / name))

    content = pack(idx(array, code))
    return Reader(lambda folder: (folder / name).write_bytes(content), read, layers=ZIPPED)


def _write_images(folder: Path) -> None:
    write_images(folder / "mnist", (3, 2), classes=2)
    labels = np.arange(20) % 2
    (folder / "mnist" / FILES["test"][1]).with_suffix("").write_bytes(idx(labels, 0x0C))
    (folder / "mnist" / FILES["train"][1]).write_bytes(
        gzip.compress(idx(np.arange(60) % 2, 0x0C), mtime=0)
    )


def _read_images(folder: Path) -> Any:
    with patch.dict(os.environ, {FOLDER: str(folder)}):
        return digest(load_task("mnist"))


STUDY = load("demo")


def _open_workdir(folder: Path) -> Any:
    Workdir(folder / "run", STUDY)
    return parse((folder / "run" / "config.json").read_bytes())


def _write_records(folder: Path) -> None:
    source = Source("run a", "a machine", "today", {"jax": "1"})
    at = {"flow": "geometric", "seed": 0}
    found = [Record(at, "loss", 0.5, std=0.1, error=0.01, seconds=3.0, source=source)]
    found += [Record({"set": "zoo"}, "accuracy", 1 / 3, seeds=(2, 1), seed_std=0.25)]
    records.save(folder / "records.json", found)


def _read_records(folder: Path) -> Any:
    found = records.read(folder / "records.json")
    with tempfile.TemporaryDirectory() as other:  # what can be read can be used, and written
        records.save(Path(other) / "again.json", records.over_seeds(found))
    return repr(found)


def _write_log(folder: Path) -> None:
    log = MetricsLog(folder / "metrics.jsonl")
    for step in range(4):
        log.write(step=step, loss=1 / (step + 1))


def _read_log(folder: Path) -> Any:
    log = MetricsLog(folder / "metrics.jsonl")
    log.truncate("step", 9)
    return repr(log.read())


READS = {"task": "iris", "zoo": {"networks": 8}}


def _make(folder: Path) -> None:
    (folder / "output").write_text("what was made")


def _entry(folder: Path) -> Any:
    entry = Store(folder).get("zoo", READS, _make)
    found = about(entry)
    Source(**found["source"])
    return (entry / "output").read_bytes(), found["stage"], found["reads"]


def _begin(folder: Path) -> None:
    begun = Store(folder).place("zoo", READS)
    begun = begun.with_name(f"{begun.name}.begun")
    begun.mkdir(parents=True)
    (begun / "seconds").write_text("12.75")


@functools.cache
def _state(step: int) -> Any:
    trainer = Trainer(lambda w, example: (w["w"] ** 2).sum(), optax.sgd(0.1))
    state = trainer.init({"w": jax.random.normal(KEY, (300,))}, KEY)
    return type(state)(jnp.asarray(step, jnp.int32), state.params, state.ema, state.opt_state, KEY)


def _write_states(folder: Path) -> None:
    with Checkpoints(folder / "checkpoints", {"seed": 0}) as checkpoints:
        for step in (3, 6):
            checkpoints.save(_state(step), 1 / step)


def _read_states(folder: Path) -> Any:
    """The last state, or the one before it."""
    with Checkpoints(folder / "checkpoints", {"seed": 0}) as checkpoints:
        state = checkpoints.restore(_state(0))
    assert state is not None
    assert int(state.step) in (3, 6)
    return digest(state.params)


def _of_others(kind: str) -> Reader:
    """A file as the library writes it that its format belongs to."""

    def read(folder: Path) -> Any:
        arrays, others = read_arrays(folder / "net")
        json.dumps(others)
        return digest(arrays)

    layers = {} if kind != "safetensors" else {"": SAFETENSORS[".safetensors"]}
    return Reader(
        lambda folder: WRITTEN[kind](folder / "net", _weights()),
        read,
        layers=layers,
        share=0.5 if kind == "orbax" else 1.0,
    )


def _write_folder(folder: Path) -> None:
    networks = [{name: a[i] for name, a in _weights(3).items()} for i in range(3)]
    for i, arrays in enumerate(networks):
        write_arrays(folder / "nets" / f"{i}.npz", arrays, "npz")
    about = {"loss": 0.5, "step": 3, "test": {"accuracy": 0.5}}
    (folder / "nets" / "0.json").write_text(json.dumps(about))
    (folder / "nets" / "metrics.csv").write_text("file,loss,note\n1.npz,0.25,a\n2.npz,1,b\n")


def _read_folder(folder: Path) -> Any:
    str(examine(folder / "nets"))
    return digest(load_networks(folder / "nets", SPEC, skip_bad=True))


def _read_collection(name: str, spec: WeightSpec, layout: Layout) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        str(examine(folder / name))
        return digest(load_networks(folder / name, spec, layout, skip_bad=True))

    return read


PIXELS = np.arange(24).reshape(4, 3, 2)
READERS = {
    "weights": Reader(_write_weights, _read_weights, layers=SAFETENSORS),
    "zoo": Reader(_write_zoo, _zoo, sealed=True, layers=SAFETENSORS),
    "zoo of others": Reader(
        lambda folder: save_weights(folder / "zoo.safetensors", _weights(4)),
        _zoo,
        layers=SAFETENSORS,
    ),
    "group of a zoo": Reader(_group, _group, sealed=True, layers=SAFETENSORS),
    "flow": Reader(
        lambda folder: _flow().save(folder / "flow"), _read_flow, sealed=True, layers=SAFETENSORS
    ),
    "flow, resealed": Reader(
        lambda folder: _flow().save(folder / "flow"), _read_made, layers=RESEALED
    ),
    "flow in one file": Reader(
        lambda folder: _flow().save(folder / "flow.zip"),
        lambda folder: digest(load_flow(folder / "flow.zip")),
        sealed=True,
    ),
    "IDX": _idx("images", PIXELS, 0x08),
    "IDX of floats": _idx("images", PIXELS / 3, 0x0E),
    "IDX, gzip": _idx("images.gz", PIXELS, 0x08, lambda content: gzip.compress(content, mtime=0)),
    "images and labels": Reader(_write_images, _read_images, layers=ZIPPED),
    "config of a run": Reader(_open_workdir, _open_workdir, sealed=True),
    "records": Reader(_write_records, _read_records),
    "metrics": Reader(_write_log, _read_log),
    "entry of a store": Reader(_entry, _entry, sealed=True),
    "seconds of a stage": Reader(_begin, _entry, sealed=True),
    "checkpoints": Reader(_write_states, _read_states, sealed=True, share=0.2),
    **{f"{kind}, of others": _of_others(kind) for kind in WRITTEN},
    "folder of networks": Reader(_write_folder, _read_folder),
    "Small CNN Zoo": Reader(
        lambda folder: small_cnn_zoo(folder / "mnist", 2, (0, 1)),
        _read_collection("mnist", CNN, SMALL_CNN_ZOO),
        layers=ZIPPED,
    ),
}
if "torch" in WRITTEN:
    READERS["Model Zoo"] = Reader(
        lambda folder: model_zoo(folder / "zoo", 2, (0, 1)),
        _read_collection("zoo", NET, LAYOUT),
    )


def damage_one(folder: Path, reader: Reader, rng: random.Random, damaged: Any) -> str:
    """Damage one file of a folder, at its surface or inside; returns its name."""
    file = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    content = file.read_bytes()
    take, put = reader.layers.get(file.suffix, (bytes, lambda _, inside: inside))
    if rng.random() < 0.5:
        file.write_bytes(damaged(content, rng))
    else:
        file.write_bytes(put(content, damaged(take(content), rng)))
    return file.name


def read_quietly(reader: Reader, folder: Path) -> Any:
    """What a reader returns; that it warns of what it makes again is its business."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return reader.read(folder)
