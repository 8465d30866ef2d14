"""Weights of networks: labels, symmetries, canonical forms, alignment, files."""

from wfm.batching import in_chunks
from wfm.weights.activation_matching import ActivationMatching
from wfm.weights.alignment import align, align_all, align_each, barycentre, cycle_consistency
from wfm.weights.files import load_weights, save_weights
from wfm.weights.form import AsTrained, Canonical, WeightForm, canonicalize
from wfm.weights.layout import Layout, Stored, from_stored, to_stored
from wfm.weights.log_variances import LogVariances
from wfm.weights.matching import Matching, WeightMatching
from wfm.weights.networks import (
    ACTIVATIONS,
    Attention,
    BatchNorm,
    balance_heads,
    batch_norms,
    cnn,
    fold_batch_norm,
    lenet5,
    mlp,
    recalibrate,
    residual_mlp,
    resnet,
    siren,
    siren_init,
    small_cnn,
    torch_layout,
    vit,
)
from wfm.weights.precision import in_working_precision
from wfm.weights.scaling import (
    Incoming,
    LinearScaling,
    NoScaling,
    PositiveScaling,
    Scaling,
    SignScaling,
)
from wfm.weights.sinkhorn_matching import (
    MidpointLoss,
    Objective,
    RandomPointLoss,
    SinkhornMatching,
    SquaredDistance,
)
from wfm.weights.spec import Axes, Group, Weights, WeightSpec
from wfm.weights.symmetry import (
    Permutation,
    Rescaling,
    mix,
    permute,
    permute_all,
    random_permutation,
    random_rescaling,
    rescale,
)
from wfm.weights.tracing import trace

__all__ = [
    "ACTIVATIONS",
    "ActivationMatching",
    "AsTrained",
    "Attention",
    "Axes",
    "BatchNorm",
    "Canonical",
    "Group",
    "Incoming",
    "Layout",
    "LinearScaling",
    "LogVariances",
    "Matching",
    "MidpointLoss",
    "NoScaling",
    "Objective",
    "Permutation",
    "PositiveScaling",
    "RandomPointLoss",
    "Rescaling",
    "Scaling",
    "SignScaling",
    "SinkhornMatching",
    "SquaredDistance",
    "Stored",
    "WeightForm",
    "WeightMatching",
    "WeightSpec",
    "Weights",
    "align",
    "align_all",
    "align_each",
    "balance_heads",
    "barycentre",
    "batch_norms",
    "canonicalize",
    "cnn",
    "cycle_consistency",
    "fold_batch_norm",
    "from_stored",
    "in_chunks",
    "in_working_precision",
    "lenet5",
    "load_weights",
    "mix",
    "mlp",
    "permute",
    "permute_all",
    "random_permutation",
    "random_rescaling",
    "recalibrate",
    "rescale",
    "residual_mlp",
    "resnet",
    "save_weights",
    "siren",
    "siren_init",
    "small_cnn",
    "to_stored",
    "torch_layout",
    "trace",
    "vit",
]
