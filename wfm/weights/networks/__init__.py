"""Architectures: each is defined by its labels and its forward pass alone."""

from wfm.weights.networks.activations import ACTIVATIONS, Activation
from wfm.weights.networks.attention import Attention, balance_heads
from wfm.weights.networks.batch_norm import (
    BatchNorm,
    batch_norms,
    fold_batch_norm,
    recalibrate,
)
from wfm.weights.networks.cnn import cnn, lenet5, small_cnn
from wfm.weights.networks.layouts import torch_layout
from wfm.weights.networks.mlp import mlp, residual_mlp
from wfm.weights.networks.resnet import resnet
from wfm.weights.networks.siren import siren, siren_init
from wfm.weights.networks.vit import vit

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Attention",
    "BatchNorm",
    "balance_heads",
    "batch_norms",
    "cnn",
    "fold_batch_norm",
    "lenet5",
    "mlp",
    "recalibrate",
    "residual_mlp",
    "resnet",
    "siren",
    "siren_init",
    "small_cnn",
    "torch_layout",
    "vit",
]
