"""Carry out a config file: import what it names, see what changes, hand it to the controller. All of it, or none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from serve.admin.building import BuildError, build
from serve.admin.desk import Desk
from serve.admin.plan import ApplicationChange, compare, unchanged_as_they_run
from serve.schema.deploy import ServeApplicationSchema, ServeDeploySchema
from serve.specs import ApplicationSpec
from serve.state.application import ApplicationStatus

#: applications that do not run are deployed again although nothing has changed
_ON_THEIR_WAY = frozenset({ApplicationStatus.RUNNING, ApplicationStatus.DEPLOYING})


@dataclass(frozen=True)
class Outcome:
    """What a deploy has changed, or would change."""

    changes: dict[str, ApplicationChange]
    #: revisions of all applications of the config, by name; empty if nothing was to be done
    revisions: dict[str, int]
    warnings: list[str]


class Deployer:
    """See the module's docstring.

    Args:
        desk: the controller.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = asyncio.Lock()

    async def deploy(self, config: ServeDeploySchema, *, dry_run: bool = False, canary: float | None = None) -> Outcome:
        """Make the applications of config files exactly those of this one.

        Applications that were not deployed from a config stay, as do those in which nothing has changed.

        Args:
            config: what there is to be.
            dry_run: only find out what it would change.
            canary: what runs and has changed goes on, and its new revision gets this share of the requests, 0 to 1.
                Without it, second revisions that there are go.

        Raises:
            BuildError: an application cannot be imported, or its options do not fit it; nothing has changed.
            ValueError: a route belongs to an application that stays; nothing has changed.
            OSError: the port is taken; nothing has changed.
        """
        async with self._turn:
            wanted = await self._build([_with_defaults(app, config) for app in config.applications])
            running = await self._running()
            # what was not deployed from a config may be replaced by it, but is not deleted
            declared = {name: spec for name, spec in running.items() if spec.declared is not None}
            names = [spec.name for spec in wanted]
            changes = {spec.name: compare(running.get(spec.name), spec) for spec in wanted}
            changes |= {name: compare(spec, None) for name, spec in declared.items() if name not in names}
            revisions: dict[str, int] = {}
            if not dry_run:
                revisions = await self._hand_in(wanted, running, canary)
            return Outcome(changes, revisions, await self._warnings(config))

    async def _build(self, apps: list[ServeApplicationSchema]) -> list[ApplicationSpec]:
        built = await asyncio.gather(*(build(app) for app in apps), return_exceptions=True)
        errors = [each for each in built if isinstance(each, BaseException)]
        for error in errors:
            if not isinstance(error, BuildError):
                raise error
        if errors:
            raise BuildError("\n".join(map(str, errors)))
        return [each for each in built if isinstance(each, ApplicationSpec)]

    async def _running(self) -> dict[str, ApplicationSpec]:
        """Return what runs, by name."""
        status = await self._desk.status()
        running: dict[str, ApplicationSpec] = {}
        for name, overview in status.applications.items():
            if overview.status is ApplicationStatus.DELETING:
                continue
            for spec in await self._desk.revisions(name):
                if spec.revision == overview.revision:
                    running[name] = spec
        return running

    async def _hand_in(
        self, wanted: list[ApplicationSpec], running: dict[str, ApplicationSpec], canary: float | None
    ) -> dict[str, int]:
        applications = (await self._desk.status()).applications
        settled = {name: spec for name, spec in running.items() if applications[name].status in _ON_THEIR_WAY}
        # what has not changed is handed in as it runs, which leaves it alone
        specs = unchanged_as_they_run(wanted, settled)
        staged: dict[str, int] = {}
        if canary is not None:
            for spec in [each for each in specs if each.name in settled and each is not settled[each.name]]:
                staged[spec.name] = await self._desk.stage(spec, canary)
        revisions = await self._desk.deploy(
            [settled[spec.name] if spec.name in staged else spec for spec in specs], only_these=True
        )
        for spec in specs:
            if canary is None and spec is settled.get(spec.name) and applications[spec.name].traffic:
                await self._desk.rollback(spec.name)  # takes the second revision out
        return {**revisions, **staged}

    async def _warnings(self, config: ServeDeploySchema) -> list[str]:
        now = (await self._desk.http_options()).model_dump()
        given = config.http_options.model_dump(include=config.http_options.model_fields_set)
        wrong = [name for name, value in given.items() if now[name] != value and not (name == "port" and value == 0)]
        return [
            f"http_options.{name} stays {now[name]!r}; that it is {given[name]!r} in the config takes effect only when "
            "Serve starts (serve shutdown, then serve deploy)"
            for name in wrong
        ]


def _with_defaults(app: ServeApplicationSchema, config: ServeDeploySchema) -> ServeApplicationSchema:
    if config.logging_config is None or app.logging_config is not None:
        return app
    return app.model_copy(update={"logging_config": config.logging_config})
