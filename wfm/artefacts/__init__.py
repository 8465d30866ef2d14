"""Objects on disk as JSON and arrays, read without executing anything."""

from wfm.artefacts.encoding import Classes, Described, decode, encode
from wfm.artefacts.files import read, write

__all__ = ["Classes", "Described", "decode", "encode", "read", "write"]
