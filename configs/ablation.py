"""What was tried to raise the quality of new MNIST networks: `experiments.ablation`.

Each row changes the settings of `configs/mnist.py` in one thing.

Command    make ablation
           make mnist
Studies    headline, tried, rates, levers, metric; flows, lossy, guided, unfolded, widths,
           trajectories, large, layers; published: all settings of the thesis, for an accelerator
Hardware   2 CPU cores, 6 GB; trajectories and large 7 GB
Time       on one core: tried 56 minutes, headline 48; the others: in the pages below
Expected   docs/results/mnist-ablation.md, docs/results/mnist.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnist

Row = tuple[str, dict[str, Any]]  # what was expected, and what is changed

EQUIVARIANT = {"own_embedding": "fixed"}
GUIDED = {"guidance": 8.0, "steps": 512, "solver": "euler", "guidance_batch": 128}

TRIED: dict[str, Row] = {
    "base": ("where all rows start", {}),
    "guided": ("gradients mend what the field gets wrong", {"sampling": GUIDED}),
    "guided at x_t": (
        "worse than at the end point: early on x_t computes nothing yet",
        {"sampling": GUIDED | {"guidance_at": "x_t"}},
    ),
    "noise in sampling": ("errors are forgotten", {"sampling": {"noise": 0.03, "steps": 64}}),
    "neighbours": (
        "worse: folded neurons of one layer have no edges and meet in one node",
        {"field": {"kind": "transformer"}},
    ),
    "flat field": (
        "better than a graph: aligned neurons need no symmetry",
        {"field": {"kind": "mlp", "width": 512}, "training": {"optimizer": "adam"}},
    ),
    "equivariant": ("worse: it cannot know which neuron it sees", {"field": EQUIVARIANT}),
    "equivariant OT": (
        "shorter ways, easier to learn",
        {"field": EQUIVARIANT, "flow": {"coupling": "equivariant"}},
    ),
    "trajectory": (
        "what training does is a function of the start",
        {"field": EQUIVARIANT, "flow": {"coupling": "trajectory"}},
    ),
    "end point": ("the same", {"flow": {"prediction": "end_point"}}),
    "uniform times": ("details are decided late", {"flow": {"time_b": 1.0}}),
    "early times": ("large components are decided early", {"flow": {"time_b": 6.0}}),
    "width 32": ("worse", {"field": {"width": 32}}),
    "width 128": ("better", {"field": {"width": 128}}),
    "6,000 steps": ("better, at less novelty", {"training": {"steps": 6000}}),
    "lossy last layer": (
        "the loss suffers, the accuracy does not",
        {"flow": {"last_layer": "sphere"}},
    ),
}
# Settings that the studies below share: what `rates` found.
SLOW = {"learning_rate": 5e-3}
LONG = {"steps": 6000}
LONGER = GUIDED | {"guidance": 16.0, "steps": 1024}
FALLING = LONGER | {"guidance": 128.0, "guidance_rate": "falling"}
LONGEST = FALLING | {"guidance": 256.0, "guidance_batch": 256, "steps": 2048, "networks": 32}
HILL = LONGEST | {"guidance_rate": "hill"}
KINDS = ("euclidean", "normalized", "geometric")
FEW = {"averages": (1, 2, 4, 8, 16, 32)}  # of fewer than 64 networks
PLAIN_GRAPH = {"kind": "transformer", "fold": False}
TABLE: dict[str, dict[str, Any]] = {
    f"{kind.capitalize()}{title}": {"flow": {"kind": kind, "coupling": coupling}}
    for kind in KINDS
    for title, coupling in (("", "independent"), (" + OT", "ot"))
}
FLOWS: dict[str, Row] = {
    row: ("all alike", {"training": SLOW} | changes) for row, changes in TABLE.items()
}
MENDED: dict[str, Row] = {
    f"{kind.capitalize()} guided": (
        "the loss of trained networks",
        {"training": SLOW, "flow": {"kind": kind}, "sampling": FALLING},
    )
    for kind in KINDS[1:]
}
LOSSY: dict[str, Row] = {
    f"{kind.capitalize()} lossy": (
        "published form of the last layer: a loss of 1.4",
        {"training": SLOW, "flow": {"kind": kind, "last_layer": "sphere"}},
    )
    for kind in KINDS[1:]
}
UNFOLDED: dict[str, Row] = {
    f"{row}, plain graph": (
        "worse: so few steps",
        {
            "training": SLOW | {"steps": 1000, "batch_size": 8},
            "field": PLAIN_GRAPH | {"width": 16},
        }
        | changes,
    )
    for row, changes in TABLE.items()
}
AS_PUBLISHED: dict[str, Any] = {  # as far as the thesis's appendix names it
    "zoo": {
        "networks": 50,
        "prior_std": 0.1,
        "learning_rate": 0.1,
        "rate": "constant",
        "weight_decay": 1e-5,
        "epochs": 25,
        "burn_in": 5,
        "stride": 10,
    },
    "field": {"fold": False, "width": 32, "depth": 5, "own_embedding": "none"},
    "training": {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "steps": 100_000,
        "batch_size": 8,
        "report_every": 500,
    },
    "sampling": {"solver": "euler", "steps": 64},
} | FEW
FORM = {"last_layer": "sphere", "prediction": "end_point", "sigma": 1e-5}
PUBLISHED: dict[str, Row] = {
    f"{row}, as published": ("the published figures", AS_PUBLISHED | {"flow": FORM | flow["flow"]})
    for row, flow in TABLE.items()
}
WIDTHS: dict[str, Row] = {
    f"{d} features": ("better with each", {"training": SLOW, "field": {"width": d}})
    for d in (8, 16, 32, 64, 128)
}
TRAJECTORIES: dict[str, Row] = {
    f"{n:,} networks": (
        expected,
        {"zoo": {"networks": n}, "training": SLOW | LONG | {"keep": "best"}}
        | (FEW if n < 80 else {}),
    )
    for n, expected in (
        (60, "copies: accurate, and not novel"),
        (240, "between"),
        (1000, "the base"),
        (3000, "between"),
        (10_000, "better still"),
    )
}
MANY = {
    "zoo": {"networks": 10_000},
    "field": {"width": 128},
    "training": SLOW | LONG | {"keep": "best"},
}
LARGE: dict[str, Row] = {
    "10,000 networks, 128 features": ("a wide field needs many networks", MANY),
    "10,000 networks, 128 features, guided": (
        "an average as good as that of trained networks",
        MANY | {"sampling": FALLING},
    ),
}
TWO_LAYERS = {
    "hidden": (32, 32),
    "zoo": {"networks": 300},
    "field": {"kind": "transformer", "width": 48},
    "training": SLOW,
}
LAYERS: dict[str, Row] = {
    "two hidden layers": ("far below trained networks", TWO_LAYERS),
    "two hidden layers, guided": (
        "within 0.003 of trained networks",
        TWO_LAYERS | {"sampling": FALLING},
    ),
    "two hidden layers, guided longer": (
        "within 0.001: as many examples as training sees",
        TWO_LAYERS | {"sampling": LONGEST} | FEW,
    ),
}
WIDE = {"zoo": {"prior_std": 0.1}}  # the scale of the zoo's prior is that of the flow's
BY_METRIC = {"flow": {"weighting": "none"}}
LEVERS: dict[str, Row] = {
    "slow": ("where these rows start", {"training": SLOW}),
    "no average": ("worse: late steps still jump", {"training": SLOW | {"decay": 0.0}}),
    "loss by entries": (
        "better first layers, worse small arrays",
        {"training": SLOW, "flow": {"weighting": "entries"}},
    ),
    "loss by metric": (
        "worse: what is small is not learned",
        BY_METRIC | {"training": SLOW},
    ),
    "wide start": ("harder: more of a network is chance", {"training": SLOW} | WIDE),
    "wide start, Euclidean": (
        "worse still: its paths start farther away, too",
        {"training": SLOW, "flow": {"kind": "euclidean"}} | WIDE,
    ),
    "steep zoo": (
        "easier: networks forget their start",
        {
            "training": SLOW,
            "zoo": {"prior_std": 0.1, "learning_rate": 0.1, "weight_decay": 1e-3},
        },
    ),
}
HEADLINE: dict[str, Row] = {
    "6,000 steps": ("as one seed found", {"training": LONG}),
    "6,000 steps, guided": (
        "longer guidance, in steps as short, raises the average",
        {"training": LONG, "sampling": FALLING},
    ),
    "6,000 steps, guided longer": (
        "the average of trained networks: as many examples as they see",
        {"training": LONG, "sampling": HILL} | FEW,
    ),
}
RATES: dict[str, Row] = {
    "slow": (
        "better: 128 features, which went worst, ask for short steps",
        {"training": SLOW},
    ),
    "slow, 128": (
        "better than 64 features",
        {"training": SLOW, "field": {"width": 128}},
    ),
    "slow, 6,000": ("better than either", {"training": SLOW | LONG}),
    "slow, 6,000, guided": (
        "better than either",
        {"training": SLOW | LONG, "sampling": LONGER},
    ),
}
METRIC: dict[str, Row] = {  # after `levers`
    "by metric, 6,000": ("better than 0.849", BY_METRIC | {"training": SLOW | LONG}),
    "by metric, 6,000, guided longer": (
        "as good as from the other loss, if newer",
        BY_METRIC | {"training": SLOW | LONG, "sampling": HILL} | FEW,
    ),
    "by metric, 128": (
        "better than 0.838",
        BY_METRIC | {"training": SLOW, "field": {"width": 128}},
    ),
}
STUDIES = {
    "headline": HEADLINE,
    "tried": TRIED,
    "flows": FLOWS,
    "guided": MENDED,
    "lossy": LOSSY,
    "unfolded": UNFOLDED,
    "published": PUBLISHED,
    "widths": WIDTHS,
    "trajectories": TRAJECTORIES,
    "large": LARGE,
    "layers": LAYERS,
    "rates": RATES,
    "levers": LEVERS,
    "metric": METRIC,
}
THRICE = ("headline", "flows", "lossy", "guided", "layers")
SEEDS: dict[str, tuple[int, ...]] = dict.fromkeys(THRICE, (0, 1, 2))


def get_config(study: str = "tried") -> ConfigDict:
    """Every row trains the flow of `base` with the row's changes, once for each seed."""
    config: Any = ConfigDict()
    config.seeds = SEEDS.get(study, (0,))
    config.shared = ""  # folder of zoos and flows for other runs too; else in the workdir
    config.base = mnist.get_config()
    config.rows = {row: changes for row, (_, changes) in STUDIES[study].items()}
    config.expected = {row: expected for row, (expected, _) in STUDIES[study].items()}
    return config
