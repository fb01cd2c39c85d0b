"""Errors that Serve raises. Ray Serve's names.

::

    RayServeException
    ├── BackPressureError              the queue of a deployment is full: try again later (503)
    ├── DeploymentUnavailableError     no such deployment, or it cannot start (503)
    ├── ModelLoadError                 a model cannot be loaded by order: its loader raised
    ├── ReplicaUnavailableError        the replica that had the request died (502)
    ├── RequestCancelledError          cancelled by the caller, or the client went away (499)
    └── RequestTimeoutError            + TimeoutError: nobody answered in time (504)
"""

# ruff: noqa: N818 - the names are Ray's
from __future__ import annotations


class RayServeException(Exception):
    """Base of all errors of Serve."""


class ModelLoadError(RayServeException):
    """A model cannot be loaded by order (``serve.load_model``); the text has the loader's traceback."""


class BackPressureError(RayServeException):
    """A deployment's queue is full.

    Args:
        deployment: which one.
        queued: requests that wait already.
        retry_after_s: seconds after which trying again may help.
        status_code: what clients are answered by HTTP.
    """

    def __init__(self, deployment: str, queued: int, retry_after_s: float = 1.0, status_code: int = 503) -> None:
        super().__init__(deployment, queued, retry_after_s, status_code)
        self.deployment = deployment
        self.queued = queued
        self.retry_after_s = retry_after_s
        self.status_code = status_code

    @property
    def message(self) -> str:
        """The text of the error (Ray's attribute)."""
        return (
            f"deployment {self.deployment} refuses the request: {self.queued} requests wait already, which is its "
            "max_queued_requests; try again later, add replicas, or allow a longer queue"
        )

    def __str__(self) -> str:
        return self.message


class DeploymentUnavailableError(RayServeException):
    """There is no such deployment, or no replica of it can be had."""


class ReplicaUnavailableError(RayServeException):
    """The replica that had the request died, and the request could not be sent to another."""


class RequestCancelledError(RayServeException):
    """The request was cancelled.

    Args:
        request_id: which one.
    """

    def __init__(self, request_id: str = "") -> None:
        super().__init__(request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return f"request {self.request_id} was cancelled" if self.request_id else "the request was cancelled"


class RequestTimeoutError(RayServeException, TimeoutError):
    """Nobody answered within the request's time limit."""
