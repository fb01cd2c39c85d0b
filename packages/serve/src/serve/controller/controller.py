"""The controller: brings about what is wanted, and tells everybody where requests go.

It runs on an event loop of its own. Whatever happens (a deploy, a start, a death, a failed check) is told to the
application's machine; then `_reconcile` performs what the machines plan, and publishes what changed. A replica that is
to stop is taken out of the publication first, and stops when all routers have taken that in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

import core
from core.exceptions import RayError
from core.util import kv
from serve.admin.server import Administration
from serve.config import GRPCOptions, HTTPOptions
from serve.controller import traffic
from serve.controller.autoscaler import Autoscaling
from serve.controller.collector import Collector, Source
from serve.controller.desired import Desired
from serve.controller.fleet import Fleet
from serve.controller.grpc_front import GRPCFront
from serve.controller.ingress import Ingress
from serve.controller.live import LiveView
from serve.controller.mailbox import Orders
from serve.controller.publication import announce, build_targets
from serve.controller.restoring import living_replicas, restore
from serve.controller.standing import standing
from serve.controller.statuses import status_of
from serve.controller.traffic import Revisions
from serve.handle import local_router
from serve.logs.tail import tail
from serve.metrics.report import Family
from serve.model_control import wanted
from serve.schema import ServeStatus
from serve.schema.live import Live
from serve.specs import ADMIN_KEY, TARGETS_KEY, ApplicationSpec, DeploymentID, Targets, Traffic
from serve.state.application import Application, ApplicationStatus
from serve.state.deployment import Deployment, Reconfigure, Start, Stop

if TYPE_CHECKING:
    from serve.admin.deployer import Outcome
    from serve.schema.deploy import ServeDeploySchema

logger = logging.getLogger("serve")


class Controller:
    """See the module's docstring. All methods run on its event loop.

    Args:
        options: of HTTP.
        grpc_options: of gRPC; None serves none.
    """

    def __init__(self, options: HTTPOptions, grpc_options: GRPCOptions | None = None) -> None:
        self._apps: dict[str, Application] = {}
        #: what was deployed
        self._revisions = Revisions()
        self._ingress = Ingress(options, core.get_runtime_context().get_temp_dir())
        self._grpc = GRPCFront(grpc_options)
        self._targets = Targets(0, (), {}, {})
        #: the last targets that all routers have taken in
        self._told = self._targets
        self._changed = asyncio.Event()
        self._settled = asyncio.Condition()
        self._fleet = Fleet(self._apps, self._changed.set)
        self._desired = Desired()
        self._reconciling: asyncio.Task[None] | None = None
        self._orders: Orders | None = None
        #: what operators order
        self.admin = Administration(self)
        #: knows what all processes count
        self.collector = Collector(self._sources, self._deployments, lambda: standing(self._apps.values()))
        self._fleet.collector = self.collector
        self._autoscaling = Autoscaling(self._apps, self.collector, self._changed.set)
        self._view = LiveView(self._apps, self._fleet.replicas, self.collector)

    async def begin(self) -> None:
        """Take over what a controller that is gone has left, and begin to act."""
        await self._restore()
        self._reconciling = asyncio.get_running_loop().create_task(self._run())
        self._orders = Orders(self)

    async def _restore(self) -> None:
        records = self._desired.load()
        published = kv.get(TARGETS_KEY)
        if published is not None:
            self._targets = msgspec.msgpack.decode(published.value, type=Targets)
        else:  # later than those of any Serve that this session had before
            self._targets = Targets(time.time_ns() // 1_000_000, (), {}, {})
        self._told = self._targets
        found = living_replicas()
        for record, revisions in records:
            self._revisions.replace(record.spec.name, revisions)
            self._apps[record.spec.name] = restore(record, found, self._targets, _new_id)
        self._fleet.latest = msgspec.msgpack.encode(self._targets) if published is not None else b""
        self._fleet.adopt(found, self._targets)
        local_router.update(self._targets, {key: replica.actor for key, replica in self._fleet.replicas.items()})
        holders = [replica.actor for replica in self._fleet.replicas.values() if replica.direct]
        await asyncio.gather(self._ingress.restore(holders, self._fleet.latest), self._grpc.restore(self._fleet.latest))
        self._fleet.proxied = self._ingress.proxied
        place = kv.get(ADMIN_KEY)
        if place is not None:
            self.admin.open(*msgspec.json.decode(place.value, type=tuple[str, int]))

    # -- orders -------------------------------------------------------------------------------------------------------

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
            self._apps[spec.name] = Application(spec, _new_id)
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
        return routed and self._ingress.proxied == self._wants_proxies()

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
        self._end_watching()
        await asyncio.gather(self._ingress.close(), self._grpc.close(), self.admin.close())
        await self._fleet.close()
        if self._orders is not None:
            self._orders.close()
        for key in (TARGETS_KEY, ADMIN_KEY):
            kv.delete(key)

    async def abandon(self) -> None:
        """End without a session to talk to: it was shut down first."""
        self._end_watching()
        self._ingress.abandon()
        await self.admin.close()
        await self._fleet.close()
        if self._orders is not None:
            self._orders.abandon()

    def _end_watching(self) -> None:
        if self._reconciling is not None:
            self._reconciling.cancel()
        self._autoscaling.close()
        self.collector.close()

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

    # -- reconciling --------------------------------------------------------------------------------------------------

    def _ordered(self) -> None:
        """Something else is wanted: note that before anybody is told that it will be."""
        self._save()
        self._changed.set()

    def _save(self) -> None:
        for name, app in self._apps.items():
            self._desired.save(app, self._revisions.of(name))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._reconcile()
            except RayError:
                logger.exception("the controller could not act; it tries again")
            deadlines = [app.deadline for app in self._apps.values() if app.deadline is not None]
            wait = max(0.01, min(deadlines) - time.monotonic()) if deadlines else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def _reconcile(self) -> None:
        stops: list[Stop] = []
        planned = [(app, app.plan(time.monotonic())) for app in self._apps.values()]
        self._save()
        for app, actions in planned:
            for action in actions:
                match action:
                    case Start():
                        self._start(app, action)
                    case Reconfigure():
                        self._fleet.spawn(self._fleet.reconfigure(action))
                    case Stop():
                        stops.append(action)
        await self._publish()
        for action in stops:
            self._fleet.spawn(self._fleet.stop(action))
        self._autoscaling.look()
        await self._arrange_ingress()
        for name in [name for name, app in self._apps.items() if app.gone]:
            del self._apps[name]
            wanted.forget(name)  # in no other thread: at the end of the interpreter there are none to be had
            self._revisions.forget(name)
            self._desired.forget(name)
            await self._publish()
        async with self._settled:
            self._settled.notify_all()

    def _start(self, app: Application, action: Start) -> None:
        is_ingress = action.spec.id.name in app.ingresses
        direct = self._ingress.direct(app.spec) if is_ingress and not self._wants_proxies() else None
        self._fleet.start(action, serve_http=is_ingress, direct=direct)

    def _machine(self, deployment_id: DeploymentID) -> Deployment | None:
        app = self._apps.get(deployment_id.app)
        return app.deployments.get(deployment_id.name) if app is not None else None

    def _deployments(self) -> list[DeploymentID]:
        return [each.id for app in self._apps.values() for each in app.deployments.values()]

    def _sources(self) -> list[Source]:
        """Return the processes that count requests."""
        replicas = [Source(key, replica.spec.id, replica.actor) for key, replica in self._fleet.running()]
        return [*replicas, *(Source(name, None, proxy) for name, proxy in self._ingress.proxies.items())]

    # -- what others know ---------------------------------------------------------------------------------------------

    def _routed(self) -> list[ApplicationSpec]:
        return [app.spec for app in self._apps.values() if app.spec.route_prefix is not None and not app.deleting]

    def _wants_proxies(self) -> bool:
        split = any(app.candidate is not None and app.spec.route_prefix is not None for app in self._apps.values())
        return split or self._ingress.wants_proxies(self._routed())

    async def _publish(self) -> None:
        """Tell all routers what changed, and wait until they have taken it in."""
        targets = build_targets(self._apps, self._fleet.replicas, self._targets.version)
        if targets == self._targets:
            return
        self._targets = targets = msgspec.structs.replace(targets, version=targets.version + 1)
        local_router.update(targets, {key: replica.actor for key, replica in self._fleet.replicas.items()})
        encoded = msgspec.msgpack.encode(targets)
        tellings = self._ingress.publish(encoded), self._grpc.publish(encoded), self._fleet.tell_all(encoded)
        await asyncio.gather(announce(encoded), *tellings)
        self._told = targets

    async def _arrange_ingress(self) -> None:
        """Start the proxies when they are needed, and let them have the clients."""
        if self._ingress.proxied or not self._routed() or not self._wants_proxies():
            return
        await self._ingress.start_proxies(msgspec.msgpack.encode(self._targets))
        await self._fleet.leave_clients_to_proxies()


def _new_id(deployment_id: DeploymentID) -> str:
    return f"{deployment_id.app}#{deployment_id.name}#{uuid.uuid4().hex[:8]}"
