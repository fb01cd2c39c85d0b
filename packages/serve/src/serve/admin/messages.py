"""What goes to and from the REST API besides config files and `serve.schema.details`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from serve.admin.plan import ApplicationChange


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    detail: str


class VersionAnswer(BaseModel):
    """Who answers here."""

    version: str
    ray_version: str
    ray_commit: str
    session_name: str
    #: process that ends when Serve does
    pid: int
    #: process of the controller, which is started again when it dies
    controller_pid: int


class DeployAnswer(BaseModel):
    """What a config file has changed, or would change."""

    changes: dict[str, ApplicationChange]
    #: revisions that are to run now, by name; empty after a dry run
    revisions: dict[str, int]
    #: what of the config has no effect
    warnings: list[str]


class ScaleOrder(BaseModel):
    """How many replicas there are to be."""

    target_num_replicas: Annotated[int, Field(ge=0, le=10_000)]


class RollbackOrder(BaseModel):
    """Which revision is to run again."""

    #: null for the one before
    revision: Annotated[int, Field(ge=1)] | None = None


class TrafficOrder(BaseModel):
    """Which requests go to which of two revisions."""

    #: shares by revision, of any sum; the running one alone ends the sharing
    weights: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    #: name and value of a header field that leads to the second one whatever the shares
    header: tuple[str, str] | None = None
    #: revision that gets copies of all requests, and whose answers are thrown away
    shadow: Annotated[int, Field(ge=1)] | None = None


class RevisionAnswer(BaseModel):
    """The revision that is to run now."""

    name: str
    revision: int


class RevisionState(BaseModel):
    """What became of a revision."""

    #: GONE: something else runs, or nothing
    state: Literal["DEPLOYING", "RUNNING", "DEPLOY_FAILED", "GONE"]
    #: why it failed, with the user's traceback
    message: str = ""


class Revision(BaseModel):
    """What was deployed once."""

    revision: int
    #: whether it is to run now
    current: bool
    #: seconds since the epoch; 0 if it is not known
    deployed_at: float
    import_path: str | None
    route_prefix: str | None
    deployments: list[str]
    #: what the config file said; null for those that no config file has deployed
    deployed_app_config: dict[str, Any] | None
