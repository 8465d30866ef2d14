"""A flow over networks of one task, put to use elsewhere: for another task, at other widths.

python -m experiments.transfer --config=configs/transfer.py --workdir=runs/transfer

Three parts, each measured once and then kept in the workdir, below the flow's own run. `guided`:
samples led by gradients of another task, beside networks trained with as many gradients. `curves`:
samples as initial weights for training on the other task. `widths`: samples of wider networks,
from the same field. The same command resumes.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from matplotlib import pyplot as plt

from experiments import mnist
from experiments.choices import ZOO_OPTIMIZERS, own_embedding
from experiments.command import Config, UsageError, main
from experiments.sampling import GUIDED_AT
from experiments.uci import Experiment, Trained, encode_all, prepare
from experiments.workdir import Workdir
from wfm.evaluation import evaluate, logits
from wfm.fields import functional
from wfm.flows import Field, Flow, Integrator, euler
from wfm.tasks import BatchLoss, Task, accuracy, load_task
from wfm.weights import Weights, WeightSpec
from wfm.zoo import Schedule, train_zoo


def run(config: Config, path: str) -> None:
    """The flow, then all parts that the workdir does not hold yet."""
    experiment = mnist.check(config.base)
    network = experiment.network
    if set(own_embedding(config.base.field, network)) & set(network.permutable):
        raise UsageError(
            "config.base.field.own_embedding tells hidden neurons apart, and other widths have "
            "other neurons; set it to fixed"
        )
    target = load_task(config.target, config.base.split)
    if target.input_shape != experiment.task.input_shape:
        raise UsageError(
            f"config.target {config.target!r} has inputs of shape {target.input_shape}, and "
            f"{config.base.task!r} of {experiment.task.input_shape}; choose a task of that shape"
        )
    workdir = Workdir(path, config)
    trained = prepare(experiment, Workdir(workdir / "flow", config.base))
    initial = _initial_weights(config.networks, experiment, trained)
    parts = {
        "guided": lambda: guided(config, experiment, trained, target, initial),
        "curves": lambda: curves(config, experiment, target, initial),
        "widths": lambda: widths(config, experiment, trained),
    }
    found = {name: _kept(workdir, name, part) for name, part in parts.items()}
    workdir.finish({"seed": config.base.seed} | found)
    draw_curves(found["curves"], workdir)
    print(table(found))


def _kept(workdir: Workdir, name: str, measure: Callable[[], Any]) -> Any:
    """What the workdir holds of a part, or a new measurement, which it then holds."""
    file = workdir / "parts" / f"{name}.json"
    if not file.exists():
        with workdir.stage(name):
            found = measure()
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=2))
    return json.loads(file.read_text())


def _initial_weights(n: int, experiment: Experiment, trained: Trained) -> dict[str, Weights]:
    """Stacked networks to start from."""
    keys = jax.random.split(experiment.keys["prior"], n)
    how = dataclasses.replace(experiment.sampling, networks=n)
    draw = how.sampler(trained.flow, experiment.form, trained.field)
    return {
        "gaussian": jax.vmap(experiment.initial.random)(keys),
        "he": jax.vmap(partial(_he, experiment.network))(keys),
        "trained": jax.tree.map(lambda a: a[:n], trained.held_out.last().weights),
        "samples": draw(experiment.keys["sampling"]),
    }


def _he(network: WeightSpec, key: Key[Array, ""]) -> Weights:
    """Kernels with variance 2 / fan-in, biases 0 (He et al. 2015)."""
    keys = dict(zip(network.arrays, jax.random.split(key, len(network.arrays)), strict=True))
    he, zeros = jax.nn.initializers.he_normal(), jax.nn.initializers.zeros
    return {
        name: (he if len(network.labels(name)) > 1 else zeros)(keys[name], network.shape(name))
        for name in network.arrays
    }


def _quality(network: WeightSpec, weights: Weights, task: Task) -> dict[str, float]:
    """Test accuracy over networks, and on validation data, which choices are made by."""
    test, validation = (
        evaluate(network, weights, split)["accuracy"] for split in (task.test, task.validation)
    )
    return {
        "accuracy": float(test.mean()),
        "std": float(test.std()),
        "validation": float(validation.mean()),
    }


def guided(
    config: Config,
    experiment: Experiment,
    trained: Trained,
    target: Task,
    initial: Mapping[str, Weights],
) -> dict[str, Any]:
    """Guidance by the target's loss beside training, each with its best scale or rate.

    Every way has the same number of gradients on batches of the same size.
    """
    network, found = experiment.network, {}
    for at in GUIDED_AT:
        draw = _guided_sampler(config, experiment, trained, target, at)
        ways = {
            scale: _quality(network, draw(experiment.keys["sampling"], scale), target)
            for scale in config.guidance.scales
        }
        found[f"guided at {at}"] = _best(ways)
    for name, weights in initial.items():
        ways = {
            rate: _quality(network, _descended(config, experiment, target, weights, rate), target)
            for rate in config.guidance.rates
        }
        found[f"trained from {name}"] = _best(ways)
    return found


def _best(ways: Mapping[float, dict[str, float]]) -> dict[str, Any]:
    best = max(ways, key=lambda scale: ways[scale]["validation"])
    tried = {str(scale): figures["validation"] for scale, figures in ways.items()}
    return ways[best] | {"scale": best, "tried": tried}


def _guided_sampler(
    config: Config, experiment: Experiment, trained: Trained, target: Task, at: str
) -> Callable[[Key[Array, ""], float], Weights]:
    """From a key and a scale of guidance to networks, compiled once for all scales."""
    c, form = config.guidance, experiment.form
    how = dataclasses.replace(
        experiment.sampling,
        integrator=Integrator(c.steps, euler),
        objective=BatchLoss(form.spec, target.train, c.batch_size),
        at_end_point=GUIDED_AT[at],
        networks=config.networks,
    )

    def one(key: Key[Array, ""], scale: Array) -> Weights:
        guide = dataclasses.replace(how, guidance=lambda t: scale)
        point = guide.guided(trained.flow, key).sample(trained.field, key, how.integrator)
        return form.decode(point)

    return jax.jit(lambda key, scale: how.each(lambda k: one(k, scale), key))


def _descended(
    config: Config, experiment: Experiment, target: Task, initial: Weights, rate: float
) -> Weights:
    """After as many steps of training as guided samples have."""
    c, z = config.guidance, experiment.config.zoo
    schedule = Schedule(-(-c.steps * c.batch_size // len(target.train)), c.batch_size, 0, c.steps)
    optimizer = ZOO_OPTIMIZERS[z.optimizer](rate, z.weight_decay)
    key = experiment.keys["sampling"]
    zoo = train_zoo(experiment.network, target, initial, optimizer, key, schedule)
    return jax.tree.map(lambda a: a[: config.networks], zoo.weights)


def curves(
    config: Config, experiment: Experiment, target: Task, initial: Mapping[str, Weights]
) -> dict[str, Any]:
    """Test accuracy on the target, by training steps, from each of the initial weights.

    Trained as the zoo was, with its learning rate and schedule, all on the same batches.
    """
    z, n = experiment.config.zoo, config.networks
    schedule = Schedule(z.epochs, z.batch_size, 0, config.curves.stride, same_batches=True)
    key, network, found = experiment.keys["zoo"], experiment.network, {}
    for name, start in initial.items():
        zoo = train_zoo(network, target, start, experiment.zoo_optimizer, key, schedule)
        sets = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), start, zoo.weights)
        values = np.asarray(evaluate(network, sets, target.test)["accuracy"]).reshape(-1, n)
        found[name] = {"accuracy": values.mean(1).tolist(), "std": values.std(1).tolist()}
        found["steps"] = [0, *zoo.step[::n].tolist()]
    return found


def widths(config: Config, experiment: Experiment, trained: Trained) -> dict[str, Any]:
    """Test accuracy of samples with other numbers of hidden neurons, from the trained field.

    Beside them, of no more neurons: several samples of the trained width, side by side.
    """
    task, found = experiment.task, {}
    for width in config.widths:
        changed = config.base.copy_and_resolve_references()
        changed.hidden = (width,) * len(config.base.hidden)
        wide = Experiment(changed)
        how = dataclasses.replace(wide.sampling, networks=config.networks)
        flow, field = _at_width(experiment, wide, trained)
        samples = how.sampler(flow, wide.form, field)(wide.keys["sampling"])
        found[str(width)] = {
            "sampled": _quality(wide.network, samples, task),
            "side by side": _side_by_side(
                experiment, trained, width // config.base.hidden[0], config.networks
            ),
        }
    return found


def _at_width(experiment: Experiment, wide: Experiment, trained: Trained) -> tuple[Flow, Field]:
    """The flow and field between networks of another width.

    Spheres keep their radius at any width, so the entries of a point on a larger one are
    smaller; the field sees the arrays in units that change alike.
    """
    points = (encode_all(e.form, e.initial_draws()) for e in (wide, experiment))
    (flow, size), (_, before) = map(Experiment.make_flow, (wide, experiment), points)
    unit = {name: trained.unit[name] * size[name] / before[name] for name in size}
    bind, _ = functional(wide.make_field(flow, unit))
    return flow, bind(trained.parameters)


def _side_by_side(experiment: Experiment, trained: Trained, parts: int, n: int) -> dict[str, float]:
    """Networks whose outputs are the mean of those of `parts` samples."""
    network, test = experiment.network, experiment.task.test
    how = dataclasses.replace(experiment.sampling, networks=parts * n)
    draw = how.sampler(trained.flow, experiment.form, trained.field)
    outputs = logits(network, draw(experiment.keys["sampling"]), test.x)
    together = outputs.reshape(n, parts, *outputs.shape[1:]).mean(1)
    found = jax.vmap(partial(accuracy, labels=test.y))(together)
    return {"accuracy": float(found.mean()), "std": float(found.std())}


def draw_curves(curves: Mapping[str, Any], workdir: Workdir) -> None:
    """Mean test accuracy by training steps, a line for each of the initial weights."""
    figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for name in (name for name in curves if name != "steps"):
        mean, std = (np.asarray(curves[name][m]) for m in ("accuracy", "std"))
        axes.plot(curves["steps"], mean, label=name)
        axes.fill_between(curves["steps"], mean - std, mean + std, alpha=0.15)
    axes.set(xlabel="training steps", ylabel="test accuracy", xscale="symlog")
    axes.legend()
    figure.savefig(workdir / "curves.png", dpi=120)
    plt.close(figure)


def table(found: Mapping[str, Any]) -> str:
    """All parts as text."""
    lines = [
        "",
        "Another task, with as many gradients each (the best scale or rate on validation):",
    ]
    lines += [f"{name:28}{_figures(f)}  at {f['scale']:g}" for name, f in found["guided"].items()]
    curves = found["curves"]
    shown = range(0, len(curves["steps"]), max(1, len(curves["steps"]) // 5))
    lines += ["", f"{'Trained from, after steps':28}" + _row(curves["steps"][i] for i in shown)]
    lines += [
        f"{name:28}" + _row(f"{curves[name]['accuracy'][i]:.3f}" for i in shown)
        for name in curves
        if name != "steps"
    ]
    lines += ["", f"{'Width':28}{'sampled':17}side by side"]
    for width, ways in found["widths"].items():
        lines.append(f"{width:28}" + "  ".join(_figures(f) for f in ways.values()))
    return "\n".join(lines)


def _row(cells: Iterable[Any]) -> str:
    return "".join(f"{cell:>8}" for cell in cells)


def _figures(found: Mapping[str, float]) -> str:
    return f"{found['accuracy']:.4f} ± {found['std']:.4f}"


if __name__ == "__main__":
    main(run)
