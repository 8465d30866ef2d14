"""The stages of a run, from zoo to samples; each is found in the store or made there."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from experiments.build import KEPT, Parts
from experiments.command import Config
from experiments.log import MetricsLog, progress_bar
from experiments.signals import Stopped, StopSignals
from experiments.store import Store, path_digest
from wfm.batching import take_rows
from wfm.command.described import described
from wfm.command.networks import layout
from wfm.errors import CannotWrite, UserError
from wfm.fields import functional
from wfm.flows import Flow, FlowMatching
from wfm.io import load_networks
from wfm.priors import Prior, Pushforward
from wfm.training import (
    Checkpoints,
    Diverged,
    TrainState,
    flow_trainer,
)
from wfm.weights import (
    WeightForm,
    Weights,
    align_all,
    barycentre,
    fold_batch_norm,
    load_weights,
    permute_all,
    save_weights,
)
from wfm.zoo import WeightSet, train_zoo

PRIOR_DRAWS = 1000
VERIFIED = 8  # inputs on which the labels of networks from elsewhere are verified
LEAST = 1e-3  # standard deviation and size of an array that is the same in all networks
VALIDATION = 256  # at most so many held-out networks for a checkpoint's loss
REPORTS_PER_CHECKPOINT = 10
OF_ZOO = ("task", "split", "network", "seed", "zoo")  # what a zoo depends on
OF_FLOW = ("flow", "field", "training")
GROUPS, CHECKPOINTS = "groups", "checkpoints"  # folders from which interrupted stages go on


class Run:
    """What a config asks for, stage by stage; nothing is made before it is used, nor twice."""

    def __init__(self, config: Config, store: Store):
        self.config, self.store = config, store

    @cached_property
    def parts(self) -> Parts:
        """All that the config describes; refuses impossible settings."""
        return Parts(self.config)

    # What each stage reads, which determines the name of its output.

    @cached_property
    def _of_zoo(self) -> dict[str, Any]:
        path = self.config.zoo.path
        if path and not Path(path).exists():
            raise UserError(f"there is no zoo at {path}; check config.zoo.path")
        return self._settings(*OF_ZOO) | {
            "data": self.parts.data.digest,
            "file": path_digest(Path(path)) if path else "",
        }

    @cached_property
    def reads(self) -> dict[str, dict[str, Any]]:
        """For each stage, all that its output depends on."""
        train = self._of_zoo | self._settings(*OF_FLOW)
        sample = train | self._settings("sampling")
        return {"zoo": self._of_zoo, "align": self._of_zoo, "train": train, "sample": sample}

    def _settings(self, *keys: str) -> dict[str, Any]:
        return {key: self.config.to_dict()[key] for key in keys}

    def entries(self) -> list[Path]:
        """The existing entries of all stages."""
        places = [self.store.place(stage, reads) for stage, reads in self.reads.items()]
        return [place for place in places if place.is_dir()]

    # The stages.

    @cached_property
    def zoo(self) -> WeightSet:
        """Trained networks, or those at the path that the config names, without BatchNorm."""
        if self.config.zoo.path:
            return self._read_zoo()
        entry = self.store.get("zoo", self.reads["zoo"], self._make_zoo, GROUPS)
        return WeightSet.load(entry / "zoo.safetensors", self.parts.network)

    def _read_zoo(self) -> WeightSet:
        z, stored = self.config.zoo, self.parts.stored
        zoo = load_networks(
            z.path, stored.spec, layout(z.layout, stored), self.parts.task.train.x[:VERIFIED]
        )
        if self.parts.known is stored:
            return zoo
        fold = jax.jit(jax.vmap(lambda w: fold_batch_norm(stored.spec, w)[1]))
        return dataclasses.replace(zoo, weights=fold(zoo.weights), initial=None)

    def _make_zoo(self, folder: Path) -> None:
        make_zoo(self.parts, folder / GROUPS).save(folder / "zoo.safetensors")

    @cached_property
    def _split(self) -> tuple[WeightSet, WeightSet]:
        return self.zoo.split(self.config.zoo.held_out, self.config.seed)

    @property
    def seen(self) -> WeightSet:
        """The networks that the flow learns from."""
        return self._split[0]

    @property
    def held_out(self) -> WeightSet:
        """Trajectories that the flow never sees."""
        return self._split[1]

    @cached_property
    def reference(self) -> Weights:
        """The alignment reference: the barycentre of the last snapshots, in canonical form."""

        def make(folder: Path) -> None:
            form = self.parts.quotient
            found = barycentre(form.spec, encode_all(form, self.seen.last().weights))
            save_weights(folder / "reference.safetensors", found)

        entry = self.store.get("align", self.reads["align"], make)
        return jax.tree.map(jnp.asarray, load_weights(entry / "reference.safetensors")[0])

    def pairs(self, zoo: WeightSet) -> tuple[Weights | None, Weights]:
        """Points of the initial weights (if known) and of the weights of each snapshot, aligned.

        Each network is permuted so that its canonical form, which ignores scale, matches best. Its
        initial weights are permuted along with it.
        """
        p = self.parts
        known = p.pairing.from_initial or zoo.initial is not None
        both = (zoo.initial_of_each(), zoo.weights) if known else (zoo.weights,)
        if p.matching:
            points = encode_all(p.quotient, zoo.weights)
            _, found = align_all(p.quotient.spec, self.reference, points, p.matching)
            both = tuple(permute_all(p.network, found, w) for w in both)
        points = [encode_all(p.form, w) for w in both]
        return points[0] if known else None, points[-1]

    def data(self, zoo: WeightSet) -> Any:
        """The training data of a flow: points, or pairs of them with their initial weights."""
        initial, points = self.pairs(zoo)
        return (initial, points) if self.parts.pairing.from_initial else points

    @cached_property
    def trained(self) -> "Trained":
        """The flow, its objective, and the moments that both were made for."""
        entry = self.store.get("train", self.reads["train"], self._make_flow, CHECKPOINTS)
        read = json.loads((entry / "moments.json").read_text())
        found = {name: Moments(*each) for name, each in read.items()}
        matching, unit = make_matching(self.parts, found)
        bind, like = functional(make_field(self.parts, matching, unit))
        field = bind(_read_tree(entry / "parameters.safetensors", like))
        return Trained(matching, matching.flow(field), found)

    def _make_flow(self, folder: Path) -> None:
        points, unseen = self.data(self.seen), self.data(self.held_out)
        ends = points[1] if self.parts.pairing.from_initial else points
        found = moments(ends)
        matching, unit = make_matching(self.parts, found)
        module = make_field(self.parts, matching, unit)
        state = train(self.parts, folder, matching, module, points, unseen)
        (folder / "moments.json").write_text(json.dumps(found))
        _save_tree(folder / "parameters.safetensors", state.ema)
        self._export(matching.flow(functional(module)[0](state.ema)), folder / "flow")

    def _export(self, flow: Flow, folder: Path) -> None:
        """Save the flow for use elsewhere, if its prior can be saved (not with trajectories)."""
        try:
            flow.save(folder, about=self.about)
        except CannotWrite:
            raise
        except UserError:
            pass

    @cached_property
    def about(self) -> dict[str, Any]:
        """What belongs to the flow; `form` is the code that makes the form of its points."""
        about = json.loads(json.dumps(self._settings("task", "split", "sampling")))
        return about | {
            "form": described(self.parts.form, self.parts.known),
            "reference": self.reference,
        }

    @cached_property
    def samples(self) -> Weights:
        """New networks."""
        entry = self.store.get("sample", self.reads["sample"], self._make_samples)
        return jax.tree.map(jnp.asarray, load_weights(entry / "samples.safetensors")[0])

    def _make_samples(self, folder: Path) -> None:
        how, form, key = self.parts.sampling, self.parts.form, self.parts.keys["sampling"]
        flow = self.trained.flow
        save_weights(folder / "samples.safetensors", how.sampler(flow, form)(key))
        if self.config.sampling.trajectories:
            for number, networks in enumerate(how.trajectories(flow, form, key)):
                save_weights(folder / "trajectories" / f"{number:04}.safetensors", networks)


class Moments(NamedTuple):
    """Mean, standard deviation and root mean square of all entries of one array."""

    mean: float
    std: float
    size: float

    def times(self, factor: float) -> "Moments":
        """The moments of entries multiplied by a number."""
        return Moments(*(factor * moment for moment in self))


class Trained(NamedTuple):
    """A flow, and the objective that its field was trained with."""

    matching: FlowMatching
    flow: Flow
    moments: dict[str, Moments]  # of each array that the flow learned from


def make_zoo(parts: Parts, folder: Path | None = None) -> WeightSet:
    """Networks trained from draws of the prior; `folder` keeps finished groups."""
    z = parts.config.zoo
    initial = untrained(parts, parts.keys["initial"], z.networks)
    with progress_bar("Training networks", z.networks) as bar:
        return train_zoo(
            parts.network,
            parts.task,
            initial,
            parts.zoo_optimizer,
            parts.keys["zoo"],
            parts.schedule,
            at_once=z.at_once,
            folder=folder,
            mesh=parts.mesh,
            report=bar.update,
        )


def initial_moments(parts: Parts) -> dict[str, Moments]:
    """Moments of the points of many untrained networks."""
    return moments(encode_all(parts.form, untrained(parts, parts.keys["prior"], PRIOR_DRAWS)))


def untrained(parts: Parts, key: Key[Array, ""], n: int) -> Weights:
    """Initial weights of `n` networks, stacked."""
    return jax.jit(jax.vmap(parts.initial.sample))(jax.random.split(key, n))


def make_matching(parts: Parts, data: dict[str, Moments]) -> tuple[FlowMatching, dict[str, float]]:
    """The objective for points whose arrays have moments `data`, and the field's units."""
    # Arrays that begin alike in all networks, such as biases at 0, tell nothing of their spread.
    prior = {n: m if m.std else data[n] for n, m in initial_moments(parts).items()}
    manifold = parts.form.manifold()
    # The field sees both ends of the path, and velocities are as large as both together.
    size = {n: ((m.size**2 + prior[n].size ** 2) / 2) ** 0.5 for n, m in data.items()}
    size = {n: max(s, LEAST) for n, s in size.items()}
    dims = {name: factor.dim for name, factor in manifold.factors.items()}
    matching = FlowMatching(
        parts.kind.space(manifold),
        target=manifold,
        prior=_prior(parts, prior),
        path=parts.path,
        coupling=parts.pairing.coupling(parts.form.spec),
        time=parts.time,
        prediction=parts.prediction,
        unit={name: parts.weighting(size[name], dims[name]) for name in size},
    )
    return matching, size


