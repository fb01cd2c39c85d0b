"""How type checkers see the options of ``@serve.deployment`` and ``.options()``: `serve.config.DeploymentConfig`'s."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from serve.config import AutoscalingConfig, BackpressureConfig, GatewayConfig, LoggingConfig, ReplicaOptions


class DeploymentOptions(TypedDict, total=False):
    """Options of a deployment. What they mean is said at `serve.config.DeploymentConfig`."""

    num_replicas: int | Literal["auto"] | None
    max_ongoing_requests: int
    max_queued_requests: int
    user_config: Any
    autoscaling_config: AutoscalingConfig | dict[str, Any] | None
    health_check_period_s: float
    health_check_timeout_s: float
    graceful_shutdown_wait_loop_s: float
    graceful_shutdown_timeout_s: float
    max_constructor_retry_count: int
    ray_actor_options: ReplicaOptions | dict[str, Any]
    logging_config: LoggingConfig | dict[str, Any]
    backpressure_config: BackpressureConfig | dict[str, Any]
    request_timeout_s: float | None
    gateway: GatewayConfig | dict[str, Any] | None


class NamedOptions(DeploymentOptions, total=False):
    """The same, and the name within the application."""

    name: str | None
