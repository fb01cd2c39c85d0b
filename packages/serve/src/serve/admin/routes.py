"""The REST API: Ray Serve's addresses for config files and scaling, and ours for revisions and rollback."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

import core
from core.util import kv
from serve.admin.desk import Desk
from serve.admin.details import details, shares
from serve.admin.messages import (
    DeployAnswer,
    ErrorAnswer,
    Revision,
    RevisionAnswer,
    RevisionState,
    RollbackOrder,
    ScaleOrder,
    TrafficOrder,
    VersionAnswer,
)
from serve.admin.server import HOLDER_KEY, Administration
from serve.schema.deploy import ServeDeploySchema
from serve.schema.details import ServeInstanceDetails, TrafficShare
from serve.schema.text import LONGEST_FILE, read
from serve.specs import ApplicationSpec
from serve.state.application import ApplicationStatus
from serve.version import __version__

#: version of the API, as Ray counts
API_VERSION = "4"

_CONFIG_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ServeDeploySchema"}}},
    }
}


def create_router(office: Administration, desk: Desk) -> APIRouter:
    """Return the addresses.

    Args:
        office: carries out config files.
        desk: the controller.
    """
    router = APIRouter(responses={status: {"model": ErrorAnswer} for status in (400, 403)})
    unknown: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer, "description": "There is no such thing."}}

    @router.get("/api/ray/version", summary="Who answers here")
    async def get_version() -> VersionAnswer:
        holder = kv.get(HOLDER_KEY)
        return VersionAnswer(
            version=API_VERSION,
            ray_version=__version__,
            ray_commit="",
            session_name=core.get_runtime_context().get_session_name(),
            pid=os.getpid() if holder is None else int(holder.value),
            controller_pid=os.getpid(),
        )

    @router.get("/api/serve/applications/", summary="How everything is")
    async def get_applications() -> ServeInstanceDetails:
        return await details(desk)

    @router.put(
        "/api/serve/applications/",
        summary="Make the applications of config files exactly these",
        openapi_extra=_CONFIG_BODY,
        responses={413: {"model": ErrorAnswer}},
    )
    async def put_applications(
        request: Request,
        dry_run: Annotated[bool, Query(description="Only say what it would change.")] = False,
        canary: Annotated[
            float | None, Query(ge=0, le=1, description="Share of the requests that new revisions get.")
        ] = None,
    ) -> DeployAnswer:
        config, warnings = _config(await _body(request), request.headers.get("content-type", ""))
        outcome = await office.deploy(config, dry_run=dry_run, canary=canary)
        warnings += outcome.warnings
        return DeployAnswer(changes=outcome.changes, revisions=outcome.revisions, warnings=warnings)

    @router.delete("/api/serve/applications/", summary="Delete all applications, and end Serve")
    async def delete_applications() -> dict[str, list[str]]:
        names = list((await desk.status()).applications)
        await asyncio.gather(*(desk.delete(name) for name in names))
        office.end_serve()
        return {"deleted": names}

    @router.delete("/api/v1/applications/{application}", summary="Delete an application", responses=unknown)
    async def delete_application(application: str) -> dict[str, list[str]]:
        await _existing(desk, application)
        await desk.delete(application)
        return {"deleted": [application]}

    @router.post(
        "/api/v1/applications/{application}/deployments/{deployment}/scale",
        summary="Change how many replicas a deployment has, until it is deployed anew",
        responses=unknown,
    )
    async def scale(application: str, deployment: str, order: ScaleOrder) -> dict[str, int]:
        overview = (await desk.status()).applications.get(application)
        if overview is None or deployment not in overview.deployments:
            raise HTTPException(404, f"there is no deployment {deployment!r} in an application {application!r}")
        await desk.scale(application, deployment, order.target_num_replicas)
        return {"target_num_replicas": order.target_num_replicas}

    @router.get("/api/v1/applications/{application}/revisions", summary="What was deployed", responses=unknown)
    async def get_revisions(application: str) -> list[Revision]:
        current = await _existing(desk, application)
        return [_revision(spec, current) for spec in await desk.revisions(application)]

    @router.get(
        "/api/v1/applications/{application}/revisions/{revision}",
        summary="Whether a revision runs; waits until that is decided",
        responses=unknown,
    )
    async def get_revision(
        application: str,
        revision: int,
        timeout_s: Annotated[float, Query(ge=0, le=60, description="Wait no longer.")] = 0.0,
    ) -> RevisionState:
        await _existing(desk, application)
        return await _state(desk, application, revision, timeout_s)

    @router.post(
        "/api/v1/applications/{application}/rollback", summary="Deploy an earlier revision again", responses=unknown
    )
    async def roll_back(application: str, order: RollbackOrder | None = None) -> RevisionAnswer:
        await _existing(desk, application)
        revision = await desk.rollback(application, order.revision if order is not None else None)
        return RevisionAnswer(name=application, revision=revision)

    @router.put(
        "/api/v1/applications/{application}/traffic",
        summary="Share an application's requests between the revision that runs and another one",
        responses=unknown,
    )
    async def set_traffic(application: str, order: TrafficOrder) -> list[TrafficShare]:
        await _existing(desk, application)
        await desk.set_traffic(application, order.weights, header=order.header, shadow=order.shadow)
        return shares((await desk.status()).applications[application])

    @router.post(
        "/api/v1/applications/{application}/promote",
        summary="Give all requests to the second of two revisions",
        responses=unknown,
    )
    async def promote(application: str) -> RevisionAnswer:
        await _existing(desk, application)
        return RevisionAnswer(name=application, revision=await desk.promote(application))

    @router.get("/-/healthz", summary="Whether the controller answers", response_class=Response)
    async def healthz() -> Response:
        return Response("success", media_type="text/plain")

    return router


async def _state(desk: Desk, name: str, revision: int, timeout_s: float) -> RevisionState:
    try:
        await asyncio.wait_for(desk.wait_for(name, revision), timeout_s)
    except TimeoutError:
        return RevisionState(state="DEPLOYING")
    except RuntimeError as error:
        return RevisionState(state="DEPLOY_FAILED", message=str(error))
    overview = (await desk.status()).applications.get(name)
    if overview is None or overview.status is ApplicationStatus.DELETING:
        return RevisionState(state="GONE", message=f"application {name!r} was deleted")
    if overview.revision != revision and all(each.revision != revision for each in overview.traffic):
        message = f"application {name!r} was deployed once more: revision {overview.revision}"
        return RevisionState(state="GONE", message=message)
    return RevisionState(state="RUNNING")


async def _existing(desk: Desk, name: str) -> int:
    """Return the revision of an application that is to run.

    Raises:
        HTTPException: there is no such application.
    """
    applications = (await desk.status()).applications
    if name not in applications:
        known = ", ".join(sorted(applications)) or "none"
        raise HTTPException(404, f"there is no application {name!r}; running: {known}")
    return applications[name].revision


def _revision(spec: ApplicationSpec, current: int) -> Revision:
    return Revision(
        revision=spec.revision,
        current=spec.revision == current,
        deployed_at=spec.deployed_at,
        import_path=spec.import_path,
        route_prefix=spec.route_prefix,
        deployments=[each.id.name for each in spec.deployments],
        deployed_app_config=spec.declared,
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FILE:
            raise HTTPException(413, f"the body has more than {LONGEST_FILE >> 20} MiB; that is no config")
    return bytes(body)


def _config(body: bytes, content_type: str) -> tuple[ServeDeploySchema, list[str]]:
    """Return a config that was sent, as JSON or YAML, and what of it has no effect.

    Raises:
        ConfigError: something is wrong with it.
        HTTPException: it is neither.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in {"application/json", "application/yaml", "application/x-yaml", "text/yaml"}:
        raise HTTPException(400, f"expected a config as application/json or application/yaml, not {kind or 'nothing'}")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the config is no text in UTF-8: {error}") from None
    found = read(text)
    return found.checkup.config, list(found.warnings)
