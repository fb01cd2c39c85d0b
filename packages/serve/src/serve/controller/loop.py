"""What the controller does by itself: reconciling what is with what is wanted, and publishing where requests go.

Whatever happens (an order, a start, a death, a failed check) is told to the application's machine; then `_reconcile`
performs what the machines plan, and publishes what changed. A replica that is to stop is taken out of the publication
first, and stops when all routers have taken that in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid

import msgspec

import core
from core.exceptions import RayError
from core.util import kv
from serve.config import GRPCOptions, HTTPOptions
from serve.controller.autoscaler import Autoscaling
from serve.controller.collector import METRICS_KEY, Collector, Source
from serve.controller.desired import Desired
from serve.controller.fleet import Fleet
from serve.controller.grpc_front import GRPCFront
from serve.controller.ingress import Ingress
from serve.controller.publication import announce, build_targets
from serve.controller.restoring import living_replicas, restore
from serve.controller.standing import standing
from serve.controller.traffic import Revisions
from serve.handle import local_router
from serve.model_control import wanted
from serve.specs import TARGETS_KEY, ApplicationSpec, DeploymentID, Targets
from serve.state.application import Application
from serve.state.deployment import Deployment, Reconfigure, Start, Stop

logger = logging.getLogger("serve")


class ControlLoop:
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
        #: knows what all processes count
        self.collector = Collector(self._sources, self._deployments, lambda: standing(self._apps.values()))
        self._fleet.collector = self.collector
        self._autoscaling = Autoscaling(self._apps, self.collector, self._changed.set)

    async def begin(self) -> None:
        """Take over what a controller that is gone has left, and begin to act."""
        await self._restore()
        self._reconciling = asyncio.get_running_loop().create_task(self._run())

    async def _end(self) -> None:
        """Stop acting, after everything was deleted."""
        self._end_watching()
        await asyncio.gather(self._ingress.close(), self._grpc.close())
        await self._fleet.close()
        kv.delete(TARGETS_KEY)
        kv.delete(METRICS_KEY)

    async def _abandon(self) -> None:
        """Stop acting, without a session to talk to."""
        self._end_watching()
        self._ingress.abandon()
        await self._fleet.close()

    def _end_watching(self) -> None:
        if self._reconciling is not None:
            self._reconciling.cancel()
        self._autoscaling.close()
        self.collector.close()

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
            self._apps[record.spec.name] = restore(record, found, self._targets, new_id)
        self._fleet.latest = msgspec.msgpack.encode(self._targets) if published is not None else b""
        self._fleet.adopt(found, self._targets)
        local_router.update(self._targets, {key: replica.actor for key, replica in self._fleet.replicas.items()})
        holders = [replica.actor for replica in self._fleet.replicas.values() if replica.direct]
        await asyncio.gather(self._ingress.restore(holders, self._fleet.latest), self._grpc.restore(self._fleet.latest))
        self._fleet.proxied = self._ingress.proxied

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
            except (RayError, ValueError):  # of the control store, say, which refuses what is too large
                logger.exception("the controller could not act; it tries again")
            deadlines = [app.deadline for app in self._apps.values() if app.deadline is not None]
            wait = max(0.01, min(deadlines) - time.monotonic()) if deadlines else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def _reconcile(self) -> None:
        stops: list[Stop] = []
        for app in list(self._apps.values()):
            for action in app.plan(time.monotonic()):
                match action:
                    case Start():
                        self._start(app, action)
                    case Reconfigure():
                        self._fleet.spawn(self._fleet.reconfigure(action))
                    case Stop():
                        stops.append(action)
        self._save()
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
        if all(app.spec.route_prefix is None for app in self._apps.values()):
            self._ingress.rest()
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
        proxies = {**self._ingress.proxies, **self._grpc.proxies}
        return [*replicas, *(Source(name, None, proxy) for name, proxy in proxies.items())]

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


def new_id(deployment_id: DeploymentID) -> str:
    """Return a name for a new replica."""
    return f"{deployment_id.app}#{deployment_id.name}#{uuid.uuid4().hex[:8]}"
