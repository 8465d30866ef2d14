"""Flow matching on any manifold; nothing here knows of weights."""

from wfm.flows.coupling import (
    Coupling,
    EntropicTransport,
    EquivariantTransport,
    Given,
    Independent,
    OptimalTransport,
)
from wfm.flows.flow import Field, Flow
from wfm.flows.path import BetaTime, GeodesicPath
from wfm.flows.prediction import EndPoint, Prediction, Velocity
from wfm.flows.prior import Prior, Pushforward, Reference
from wfm.flows.solver import GeodesicEuler

__all__ = [
    "BetaTime",
    "Coupling",
    "EndPoint",
    "EntropicTransport",
    "EquivariantTransport",
    "Field",
    "Flow",
    "GeodesicEuler",
    "GeodesicPath",
    "Given",
    "Independent",
    "OptimalTransport",
    "Prediction",
    "Prior",
    "Pushforward",
    "Reference",
    "Velocity",
]
