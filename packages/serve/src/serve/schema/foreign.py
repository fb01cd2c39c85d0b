"""Fields of Ray Serve's config files that Skate does not have: what becomes of each.

A field whose absence changes how the application runs, but not what it does, is left out with a warning, so that
config files written for Ray go on to work. Where leaving it out could break the application, it is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.schema.problems import Location, Problem

_ONE_MACHINE = "has no effect: everything runs on one machine"
_SURGE = "has no effect: new replicas always start before old ones stop"

#: field -> what to say; left out
_DEPLOY_IGNORED = {
    "tracing_config": "has no effect: there are no traces",
    "controller_options": "has no effect: the controller needs no options",
}
_APPLICATION_IGNORED = {
    "host": "has no effect; Ray ignores it too: use http_options at the top",
    "port": "has no effect; Ray ignores it too: use http_options at the top",
}
_DEPLOYMENT_IGNORED = {
    "placement_group_bundles": _ONE_MACHINE,
    "placement_group_strategy": _ONE_MACHINE,
    "placement_group_bundle_label_selector": _ONE_MACHINE,
    "max_replicas_per_node": _ONE_MACHINE,
    "request_router_config": "has no effect: requests go to the less busy of two replicas, and to where their model is",
    "rolling_update_percentage": _SURGE,
    "max_surge_percent": _SURGE,
}
_ACTOR_IGNORED = {
    "label_selector": _ONE_MACHINE,
    "fallback_strategy": _ONE_MACHINE,
    "object_store_memory": "has no effect: the store is shared by all",
}
#: field -> why not
_DEPLOY_REFUSED = {"target_capacity": "is not supported; give each deployment its num_replicas"}
_APPLICATION_REFUSED = {
    "autoscaling_policy": "is not supported for applications; give each deployment its autoscaling_config.policy"
}
_DEPLOYMENT_REFUSED = {
    "gang_scheduling_config": "is not supported: replicas start one by one",
    "deployment_actors": "is not supported; bind another deployment and call it by its handle",
}
_ENVIRONMENT_REFUSED = dict.fromkeys(
    ("pip", "uv", "conda", "py_executable", "image_uri", "container", "nsight", "java_jars", "mpi"),
    "is not supported; install what replicas need in the environment that Serve runs in",
)


def sort_out(data: Any) -> tuple[Any, list[Problem], list[Problem]]:
    """Return what is left of a config without Ray's further fields, warnings, and errors.

    Args:
        data: the config as it was read; it is not changed.
    """
    warnings: list[Problem] = []
    errors: list[Problem] = []

    def without(part: Any, at: Location, ignored: dict[str, str], refused: dict[str, str]) -> Any:
        if not isinstance(part, dict):
            return part
        kept = {}
        for name, value in part.items():
            if name in ignored:
                warnings.append(Problem((*at, name), ignored[name], on_key=True))
            elif name in refused and value is not None:
                errors.append(Problem((*at, name), refused[name], on_key=True))
            elif name not in refused:
                kept[name] = value
        return kept

    def environment(part: dict[str, Any], at: Location) -> None:
        if "runtime_env" in part:
            part["runtime_env"] = without(part["runtime_env"], (*at, "runtime_env"), {}, _ENVIRONMENT_REFUSED)

    data = without(data, (), _DEPLOY_IGNORED, _DEPLOY_REFUSED)
    for apps, number, app_at in _entries(data, (), "applications"):
        app = apps[number] = without(apps[number], app_at, _APPLICATION_IGNORED, _APPLICATION_REFUSED)
        environment(app, app_at)
        for deployments, index, at in _entries(app, app_at, "deployments"):
            deployment = deployments[index] = without(deployments[index], at, _DEPLOYMENT_IGNORED, _DEPLOYMENT_REFUSED)
            if "ray_actor_options" in deployment:
                inner = (*at, "ray_actor_options")
                options = without(deployment["ray_actor_options"], inner, _ACTOR_IGNORED, {})
                deployment["ray_actor_options"] = options
                if isinstance(options, dict):
                    environment(options, inner)
    return data, warnings, errors


def _entries(part: Any, at: Location, name: str) -> Iterator[tuple[list[Any], int, Location]]:
    """Yield the dictionaries of a list in a part, each as the list (a copy), its place in it and its location."""
    entries = part.get(name) if isinstance(part, dict) else None
    if isinstance(entries, list):
        entries = part[name] = list(entries)
        for number, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield entries, number, (*at, name, number)
