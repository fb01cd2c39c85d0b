"""Models loaded and unloaded at run time: ``serve.load_model``, ``serve.unload_model``, ``serve.list_models``."""

from __future__ import annotations

import asyncio

from serve.api import client
from serve.errors import RayServeException
from serve.model_control import orders
from serve.model_control.orders import ModelStatus
from serve.specs import DeploymentID


def load_model(
    model_id: str, *, app_name: str = "default", deployment: str | None = None, timeout_s: float | None = None
) -> None:
    """Load a model of a ``@serve.multiplexed`` deployment in all its replicas, and wait until it is there.

    Replicas to come load it too. Requests for other models go on meanwhile. A model that is loaded stays as it is; one
    that could not be loaded before is tried again.

    Args:
        model_id: what the loader is given.
        app_name: of the application.
        deployment: name of the deployment; None for the one that requests go to.
        timeout_s: seconds to wait; None for as long as it takes.

    Raises:
        serve.errors.ModelLoadError: the loader raised; the text has its traceback.
        RayServeException: there is no such deployment, or its class has not one loader.
        TimeoutError: the time is over; the loading goes on.
        RuntimeError: called in the thread of an event loop; use ``await asyncio.to_thread(serve.load_model, ...)``.
    """
    _check(model_id)
    orders.load(_find(app_name, deployment), model_id, timeout_s)


def unload_model(
    model_id: str, *, app_name: str = "default", deployment: str | None = None, timeout_s: float | None = None
) -> None:
    """Unload a model in all replicas: requests that use it end first. A later request may load it again.

    Args:
        model_id: which.
        app_name: of the application.
        deployment: name of the deployment; None for the one that requests go to.
        timeout_s: seconds to wait; None for as long as it takes.

    Raises:
        RayServeException: there is no such deployment or model, or its class has not one loader.
        TimeoutError: the time is over; the unloading goes on.
        RuntimeError: called in the thread of an event loop.
    """
    _check(model_id)
    orders.unload(_find(app_name, deployment), model_id, timeout_s)


def list_models(*, app_name: str = "default", deployment: str | None = None) -> list[ModelStatus]:
    """Return where the models of a deployment stand: those that are loaded, being loaded, or should be.

    Args:
        app_name: of the application.
        deployment: name of the deployment; None for the one that requests go to.

    Raises:
        RayServeException: there is no such deployment.
    """
    return orders.statuses(_find(app_name, deployment))


def _check(model_id: object) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "this would block the event loop of this thread; use await asyncio.to_thread(serve.load_model, ...)"
        )
    if not isinstance(model_id, str) or not model_id:
        raise ValueError(f"a model's id is a str that is not empty, not {model_id!r}")


def _find(app_name: str, deployment: str | None) -> DeploymentID:
    if deployment is not None:
        return DeploymentID(deployment, app_name)
    ingress: DeploymentID | None = client.running_controller().call("ingress_of", app_name)
    if ingress is None:
        raise RayServeException(f"there is no application {app_name!r}")
    return ingress
