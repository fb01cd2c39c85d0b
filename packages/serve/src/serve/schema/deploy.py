"""What a config file says: applications, and options that take precedence over those in the code. Ray Serve's names.

The models check values one by one and against each other. Where a value stands in a file is `serve.schema.text`'s
matter, and which of Ray's fields have no effect here `serve.schema.foreign`'s.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from serve.config import Checked, DeploymentConfig, GatewayConfig, GRPCOptions, HTTPOptions, LoggingConfig

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[:.][A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PREFIX = re.compile(r"/|(/[^/?#\s{}]+)+/?")
#: names go into addresses of the REST API and into names of actors
_NAME = re.compile(r"[^/#\s?]+")


class RuntimeEnvSchema(Checked):
    """What the processes of an application or a deployment need beyond those of Serve (``runtime_env:``)."""

    env_vars: dict[str, str] = Field(default_factory=dict, description="Environment variables; quote numbers.")
    working_dir: str | None = Field(
        default=None,
        description="Directory that code is imported from and that replicas run in. A copy of it is kept with each "
        "revision, so that a rollback brings old code back. In a file: relative to the file.",
    )
    py_modules: list[str] = Field(
        default_factory=list, description="Further modules: the directories of packages, or files."
    )
    excludes: list[str] = Field(default_factory=list, description="Parts of working_dir to leave out: patterns.")
    config: dict[str, Any] = Field(default_factory=dict, description="Accepted; environments take no time to set up.")

    @field_validator("working_dir", "py_modules")
    @classmethod
    def _local(cls, value: Any) -> Any:
        for path in [value] if isinstance(value, str) else value or []:
            if "://" in path or path.endswith((".zip", ".whl", ".jar")):
                raise ValueError("should be a local directory; archives and URIs are not supported")
        return value


class DeploymentSchema(DeploymentConfig):
    """Options of one deployment that take precedence over those in the code."""

    name: str = Field(description="Name of a deployment of the application.")

    @model_validator(mode="after")
    def _environment(self) -> Self:
        _check_environment(self.ray_actor_options.runtime_env, ("ray_actor_options", "runtime_env"))
        return self

    def overrides(self) -> dict[str, Any]:
        """Return the options that were given, without the name."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude={"name"})
        if given.get("num_replicas") == "auto" and self.autoscaling_config is not None:
            explicit = self.autoscaling_config.model_dump(mode="json", exclude_unset=True)
            given["autoscaling_config"] = explicit
        return given


class ServeApplicationSchema(Checked):
    """One application of a config file."""

    name: str = Field(default="default", description="Name of the application.")
    route_prefix: str | None = Field(default="/", description="Where it is served; null for handles alone.")
    import_path: str = Field(
        description="Where the application is: module:attribute. The attribute is a bound deployment, or a function "
        "that takes `args` and returns one."
    )
    runtime_env: RuntimeEnvSchema = Field(
        default_factory=RuntimeEnvSchema, description="For all of its deployments; theirs takes precedence."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Passed to the function at import_path.")
    deployments: list[DeploymentSchema] = Field(
        default_factory=list, description="Options that take precedence over those in the code."
    )
    logging_config: LoggingConfig | None = Field(
        default=None, description="For deployments that have none of their own."
    )
    gateway: GatewayConfig | None = Field(
        default=None,
        description="Not Ray's. What stands before the application: API keys, rate limits, CORS, priorities, timeouts.",
    )
    external_scaler_enabled: bool = Field(
        default=False,
        description="Whether numbers of replicas are set through the REST API. Accepted: here they always can be.",
    )
    app_dir: str | None = Field(
        default=None,
        description="Not Ray's. Directory to import from and to run in where runtime_env has no working_dir; only the "
        "code that was imported is kept with a revision. `serve deploy` fills in the directory it is started in.",
    )

    @field_validator("import_path")
    @classmethod
    def _known_form(cls, path: str) -> str:
        if not _IMPORT_PATH.fullmatch(path):
            raise ValueError("should be of the form module:attribute, such as app:app")
        return path

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("should be a name without blanks and the characters / # ?")
        return name

    @field_validator("route_prefix")
    @classmethod
    def _plain_prefix(cls, prefix: str | None) -> str | None:
        if prefix is not None and not _PREFIX.fullmatch(prefix):
            raise ValueError("should begin with '/' and be a plain path, such as /models, without patterns or a query")
        return prefix if prefix in (None, "/") else prefix.rstrip("/")

    def as_written(self) -> dict[str, Any]:
        """Return what was given, as a file has it: names first, and nothing that was left out."""
        written = self.model_dump(mode="json", exclude_unset=True)
        if self.deployments:
            written["deployments"] = [{"name": each.name, **each.overrides()} for each in self.deployments]
        return written

    @model_validator(mode="after")
    def _unique_deployments(self) -> Self:
        _refuse_twice([each.name for each in self.deployments], "deployments", "name", "there are options for it above")
        return self


class ServeDeploySchema(Checked):
    """A config file: all applications that were deployed from config files are to be exactly these."""

    proxy_location: Annotated[
        Literal["Disabled", "HeadOnly", "EveryNode"],
        Field(description="Where proxies run. On one machine the last two are the same."),
    ] = "EveryNode"
    http_options: HTTPOptions = Field(
        default_factory=HTTPOptions, description="How HTTP is served. Takes effect when Serve starts."
    )
    grpc_options: GRPCOptions = Field(
        default_factory=GRPCOptions, description="How gRPC is served. Takes effect when Serve starts."
    )
    logging_config: LoggingConfig | None = Field(
        default=None, description="For applications that have none of their own."
    )
    applications: list[ServeApplicationSchema] = Field(description="All of them; those not named are deleted.")

    def as_written(self) -> dict[str, Any]:
        """Return what was given, as a file has it: nothing that was left out."""
        return {
            **self.model_dump(mode="json", exclude_unset=True),
            "applications": [app.as_written() for app in self.applications],
        }

    @model_validator(mode="after")
    def _unique_applications(self) -> Self:
        _refuse_twice([app.name for app in self.applications], "applications", "name", "names must differ")
        prefixes = [app.route_prefix for app in self.applications]
        _refuse_twice(prefixes, "applications", "route_prefix", "each needs its own, or null")
        return self


def _refuse_twice(values: list[str | None], of: str, field: str, hint: str) -> None:
    for number, value in enumerate(values):
        if value is not None and value in values[:number]:
            first = values.index(value)
            raise PydanticCustomError(
                "twice",
                "{value} is the {field} of {of}[{first}] already; {hint}",
                {
                    "at": (of, number, field),
                    "value": repr(value),
                    "field": field,
                    "of": of,
                    "first": first,
                    "hint": hint,
                },
            )


def _check_environment(environment: dict[str, Any], at: tuple[str, ...]) -> None:
    """Check a ``runtime_env`` that `serve.config` takes as it comes, as the decorator's is checked by core."""
    try:
        RuntimeEnvSchema.model_validate(environment)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise PydanticCustomError(
            "extra_forbidden" if problem["type"] == "extra_forbidden" else "environment",
            "{message}",
            {
                "at": (*at, *problem["loc"]),
                "message": problem["msg"].removeprefix("Value error, "),
                "given": problem["input"],
            },
        ) from None
