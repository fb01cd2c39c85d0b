"""The options of deployments and of Serve itself, checked where they are given. Ray Serve's names.

One set of models serves the decorator, ``.options()`` and the config file (`serve.schema`), so an option means the same
everywhere, and a wrong one is refused with the same words.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

#: Ray's default of 5 leaves nine tenths of an asynchronous replica's throughput unused
DEFAULT_MAX_ONGOING_REQUESTS = 100

Seconds = Annotated[float, Field(gt=0)]
#: ``100/minute``, ``5/s``, ``1000/24h``
RateText = Annotated[
    str,
    Field(pattern=r"(?i)^\s*[1-9]\d*\s*/\s*(\d+(\.\d+)?)?\s*(s|m|h|d|seconds?|minutes?|hours?|days?)\s*$"),
]

#: how the text of a policy begins that is a pickled function
PICKLED = "pickle:"
_IMPORT_PATH = re.compile(r"[\w.]+[:.]\w+")


class Checked(BaseModel):
    """Base of all options: unknown names are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", validate_default=False, arbitrary_types_allowed=True
    )

    @classmethod
    def of(cls, where: str, options: dict[str, Any]) -> Self:
        """Check options given at a call.

        Args:
            where: the call, for the message: ``@serve.deployment``.
            options: names to values.

        Raises:
            ValueError: one line per wrong option: which, what is wrong with it, and what was given.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            lines = [_line(problem, cls) for problem in error.errors(include_url=False)]
            raise ValueError(f"{where}: " + "; ".join(lines)) from None


def _line(problem: Any, model: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return f"unknown option {path!r}; expected one of {known}"
    given = f", not {problem['input']!r}" if path else ""
    text = problem["msg"].removeprefix("Value error, ")
    return f"{path or 'the options'}: {text[0].lower()}{text[1:]}{given}"


class AutoscalingPolicy(Checked):
    """A function of the user's that says how many replicas there should be (``policy=`` of `AutoscalingConfig`).

    It takes an `AutoscalingContext` and returns a number, or a number and the dictionary it finds as ``policy_state``
    next time. Bounds, delays and factors of the `AutoscalingConfig` are applied to what it returns. It runs in the
    controller, so it should be quick.
    """

    #: ``module:function``, or the function itself (which is pickled by value, so that it need not be importable)
    policy_function: Any
    #: keyword arguments of the constructor, if ``policy_function`` is a class
    policy_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("policy_function")
    @classmethod
    def _portable(cls, function: Any) -> str:
        if callable(function):
            import cloudpickle  # noqa: PLC0415 - rarely needed

            return PICKLED + base64.b64encode(cloudpickle.dumps(function)).decode()
        if not isinstance(function, str) or not (function.startswith(PICKLED) or _IMPORT_PATH.fullmatch(function)):
            raise ValueError("expected a function, or 'module:function'")
        return function


@dataclass(frozen=True)
class AutoscalingContext:
    """What an autoscaling policy of the user's is given. Ray's names."""

    deployment_name: str
    app_name: str
    #: replicas that run
    current_num_replicas: int
    #: replicas that should
    target_num_replicas: int
    running_replicas: list[str]
    #: requests that replicas work on and that wait in line, averaged over the ``look_back_period_s``
    total_num_requests: float
    #: requests that wait in line now
    total_queued_requests: float
    config: AutoscalingConfig
    #: what the policy returned with its last number
    policy_state: dict[str, Any] = field(default_factory=dict)
    #: seconds on a clock of its own
    current_time: float = 0.0
    #: numbers of the user's own, by name and replica: what ``record_autoscaling_stats`` of the class returns, and its
    #: gauges and counters (`serve.metrics`), each as of about a second ago
    aggregated_metrics: dict[str, dict[str, float]] = field(default_factory=dict)


class AutoscalingConfig(Checked):
    """How the number of replicas follows the load (``autoscaling_config=``).

    The wanted number is what brings each replica to `target_ongoing_requests`; it is held for a delay before it is
    acted upon, so that a short spike starts nothing.
    """

    #: never fewer; 0 scales to zero when nothing comes
    min_replicas: Annotated[int, Field(ge=0)] = 1
    #: never more
    max_replicas: Annotated[int, Field(ge=1)] = 1
    #: at the start; None for `min_replicas`
    initial_replicas: Annotated[int, Field(ge=0)] | None = None
    #: requests that one replica should have at a time, those in line included
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 2.0
    #: seconds between two decisions. Ray: 10
    metrics_interval_s: Seconds = 1.0
    #: seconds over which requests are averaged. Ray: 30
    look_back_period_s: Seconds = 10.0
    #: how the requests of that time become one number
    aggregation_function: Literal["mean", "max", "min"] = "mean"
    #: seconds that more replicas must have been wanted for. Ray: 30
    upscale_delay_s: Annotated[float, Field(ge=0)] = 3.0
    #: seconds that fewer replicas must have been wanted for. Ray: 600
    downscale_delay_s: Annotated[float, Field(ge=0)] = 60.0
    #: seconds without a request before the last replica goes; None for `downscale_delay_s`
    downscale_to_zero_delay_s: Annotated[float, Field(ge=0)] | None = None
    #: of a wanted change upwards, how much is made at once; 0.5 takes half the way
    upscaling_factor: Annotated[float, Field(gt=0)] = 1.0
    #: of a wanted change downwards, how much is made at once
    downscaling_factor: Annotated[float, Field(gt=0)] = 1.0
    #: a function (or ``module:function``) that says how many replicas are wanted; None goes by the requests alone
    policy: AutoscalingPolicy | None = None

    @field_validator("upscaling_factor", "downscaling_factor", mode="before")
    @classmethod
    def _whole_way(cls, factor: Any) -> Any:
        return 1.0 if factor is None else factor  # Ray's default

    @field_validator("policy", mode="before")
    @classmethod
    def _whole_policy(cls, policy: Any) -> Any:
        return {"policy_function": policy} if isinstance(policy, str) or callable(policy) else policy

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        initial = self.initial_replicas
        if initial is not None and not self.min_replicas <= initial <= self.max_replicas:
            raise ValueError(f"initial_replicas ({initial}) is not between min_replicas and max_replicas")
        return self


class LoggingConfig(Checked):
    """How replicas and proxies log (``logging_config=``)."""

    #: ``TEXT`` for people, ``JSON`` for collectors: one object a line
    encoding: Literal["TEXT", "JSON"] = "TEXT"
    log_level: int | str = "INFO"
    #: directory of the log files; None for ``logs`` in the session's directory, which ends with the session
    logs_dir: str | None = None
    #: one line for each request
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = Field(default_factory=list)

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: int | str) -> int | str:
        levels = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
        if isinstance(level, str) and level.upper() not in levels:
            raise ValueError(f"expected one of {', '.join(levels)} or a number")
        return level.upper() if isinstance(level, str) else level


class BackpressureConfig(Checked):
    """What a client is told when the queue is full (``backpressure_config=``)."""

    status_code: Literal[429, 503] = 503
    #: seconds named in ``Retry-After``
    retry_after_s: Seconds = 1.0


class ReplicaOptions(Checked):
    """What each replica needs (``ray_actor_options=``). Replicas reserve no CPU unless they ask; Ray's reserve one."""

    num_cpus: Annotated[float, Field(ge=0)] = 0.0
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    #: bytes
    memory: Annotated[float, Field(ge=0)] | None = None
    resources: dict[str, float] = Field(default_factory=dict)
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    accelerator_type: str | None = None


