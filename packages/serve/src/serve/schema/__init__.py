"""The shapes of config files, of the REST API's answers and of ``serve.status()``. Ray Serve's names."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from serve.schema.status import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus, TrafficOverview

if TYPE_CHECKING:
    from serve.schema.checking import Checkup, check
    from serve.schema.deploy import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema
    from serve.schema.details import ApplicationDetails, DeploymentDetails, ReplicaDetails, ServeInstanceDetails
    from serve.schema.problems import ConfigError, Problem
    from serve.schema.text import read, read_file

__all__ = [
    "ApplicationDetails",
    "ApplicationStatusOverview",
    "Checkup",
    "ConfigError",
    "DeploymentDetails",
    "DeploymentSchema",
    "DeploymentStatusOverview",
    "Problem",
    "ReplicaDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "TrafficOverview",
    "check",
    "read",
    "read_file",
]

#: name -> module that defines it; only who works with config files needs them
_HOMES = {
    "ApplicationDetails": "details",
    "Checkup": "checking",
    "ConfigError": "problems",
    "DeploymentDetails": "details",
    "DeploymentSchema": "deploy",
    "Problem": "problems",
    "ReplicaDetails": "details",
    "ServeApplicationSchema": "deploy",
    "ServeDeploySchema": "deploy",
    "ServeInstanceDetails": "details",
    "check": "checking",
    "read": "text",
    "read_file": "text",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
