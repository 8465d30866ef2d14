"""Weights of networks: labels, symmetries, canonical forms, alignment, files."""

from wfm.batching import in_chunks
from wfm.weights.activation_matching import ActivationMatching
from wfm.weights.alignment import align, align_all, align_each, barycentre, cycle_consistency
from wfm.weights.files import load_weights, save_weights
from wfm.weights.form import AsTrained, Canonical, WeightForm, canonicalize
from wfm.weights.matching import Matching, WeightMatching
from wfm.weights.networks import ACTIVATIONS, cnn, mlp, residual_mlp
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
    random_permutation,
    random_rescaling,
    rescale,
)
from wfm.weights.trace import trace

__all__ = [
    "ACTIVATIONS",
    "ActivationMatching",
    "AsTrained",
    "Axes",
    "Canonical",
    "Group",
    "Incoming",
    "LinearScaling",
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
    "WeightForm",
    "WeightMatching",
    "WeightSpec",
    "Weights",
    "align",
    "align_all",
    "align_each",
    "barycentre",
    "canonicalize",
    "cnn",
    "cycle_consistency",
    "in_chunks",
    "in_working_precision",
    "load_weights",
    "mix",
    "mlp",
    "permute",
    "random_permutation",
    "random_rescaling",
    "rescale",
    "residual_mlp",
    "save_weights",
    "trace",
]
