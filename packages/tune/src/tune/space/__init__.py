"""Search spaces: what may vary in a configuration, how configurations are made of it, and Optuna's words for it."""

from tune.space.cube import UnitCube
from tune.space.define_by_run import SpaceTrial
from tune.space.distributions import (
    from_distribution,
    from_distributions,
    to_distribution,
    to_distributions,
)
from tune.space.domains import Categorical, Domain, Float, Function, Integer, Normal
from tune.space.functions import (
    choice,
    grid_search,
    lograndint,
    loguniform,
    qlograndint,
    qloguniform,
    qrandint,
    qrandn,
    quniform,
    randint,
    randn,
    sample_from,
    uniform,
)
from tune.space.search_space import DefinedSpace, Resolved, SearchSpace, Space, as_space
from tune.space.tree import has_domains

__all__ = [
    "Categorical",
    "DefinedSpace",
    "Domain",
    "Float",
    "Function",
    "Integer",
    "Normal",
    "Resolved",
    "SearchSpace",
    "Space",
    "SpaceTrial",
    "UnitCube",
    "as_space",
    "choice",
    "from_distribution",
    "from_distributions",
    "grid_search",
    "has_domains",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "sample_from",
    "to_distribution",
    "to_distributions",
    "uniform",
]