def _prior(parts: Parts, initial: dict[str, Moments]) -> Prior:
    """Encoded initial weights if paths start there; else uses the moments in flat parts."""
    if not parts.pairing.from_initial:
        std = {name: max(m.std, LEAST) for name, m in initial.items()}
        return parts.form.prior(std, {name: m.mean for name, m in initial.items()})
    return Pushforward(parts.initial, parts.form.encode)


def make_field(parts: Parts, matching: FlowMatching, unit: dict[str, float]) -> nnx.Module:
    """The vector field, before training."""
    key = parts.keys["field"]
    like = matching.prior.sample(key)
    return parts.field.make(parts.config.field, parts.form.spec, like, unit, nnx.Rngs(key))


def train(
    parts: Parts, folder: Path, matching: FlowMatching, field: nnx.Module, data: Any, unseen: Any
) -> TrainState:
    """Train from the newest checkpoint; returns the state to use, judged by loss on `unseen`."""
    c = parts.config.training
    trainer, _, params = flow_trainer(matching, field, parts.optimizer, **parts.training)
    state = trainer.init(params, parts.keys["training"])
    checkpoints, metrics = Checkpoints(folder / CHECKPOINTS), MetricsLog(folder / "metrics.jsonl")
    state = checkpoints.restore(state) or state
    metrics.truncate("step", int(state.step))
    validation = parts.keys["validation"]
    rows = jax.random.permutation(validation, len(jax.tree.leaves(unseen)[0]))[:VALIDATION]
    some = take_rows(unseen, rows)

    with (
        StopSignals() as signals,
        progress_bar("Training the flow", c.steps, int(state.step)) as bar,
        ThreadPoolExecutor(1) as meanwhile,
    ):
        if jax.process_count() == 1:  # several must begin the same programs in the same order
            meanwhile.submit(trainer.mean_loss, state.ema, some, validation)  # so as to compile

        def on_report(state: TrainState, found: dict[str, float]) -> None:
            step, stopped = int(state.step), signals.noted()
            bar.update(step, f"loss {found['loss']:.4f}")
            loss = None
            if step == c.steps or step % (REPORTS_PER_CHECKPOINT * c.report_every) == 0:
                found["validation_loss"] = loss = float(
                    trainer.mean_loss(state.ema, some, validation)  # always with the same draws
                )
            metrics.write(step=step, **found)
            if loss is not None or stopped:
                # Not judged on a signal: the moment of stopping must not decide which is best.
                checkpoints.save(state, loss)
            if stopped and step < c.steps:
                checkpoints.close()
                raise Stopped(stopped, step)

        try:
            state = trainer.fit(state, data, c.steps, c.report_every, on_report)
        except Diverged as error:
            checkpoints.save(error.state)
            checkpoints.close()
            raise
    if KEPT[c.keep]:
        state = checkpoints.best(state) or state
    checkpoints.close()
    return state


def encode_all(form: WeightForm, weights: Weights) -> Weights:
    """The points of stacked networks; raises `ValueError` if a network has none."""
    form.check(weights)
    return form.encode_all(weights)


def moments(points: Weights) -> dict[str, Moments]:
    """The moments of each array of stacked points."""
    return {name: Moments(*map(float, found)) for name, found in _moments(points).items()}


@jax.jit
def _moments(points: Weights) -> dict[str, tuple[Array, Array, Array]]:
    return {n: (a.mean(), a.std(), jnp.sqrt((a**2).mean())) for n, a in points.items()}


def _save_tree(path: Path, tree: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    save_weights(path, {jax.tree_util.keystr(name): np.asarray(a) for name, a in leaves})


def _read_tree(path: Path, like: Any) -> Any:
    arrays, _ = load_weights(path)
    return jax.tree_util.tree_map_with_path(
        lambda name, a: jnp.asarray(arrays[jax.tree_util.keystr(name)], a.dtype), like
    )
