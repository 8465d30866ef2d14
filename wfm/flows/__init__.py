"""Flow matching on any manifold; nothing here knows about weights."""

from wfm.flows.coupling import (
    Coupling,
    EntropicTransport,
    EquivariantTransport,
    Independent,
    OptimalTransport,
    Paired,
)
from wfm.flows.field import Field
from wfm.flows.files import about, load_flow
from wfm.flows.flow import Flow
from wfm.flows.guidance import Guided, Objective
from wfm.flows.integrator import Integrator, denser_early, denser_late, uniform
from wfm.flows.likelihood import Divergence, Exact, Hutchinson, LogProb
from wfm.flows.matching import FlowMatching
from wfm.flows.noise import Motion, Noise, ScoreNoise, TangentNoise
from wfm.flows.path import BetaTime, GeodesicPath
from wfm.flows.prediction import OnPath, Prediction, Spaces, VelocityPrediction, X1Prediction
from wfm.flows.solver import (
    GeodesicRungeKutta,
    MakeSolver,
    euler,
    in_flat_space,
    midpoint,
    rk4,
    tsit5,
)

__all__ = [
    "BetaTime",
    "Coupling",
    "Divergence",
    "EntropicTransport",
    "EquivariantTransport",
    "Exact",
    "Field",
    "Flow",
    "FlowMatching",
    "GeodesicPath",
    "GeodesicRungeKutta",
    "Guided",
    "Hutchinson",
    "Independent",
    "Integrator",
    "LogProb",
    "MakeSolver",
    "Motion",
    "Noise",
    "Objective",
    "OnPath",
    "OptimalTransport",
    "Paired",
    "Prediction",
    "ScoreNoise",
    "Spaces",
    "TangentNoise",
    "VelocityPrediction",
    "X1Prediction",
    "about",
    "denser_early",
    "denser_late",
    "euler",
    "in_flat_space",
    "load_flow",
    "midpoint",
    "rk4",
    "tsit5",
    "uniform",
]