class APIKey(Checked):
    """A key of a client, by its hash (``serve.gateway.new_key`` makes both), or by the variable that holds it."""

    #: whom it belongs to: in the request's context, in limits and in logs
    name: Annotated[str, Field(min_length=1)]
    #: ``sha256:`` and 64 hexadecimal digits
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    #: environment variable with the key itself, read where the application runs
    env: str | None = None
    #: requests of this key; None for what holds for all
    rate_limit: RateText | None = None
    #: requests that may come at once; None for the rate's number
    burst: Annotated[int, Field(ge=1)] | None = None
    #: the highest class that its requests may have; None for the default one
    priority: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.hash is None) == (self.env is None):
            raise ValueError(f"API key {self.name!r} needs either hash or env")
        return self


class APIKeysConfig(Checked):
    """Who may use an application."""

    keys: Annotated[list[APIKey], Field(min_length=1)]
    #: header field that has the key; ``Authorization: Bearer`` is understood as well
    header: str = "x-api-key"
    #: paths that need none, with ``*`` for anything
    exempt: list[str] = Field(default_factory=list)


class RateLimitConfig(Checked):
    """How many requests may come."""

    rate: RateText
    #: requests that may come at once; None for the rate's number
    burst: Annotated[int, Field(ge=1)] | None = None
    #: whom it counts for: each key (address, for requests without one), address, path; several: each combination;
    #: none: all requests together
    per: list[Literal["key", "ip", "route"]] = Field(default=["key"])
    #: paths that it is about, with ``*`` for anything
    routes: list[str] = Field(default_factory=lambda: ["*"])
    #: both let the same requests through
    algorithm: Literal["gcra", "token_bucket"] = "gcra"


