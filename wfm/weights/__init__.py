"""Weights of networks: labels, symmetries, canonical forms, alignment, files."""

from wfm.weights.chunks import in_chunks
from wfm.weights.files import load_weights, save_weights
from wfm.weights.form import AsTrained, Canonical, WeightForm, canonicalize
from wfm.weights.matching import align, align_all, barycentre, match
from wfm.weights.networks import ACTIVATIONS, cnn, mlp, residual_mlp
from wfm.weights.scaling import NoScaling, PositiveScaling, Scaling, SignScaling
from wfm.weights.spec import Axes, Group, Weights, WeightSpec
from wfm.weights.symmetry import (
    Permutation,
    Rescaling,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
)

__all__ = [
    "ACTIVATIONS",
    "AsTrained",
    "Axes",
    "Canonical",
    "Group",
    "NoScaling",
    "Permutation",
    "PositiveScaling",
    "Rescaling",
    "Scaling",
    "SignScaling",
    "WeightForm",
    "WeightSpec",
    "Weights",
    "align",
    "align_all",
    "barycentre",
    "canonicalize",
    "cnn",
    "in_chunks",
    "load_weights",
    "match",
    "mlp",
    "permute",
    "random_permutation",
    "random_rescaling",
    "rescale",
    "residual_mlp",
    "save_weights",
]
