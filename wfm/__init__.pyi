from flax.nnx import Rngs as Rngs

from wfm import devices as devices
from wfm import evaluation as evaluation
from wfm import fields as fields
from wfm import flows as flows
from wfm import io as io
from wfm import manifolds as manifolds
from wfm import ot as ot
from wfm import priors as priors
from wfm import tasks as tasks
from wfm import training as training
from wfm import weights as weights
from wfm import zoo as zoo
from wfm.compilation import enable_compilation_cache as enable_compilation_cache
from wfm.errors import UserError as UserError
from wfm.evaluation import evaluate as evaluate
from wfm.fields import RelationalTransformer as RelationalTransformer
from wfm.flows import Flow as Flow
from wfm.flows import FlowMatching as FlowMatching
from wfm.flows import load_flow as load_flow
from wfm.io import load_networks as load_networks
from wfm.io import save_networks as save_networks
from wfm.manifolds import Euclidean as Euclidean
from wfm.manifolds import Product as Product
from wfm.manifolds import Sphere as Sphere
from wfm.manifolds import Torus as Torus
from wfm.tasks import load_task as load_task
from wfm.training import learn as learn
from wfm.weights import AsTrained as AsTrained
from wfm.weights import Canonical as Canonical
from wfm.weights import WeightSpec as WeightSpec
from wfm.weights import align_all as align_all
from wfm.weights import mlp as mlp
from wfm.weights import trace as trace
from wfm.zoo import train_zoo as train_zoo

__version__: str