class CORSConfig(Checked):
    """Which web pages may use an application, as Starlette's ``CORSMiddleware``."""

    allow_origins: list[str] = Field(default_factory=list)
    allow_origin_regex: str | None = None
    allow_methods: list[str] = Field(default_factory=lambda: ["GET"])
    allow_headers: list[str] = Field(default_factory=list)
    allow_credentials: bool = False
    expose_headers: list[str] = Field(default_factory=list)
    #: seconds that browsers remember
    max_age: Annotated[int, Field(ge=0)] = 600

    @model_validator(mode="after")
    def _no_cookies_for_everybody(self) -> Self:
        if self.allow_credentials and "*" in self.allow_origins:
            raise ValueError("allow_credentials with allow_origins '*' would let any page act as your user; name them")
        return self


class PrioritiesConfig(Checked):
    """Whose requests go first where requests wait in line."""

    #: names of classes, the most urgent first
    classes: Annotated[list[str], Field(min_length=2)] = Field(default_factory=lambda: ["high", "normal", "low"])
    #: of requests that say nothing; None for the one in the middle
    default: str | None = None
    #: header field in which a client names a class: its key's at most, or else the default at most
    header: str = "x-priority"
    #: a request overtakes those of the next lower class that came less than so many seconds before it
    ageing_s: Seconds = 5.0

    @model_validator(mode="after")
    def _known_default(self) -> Self:
        if self.default is not None and self.default not in self.classes:
            raise ValueError(f"default {self.default!r} is none of the classes {', '.join(self.classes)}")
        return self


class TimeLimitConfig(Checked):
    """How long requests to some paths may take."""

    seconds: Seconds
    routes: list[str] = Field(default_factory=lambda: ["*"])


class GatewayConfig(Checked):
    """What stands before an application (``gateway=`` of its ingress deployment)."""

    api_keys: APIKeysConfig | None = None
    rate_limits: list[RateLimitConfig] = Field(default_factory=list)
    cors: CORSConfig | None = None
    priorities: PrioritiesConfig | None = None
    #: the first that fits a path counts
    timeouts: list[TimeLimitConfig] = Field(default_factory=list)
    #: addresses or networks of proxies in front of ours, whose ``X-Forwarded-For`` is believed
    trusted_proxies: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _known_classes(self) -> Self:
        classes = self.priorities.classes if self.priorities is not None else []
        for key in self.api_keys.keys if self.api_keys is not None else []:
            if key.priority is not None and key.priority not in classes:
                known = ", ".join(classes) or "none are configured"
                raise ValueError(f"API key {key.name!r} has priority {key.priority!r}; the classes are: {known}")
        return self


