"""Settings that studies of weights start from: small data sets, and MNIST, on two CPU cores."""

from typing import Any

from ml_collections import ConfigDict


def small(kind: str = "geometric") -> Any:
    """New networks for breast cancer, as in `make demo`."""
    config: Any = ConfigDict()
    config.seed = 0
    config.devices = 1  # that share the networks of each batch, in training and in sampling
    config.task = "breast_cancer"
    config.split = 1  # which random split; this one is typical (docs/results/quality.md)
    # Without the sizes of inputs and outputs: mlp:16,16,activation=tanh, lenet5, resnet:depth=8, …
    # or module:function (docs/extending.md).
    config.network = "mlp:16,16"

    config.zoo = ConfigDict()
    config.zoo.path = ""  # networks trained elsewhere, a file or folder (docs/io.md)
    config.zoo.layout = "own"  # how they are stored: own, torch, small_cnn_zoo
    config.zoo.networks = 100
    config.zoo.initial = "normal"  # with prior_std; or he, lecun, glorot, siren
    config.zoo.prior_std = 0.1
    config.zoo.optimizer = "adam"  # or sgd, with momentum 0.9
    config.zoo.learning_rate = 1e-3
    config.zoo.rate = "constant"  # or cosine: the learning rate falls to 0
    config.zoo.weight_decay = 0.0
    config.zoo.same_batches = False  # one order of the examples for all networks: faster
    config.zoo.epochs = 50
    config.zoo.batch_size = 32
    config.zoo.burn_in = 10
    config.zoo.stride = 20
    config.zoo.at_once = 100  # networks trained at a time; an interrupted run keeps those done
    config.zoo.held_out = 0.15  # share of trajectories that the flow never sees

    config.flow = ConfigDict()
    config.flow.kind = kind
    config.flow.align = "weights"  # none, weights, activations, sinkhorn_l2, …_mid, …_rnd
    config.flow.coupling = "independent"  # ot, entropic, equivariant, trajectory
    config.flow.last_layer = "sphere+scale"
    config.flow.sigma = 1e-4
    config.flow.time_b = 2.0  # t ~ Beta(1, b)
    config.flow.prediction = "velocity"  # or end_point
    config.flow.weighting = "arrays"  # what counts alike in the loss; or entries, or none

    config.field = ConfigDict()
    config.field.kind = "transformer"  # full_transformer, pna; or mlp: reads width and depth alone
    config.field.width = 32
    config.field.depth = 3
    config.field.fold = True
    config.field.own_embedding = "all"  # neurons with an embedding each: all, fixed, none
    config.field.dtype = "float32"  # of the layers; bfloat16 for accelerators that have it

    config.training = ConfigDict()
    config.training.optimizer = "muon"  # or adam
    config.training.steps = 3000
    config.training.batch_size = 32
    config.training.learning_rate = 2e-2
    config.training.ema_decay = 0.995  # of the average of the parameters
    config.training.microbatch = 8  # networks at a time; any number gives the same gradient
    config.training.report_every = 50
    config.training.keep = "last"  # or best: the state with the least loss on held-out networks

    config.sampling = ConfigDict()
    config.sampling.networks = 100
    config.sampling.steps = 4  # more: wider spread, lower quality (docs/results/quality.md)
    config.sampling.solver = "euler"  # midpoint, rk4
    config.sampling.grid = "uniform"  # denser_early, denser_late
    config.sampling.noise = 0.0  # scale of a tangent step before each step
    config.sampling.noise_start = 0.0  # from this time on
    config.sampling.guidance = 0.0  # scale of the gradient of the training loss
    config.sampling.guidance_rate = "constant"  # or falling: to 0 at t = 1; hill: from and to 0
    config.sampling.guidance_at = "end_point"  # or x_t
    config.sampling.guidance_batch = 32
    config.sampling.guidance_input_noise = 0.0  # guidance towards robustness
    config.sampling.chunk = 8  # networks at a time: few fit the cache of a CPU, more fill a GPU
    config.sampling.trajectories = False  # also keep the way of each sample, in trajectories/
    return config


def mnist(kind: str = "geometric") -> Any:
    """New classifiers 784-10-10; of 50 networks as published, or 200, with zoo.networks."""
    config = small(kind)
    config.task = "mnist"
    config.split = 0
    config.network = "mlp:10"
    config.zoo.update({"networks": 1000, "at_once": 50, "same_batches": True})
    config.zoo.update({"optimizer": "sgd", "learning_rate": 0.05, "rate": "cosine"})
    # Little of a network is then chance, and 32 of them still average to 0.956.
    config.zoo.prior_std = 0.02
    config.zoo.update({"epochs": 10, "batch_size": 128, "burn_in": 9, "stride": 390})
    config.field.update({"kind": "full_transformer", "width": 64})
    config.training.steps = 2000
    config.sampling.update({"steps": 16, "solver": "midpoint"})
    config.averages = (1, 2, 4, 8, 16, 32)  # numbers of networks whose predictions are averaged
    return config
