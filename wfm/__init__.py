"""Weight flow matching: generative models of neural-network weights.

The names that a first script needs; the packages below hold the rest.
"""

from flax.nnx import Rngs

from wfm.evaluation import evaluate
from wfm.fields import RelationalTransformer
from wfm.flows import Flow
from wfm.manifolds import Euclidean, Product, Sphere, Torus
from wfm.tasks import load_task
from wfm.training import learn
from wfm.weights import AsTrained, Canonical, WeightSpec, align_all, mlp
from wfm.zoo import train_zoo

__all__ = [
    "AsTrained",
    "Canonical",
    "Euclidean",
    "Flow",
    "Product",
    "RelationalTransformer",
    "Rngs",
    "Sphere",
    "Torus",
    "WeightSpec",
    "align_all",
    "evaluate",
    "learn",
    "load_task",
    "mlp",
    "train_zoo",
]
