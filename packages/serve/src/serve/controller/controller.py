"""The controller: takes orders (a deploy, a rollback, a question), and brings about what is wanted (`ControlLoop`).

It runs on an event loop of its own: in a thread of the driver (`serve.controller.thread`), or in an actor that is
started again when it dies (`serve.controller.detached`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from core.util import kv
from serve.admin.server import Administration
from serve.config import GRPCOptions, HTTPOptions
from serve.controller import traffic
from serve.controller.live import LiveView
from serve.controller.loop import ControlLoop, new_id
from serve.controller.mailbox import Orders
from serve.controller.statuses import status_of
from serve.logs.tail import tail
from serve.metrics.report import Family
from serve.schema import ServeStatus
from serve.schema.live import Live
from serve.specs import ADMIN_KEY, ApplicationSpec, DeploymentID, Targets, Traffic
from serve.state.application import Application, ApplicationStatus

if TYPE_CHECKING:
    from serve.admin.deployer import Outcome
    from serve.schema.deploy import ServeDeploySchema

logger = logging.getLogger("serve")


class Controller(ControlLoop):
    """Carries out orders: its public coroutine functions. All methods run on its event loop.

    Args:
        options: of HTTP.
        grpc_options: of gRPC; None serves none.
    """

    def __init__(self, options: HTTPOptions, grpc_options: GRPCOptions | None = None) -> None:
        super().__init__(options, grpc_options)
        #: what operators order
        self.admin = Administration(self)
        self._orders: Orders | None = None
        self._view = LiveView(self._apps, self._fleet.replicas, self.collector)

    async def begin(self) -> None:
        """Take over what a controller that is gone has left, begin to act, and take orders."""
        await super().begin()
        place = kv.get(ADMIN_KEY)
        if place is not None:
            try:
                self.admin.open(*msgspec.json.decode(place.value, type=tuple[str, int]))
            except OSError as error:  # what is served does not depend on it
                logger.warning("the REST API is not reachable any more: %s", error)
        self._orders = Orders(self)

    async def open_admin(self, host: str, port: int) -> str:
        """Serve the REST API, and return its address.

        Raises:
            OSError: the port is taken.
        """
        address = self.admin.open(host, port)
        kv.put(ADMIN_KEY, msgspec.json.encode((host, urlsplit(address).port)))
        return address

    async def apply(self, config: ServeDeploySchema, *, dry_run: bool = False) -> Outcome:
        """Carry out a config file: see `serve.admin.deployer.Deployer.deploy`."""
        return await self.admin.deploy(config, dry_run=dry_run)

    async def http_options(self) -> HTTPOptions:
        """How HTTP is served; the port is the real one once something is."""
        port = self._ingress.port
        return self._ingress.options if port is None else self._ingress.options.model_copy(update={"port": port})

    async def grpc_options(self) -> GRPCOptions | None:
        """How gRPC is served; None if it is not."""
        return self._grpc.options

    async def grpc_port(self) -> int | None:
        """The port of gRPC; None if none is served (yet)."""
        return self._grpc.port

    async def deploy(self, specs: Sequence[ApplicationSpec], *, only_these: bool = False) -> dict[str, int]:
        """Take over applications, and return their revisions by name. All are taken over, or none.

        Args:
            specs: the applications.
            only_these: delete all others that came from a config file (`ApplicationSpec.declared`).

        Raises:
            ValueError: two have one name or one route, or a route belongs to another application or cannot be served.
            OSError: the port is taken.
            ImportError: gRPC is wanted and not installed.
        """
        await self._grpc.open(msgspec.msgpack.encode(self._targets))
        self._check_routes(specs, only_these=only_these)
        if any(spec.route_prefix is not None for spec in specs):
            self._ingress.open()
        revisions = {spec.name: self._aim(spec) for spec in specs}
        if only_these:
            for name, app in self._apps.items():
                if name not in revisions and app.spec.declared is not None:
                    app.delete()
        self._ordered()
        return revisions

    def _check_routes(self, specs: Sequence[ApplicationSpec], *, only_these: bool) -> None:
        names = [spec.name for spec in specs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each application needs a name of its own; there are several named {twice[0]!r}")
        others = [app.spec for name, app in self._apps.items() if name not in names]
        staying = [spec for spec in others if not only_these or spec.declared is None]
        routed: dict[str, ApplicationSpec] = {}
        for spec in [*(each for each in staying if not self._apps[each.name].deleting), *specs]:
            if spec.route_prefix is None:
                continue
            other = routed.setdefault(spec.route_prefix, spec)
            if other is not spec:
                raise ValueError(
                    f"route_prefix {spec.route_prefix!r} belongs to application {other.name!r}; give another, or "
                    "delete that application"
                )
        self._ingress.refuse(routed.values())

    def _aim(self, spec: ApplicationSpec) -> int:
        app = self._apps.get(spec.name)
        if app is not None and not app.deleting and app.spec == spec:
            return spec.revision  # handed in as it runs, so that it stays
        spec = self._revisions.add(spec)
        if app is None:
            self._apps[spec.name] = Application(spec, new_id)
        else:
            app.deploy(spec)
        return spec.revision

    async def revisions(self, name: str) -> list[ApplicationSpec]:
        """Return what was deployed under a name, newest first; the last ten are remembered."""
        return self._revisions.of(name)

    async def rollback(self, name: str, revision: int | None = None) -> int:
        """Deploy what a revision was once more, as a new revision; return the number of what runs then.

        Args:
            name: of the application.
            revision: which; None for the last that ran before what is deployed now. If a second revision shares the
                requests, None (and the number of the first one) takes it out again.

        Raises:
            ValueError: there is no such application, or no such revision (any more).
        """
        app = traffic.running(self._apps, name)
        earlier = traffic.way_back(app, self._revisions, revision)
        if earlier is not None:
            return (await self.deploy([earlier]))[name]
        app.drop()
        self._ordered()
        return app.spec.revision

    async def stage(self, spec: ApplicationSpec, weight: float = 0.0, **rules: Any) -> int:
        """Start a new revision beside the one that runs, and return its number.

        Args:
            spec: the new revision.
            weight: its share of the requests, 0 to 1.
            **rules: ``header``, ``shadow``: see `Traffic`.

        Raises:
            ValueError: nothing of this name runs, or the two cannot share requests.
        """
        self._refuse_split()
        revision = traffic.stage(self._apps, self._revisions, spec, Traffic(weight, **rules))
        self._ordered()
        return revision

    async def set_traffic(
        self,
        name: str,
        weights: Mapping[int, float],
        *,
        header: tuple[str, str] | None = None,
        shadow: int | None = None,
    ) -> int:
        """Share an application's requests between the revision that runs and another; return the number to wait for.

        Args:
            name: of the application.
            weights: shares by revision, of any sum; the running one alone ends the sharing.
            header: name and value of a field that leads to the other one whatever the weights.
            shadow: revision that gets copies of all requests, and whose answers are thrown away.

        Raises:
            ValueError: no such application or revision, or shares that make no sense.
        """
        self._refuse_split()
        app = traffic.running(self._apps, name)
        traffic.set_traffic(app, self._revisions, weights, header=header, shadow=shadow)
        self._ordered()
        return app.spec.revision if app.candidate is None else app.candidate.spec.revision

    async def promote(self, name: str) -> int:
        """Make the second revision of an application the only one, and return its number.

        Raises:
            ValueError: there is no second revision.
        """
        revision = traffic.running(self._apps, name).promote().revision
        self._ordered()
        return revision

    def _refuse_split(self) -> None:
        if self._ingress.options.num_proxies == 0:
            raise ValueError(
                "two revisions share requests by a proxy; num_proxies=0 has none. Start Serve with another"
            )

    async def scale(self, app: str, deployment: str, num_replicas: int) -> None:
        """Change how many replicas a deployment has, until it is deployed anew.

        Raises:
            ValueError: there is no such deployment, its autoscaling decides, or the number makes no sense.
        """
        machine = self._machine(DeploymentID(deployment, app))
        if machine is None or machine.spec is None:
            raise ValueError(f"there is no deployment {deployment!r} in an application {app!r}")
        if machine.spec.config.get("autoscaling_config") is not None:
            raise ValueError(f"the replicas of {app}#{deployment} follow its autoscaling_config; deploy it without one")
        if num_replicas < 0:
            raise ValueError(f"a deployment has 0 replicas or more, not {num_replicas}")
        machine.resize(num_replicas)
        self._ordered()

    async def wait_for(self, name: str, revision: int) -> None:
        """Wait until a revision runs.

        Raises:
            RuntimeError: it was given up; the text says why, with the user's traceback.
        """
        async with self._settled:
            await self._settled.wait_for(lambda: self._decided(name, revision))
        app = self._apps.get(name)
        if app is not None and app.rejected is not None and app.rejected[0] == revision:
            kept = f"; revision {app.spec.revision} goes on" if app.spec.revision != revision else ""
            raise RuntimeError(f"application {name!r} cannot be deployed{kept}.\n{app.rejected[1]}")

    def _decided(self, name: str, revision: int) -> bool:
        app = self._apps.get(name)
        if app is None or app.deleting or app.spec.revision > revision:
            return True
        if app.rejected is not None and app.rejected[0] == revision:
            return True
        if app.spec.revision != revision:  # a second one, or one that somebody has taken out
            beside = app.candidate
            if beside is None or beside.spec.revision != revision:
                return True
            return beside.settled and beside.ready and self._published(app)
        return app.status is ApplicationStatus.RUNNING and self._published(app)

    def _published(self, app: Application) -> bool:
        """Tell whether requests reach an application's revisions, by proxies too if it has a route and needs them."""
        if self._told.splits.get(app.spec.name, ()) != app.splits:
            return False
        if app.spec.route_prefix is None:
            return True
        routed = any(route.app == app.spec.name for route in self._told.routes)
        return routed and self._ingress.proxied == self._wants_proxies() and not self._fleet.stale(app.spec.name)

    async def delete(self, name: str) -> None:
        """Delete an application and wait until it is gone; nothing happens if there is none."""
        app = self._apps.get(name)
        if app is not None:
            app.delete()
            self._ordered()
            async with self._settled:
                await self._settled.wait_for(lambda: self._apps.get(name) is not app)

    async def shutdown(self) -> None:
        """Delete everything and end."""
        await asyncio.gather(*(self.delete(name) for name in list(self._apps)))
        await asyncio.gather(self._end(), self.admin.close())
        if self._orders is not None:
            self._orders.close()
        kv.delete(ADMIN_KEY)

    async def abandon(self) -> None:
        """End without a session to talk to: it was shut down first."""
        await asyncio.gather(self._abandon(), self.admin.close())
        if self._orders is not None:
            self._orders.abandon()

    async def ingress_of(self, name: str) -> DeploymentID | None:
        """Return the deployment that an application's requests go to."""
        app = self._apps.get(name)
        return None if app is None else DeploymentID(app.spec.ingress, name)

    async def targets(self) -> Targets:
        """Return what routers know."""
        return self._targets

    async def status(self) -> ServeStatus:
        """Return how everything is."""
        applications = {name: status_of(app) for name, app in self._apps.items()}
        return ServeStatus({**self._ingress.states, **self._grpc.states}, applications)

    async def metrics(self) -> list[Family]:
        """Return all numbers of all processes."""
        return self.collector.families()

    async def live(self, since: float = 0.0) -> Live:
        """Return what the status page shows; of the charts the points after a time (seconds since the epoch)."""
        revisions = {name: self._revisions.of(name) for name in self._apps}
        return self._view.live(since, revisions, {**self._ingress.states, **self._grpc.states})

    async def log_tail(self, name: str, lines: int) -> list[str] | None:
        """Return the last lines of the log of a replica or proxy; None if none is known."""
        path = self.collector.logs.get(name)
        return None if path is None else await asyncio.to_thread(tail, path, lines)