class DeploymentConfig(Checked):
    """The options of ``@serve.deployment``, of ``.options()`` and of a deployment in a config file."""

    num_replicas: Annotated[int, Field(ge=0)] | Literal["auto"] | None = None
    #: requests a replica works on at a time
    max_ongoing_requests: Annotated[int, Field(ge=1)] = DEFAULT_MAX_ONGOING_REQUESTS
    #: requests that may wait in each proxy and handle; -1 for any number
    max_queued_requests: Annotated[int, Field(ge=-1)] = -1
    #: passed to ``reconfigure`` at the start and whenever it changes, without a restart
    user_config: Any = None
    autoscaling_config: AutoscalingConfig | None = None
    #: seconds between two checks of a replica's health
    health_check_period_s: Seconds = 10.0
    #: seconds that one check may take; three failures in a row replace the replica
    health_check_timeout_s: Seconds = 30.0
    #: seconds that a stopping replica waits for connected clients to send one more request, which it answers, before it
    #: looks whether it has any left; it ends at once when no client is connected
    graceful_shutdown_wait_loop_s: Annotated[float, Field(ge=0)] = 2.0
    #: seconds after which a stopping replica is ended anyway
    graceful_shutdown_timeout_s: Annotated[float, Field(ge=0)] = 20.0
    #: attempts to start a replica before the deployment counts as failed
    max_constructor_retry_count: Annotated[int, Field(ge=1)] = 3
    ray_actor_options: ReplicaOptions = Field(default_factory=ReplicaOptions)
    logging_config: LoggingConfig = Field(default_factory=LoggingConfig)
    backpressure_config: BackpressureConfig = Field(default_factory=BackpressureConfig)
    #: seconds a request may take; None for the proxy's own limit
    request_timeout_s: Seconds | None = None
    #: what stands before the application whose ingress this is
    gateway: GatewayConfig | None = None

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        if self.num_replicas == "auto":
            given = self.autoscaling_config
            explicit = given.model_fields_set if given is not None else set()
            base = {"max_replicas": 100, **(given.model_dump(include=explicit) if given is not None else {})}
            self.autoscaling_config = AutoscalingConfig.model_validate(base)
        elif self.num_replicas is not None and self.autoscaling_config is not None:
            raise ValueError(
                'num_replicas is a number, so autoscaling_config has no effect; leave one out or say "auto"'
            )
        return self

    @property
    def initial_replicas(self) -> int:
        """How many replicas a new deployment starts with."""
        scaling = self.autoscaling_config
        if scaling is not None:
            return scaling.initial_replicas if scaling.initial_replicas is not None else scaling.min_replicas
        return 1 if self.num_replicas is None else int(self.num_replicas)

    def restart_part(self) -> dict[str, Any]:
        """Return the options whose change needs new replicas; all others are applied to those that run."""
        return self.model_dump(mode="json", include={"ray_actor_options"})


class HTTPOptions(Checked):
    """Where and how HTTP is served (``http_options=``)."""

    host: str = "127.0.0.1"
    #: 0 for a free port
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    #: prefix that a proxy in front of ours has taken off
    root_path: str = ""
    request_timeout_s: Seconds | None = None
    keep_alive_timeout_s: Seconds = 90.0
    #: proxy processes that accept clients; 0 lets the replicas of the only application with a route accept themselves;
    #: None does so as long as that is one replica, and starts a proxy when it becomes more
    num_proxies: Annotated[int, Field(ge=0)] | None = None
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None
    #: bytes of a request's body; None for any number
    max_body_bytes: Annotated[int, Field(ge=0)] | None = None
    #: how proxies log (``serve.start(logging_config=...)``)
    logging_config: LoggingConfig = Field(default_factory=LoggingConfig)

    @model_validator(mode="after")
    def _whole_pair(self) -> Self:
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("TLS needs both ssl_keyfile and ssl_certfile")
        return self


class GRPCOptions(Checked):
    """Where and how gRPC is served (``grpc_options=``). Given at all, they start a gRPC proxy."""

    host: str = "127.0.0.1"
    #: 0 for a free port
    port: Annotated[int, Field(ge=0, le=65535)] = 9000
    #: the generated ``add_...Servicer_to_server`` functions, or their import paths
    grpc_servicer_functions: list[str] = Field(default_factory=list)
    #: seconds a call may take; None for as long as its client waits
    request_timeout_s: Seconds | None = None
    #: bytes of a message that clients send; None for any number (gRPC has none above 2 GiB)
    max_message_bytes: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    #: tell tools such as grpcurl which services there are
    enable_reflection: bool = True
    #: TLS: files of the key and of its certificate
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    #: file of the certificates that clients are checked by; with it, clients need one
    ssl_ca_certs: str | None = None

    @field_validator("grpc_servicer_functions", mode="before")
    @classmethod
    def _import_paths(cls, functions: Any) -> Any:
        if not isinstance(functions, (list, tuple)):
            return functions
        return [f"{each.__module__}:{each.__qualname__}" if callable(each) else each for each in functions]

    @model_validator(mode="after")
    def _whole_pair(self) -> Self:
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("TLS needs both ssl_keyfile and ssl_certfile")
        if self.ssl_ca_certs is not None and self.ssl_certfile is None:
            raise ValueError("clients are checked by ssl_ca_certs over TLS alone, which needs ssl_certfile")
        return self


gRPCOptions = GRPCOptions  # noqa: N816 - Ray's name
