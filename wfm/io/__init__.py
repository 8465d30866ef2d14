"""Weights in and out of the formats that people have; no reader runs code of a file."""

from wfm.io.examine import Findings, examine
from wfm.io.formats import FORMATS, read_arrays, write_arrays
from wfm.io.load import Bad, load_networks
from wfm.io.networks import Origin
from wfm.io.save import save_networks
from wfm.io.small_cnn_zoo import SMALL_CNN_ZOO
from wfm.weights.layout import Layout, Stored

__all__ = [
    "FORMATS",
    "SMALL_CNN_ZOO",
    "Bad",
    "Findings",
    "Layout",
    "Origin",
    "Stored",
    "examine",
    "load_networks",
    "read_arrays",
    "save_networks",
    "write_arrays",
]
