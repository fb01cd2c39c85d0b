"""The replicas' lives: started, followed to their ends, asked for their health, reconfigured, stopped.

What happens to a replica is told to the machine of its deployment, which decides what to do about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import msgspec

from core.exceptions import RayError, RayTaskError
from serve.controller import replicas as hands
from serve.controller.collector import DEATHS, HEALTH_CHECK_FAILURES, START_FAILURES, STARTS, Collector, Source
from serve.controller.desired import Desired, ReplicaRecord
from serve.controller.replicas import RunningReplica, StartError
from serve.controller.restoring import Living
from serve.replica.actor import Direct
from serve.specs import DeploymentID, ReplicaState, Targets
from serve.state.application import Application
from serve.state.deployment import Deployment, Reconfigure, Replica, Start, Stop

logger = logging.getLogger("serve")

#: seconds that a process has to take a publication in
PUBLISH_S = 5.0


class Fleet:
    """See the module's docstring. All methods run on the controller's event loop.

    Args:
        apps: the applications by name, whose machines are told.
        changed: called after each event, for the machines to be asked.
    """

    def __init__(self, apps: Mapping[str, Application], changed: Callable[[], None]) -> None:
        self._apps = apps
        self._changed = changed
        self._tasks: set[asyncio.Task[Any]] = set()
        #: as they are stored
        self._records: dict[str, ReplicaRecord] = {}
        #: by id, those that start and stop included
        self.replicas: dict[str, RunningReplica] = {}
        #: what was published last; a replica that has started is told before it gets requests
        self.latest = b""
        #: clients are the proxies': replicas that still accept them are to leave them
        self.proxied = False
        #: counts what happens; set before the first replica starts
        self.collector: Collector

    def machine(self, replica_id: str) -> Deployment | None:
        """Return the machine of a replica's deployment, which a second revision has its own of."""
        return next((m for app in self._apps.values() if (m := app.machine_of(replica_id)) is not None), None)

    def running(self) -> Iterator[tuple[str, RunningReplica]]:
        """Yield the replicas that have started, with their ids."""
        return ((key, replica) for key, replica in self.replicas.items() if replica.info is not None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside; an error of it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the controller failed at %s", task, exc_info=task.exception())

    async def close(self) -> None:
        """Follow nobody any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what the machines want ----------------------------------------------------------------------------------------

    def start(self, action: Start, *, serve_http: bool, direct: Direct | None) -> None:
        """Start a replica.

        Args:
            action: which.
            serve_http: whether HTTP requests come to it.
            direct: how it accepts clients itself; None if it does not.
        """
        record = ReplicaRecord(action.spec, serve_http, direct is not None)
        Desired.save_replica(action.replica_id, record)
        replica = hands.create(action.spec, action.replica_id, serve_http=serve_http, direct=direct)
        self.replicas[action.replica_id] = replica
        self._records[action.replica_id] = record
        self.spawn(self._live(action.replica_id, replica))

    def adopt(self, found: Mapping[str, Living], published: Targets) -> None:
        """Take over the replicas that a controller which is gone has started.

        Args:
            found: those that are alive, by id.
            published: what was published last: who is not in it starts or stops.
        """
        infos = {info.replica_id: info for running in published.replicas.values() for info in running}
        for replica_id, living in found.items():
            replica = RunningReplica(living.record.spec, living.actor, infos.get(replica_id), living.record.direct)
            if self.machine(replica_id) is None:  # of an application that is gone
                hands.kill(replica)
                Desired.forget_replica(replica_id)
                continue
            self._records[replica_id] = living.record
            self.replicas[replica_id] = replica
            self.spawn(self._live(replica_id, replica))

    def _forget(self, replica_id: str) -> None:
        self.replicas.pop(replica_id, None)
        if self._records.pop(replica_id, None) is not None:
            Desired.forget_replica(replica_id)

    async def reconfigure(self, action: Reconfigure) -> None:
        """Give a replica new options."""
        replica = self.replicas.get(action.replica_id)
        if replica is None or replica.info is None:
            return
        refusal = ""
        try:
            await replica.actor.reconfigure.remote(action.config)
        except RayTaskError as error:
            refusal = f"reconfigure() failed: {error}"
        except RayError as error:
            logger.info("replica %s died while it was reconfigured: %s", action.replica_id, error)
        replica.spec = msgspec.structs.replace(replica.spec, config=action.config)
        replica.info = msgspec.structs.replace(
            replica.info, max_ongoing_requests=int(action.config["max_ongoing_requests"])
        )
        record = self._records.get(action.replica_id)
        if record is not None:
            record = self._records[action.replica_id] = msgspec.structs.replace(record, spec=replica.spec)
            Desired.save_replica(action.replica_id, record)
        machine = self.machine(action.replica_id)
        if machine is not None:
            machine.reconfigured(action.replica_id, refusal)
        self._changed()

    async def stop(self, action: Stop) -> None:
        """Stop a replica."""
        replica = self.replicas.get(action.replica_id)
        if replica is None:
            return
        if action.graceful and replica.info is not None:
            await self._finish(action.replica_id, replica)
        else:
            hands.kill(replica)
            self._stopped(action.replica_id)

    async def _finish(self, replica_id: str, replica: RunningReplica) -> None:
        if replica.direct:  # `serve.run` returns once no new connection can get to it any more
            await self.leave_clients(replica)
            self._changed()
        last = await hands.stop(replica, float(replica.spec.config["graceful_shutdown_timeout_s"]))
        self.collector.parted(Source(replica_id, replica.spec.id, replica.actor), last)
        self._stopped(replica_id)

    def _stopped(self, replica_id: str) -> None:
        machine = self.machine(replica_id)
        self._forget(replica_id)
        if machine is not None:
            machine.stopped(replica_id)
        self._changed()

    # -- a replica's life ----------------------------------------------------------------------------------------------

    async def _live(self, replica_id: str, replica: RunningReplica) -> None:
        """Follow a replica from its start to its end."""
        if replica.info is None:
            try:
                serves = await hands.start(replica, replica_id)
            except StartError as error:
                self._start_failed(replica_id, replica, error)
                return
            if not serves:
                await self._stop_again(replica_id, replica)
                return
            self.collector.count(STARTS, replica.spec.id)
        if replica.direct and self.proxied:  # the proxies came meanwhile
            await self.leave_clients(replica)
        if self.latest:
            await self.tell(replica, self.latest)
        machine = self.machine(replica_id)
        if machine is not None:
            machine.started(replica_id)
        self._changed()
        checking = self.spawn(self._check(replica_id, replica))
        try:
            reason = await hands.end_of(replica)
        finally:
            checking.cancel()
        self._died(replica_id, replica.spec.id, reason)

    async def _stop_again(self, replica_id: str, replica: RunningReplica) -> None:
        """A replica was told to stop by a controller that is gone: see to its end."""
        machine = self.machine(replica_id)
        if machine is not None and replica_id in machine.replicas:
            machine.replicas[replica_id].state = ReplicaState.STOPPING
        await self._finish(replica_id, replica)

    def _start_failed(self, replica_id: str, replica: RunningReplica, error: StartError) -> None:
        hands.kill(replica)
        self._forget(replica_id)
        self.collector.count(START_FAILURES, replica.spec.id)
        machine = self.machine(replica_id)
        if machine is not None:
            machine.start_failed(replica_id, time.monotonic(), str(error))
        logger.warning("replica %s did not start: %s", replica_id, error)
        self._changed()

    def _died(self, replica_id: str, deployment_id: DeploymentID, reason: str) -> None:
        self._forget(replica_id)
        machine = self.machine(replica_id)
        if machine is not None:
            if replica_id in machine.replicas and machine.replicas[replica_id].state is not ReplicaState.STOPPING:
                self.collector.count(DEATHS, deployment_id)
            machine.died(replica_id, time.monotonic(), reason)
        self._changed()

    async def _check(self, replica_id: str, replica: RunningReplica) -> None:
        """Ask for a replica's health, again and again."""
        while True:
            machine = self.machine(replica_id)
            config = machine.spec.config if machine is not None and machine.spec is not None else replica.spec.config
            await asyncio.sleep(float(config["health_check_period_s"]))
            problem, responds = await hands.check(replica, float(config["health_check_timeout_s"]))
            machine = self.machine(replica_id)
            if problem:
                self.collector.count(HEALTH_CHECK_FAILURES, replica.spec.id)
            if machine is not None:
                machine.checked(replica_id, time.monotonic(), problem, responds=responds)
                self._changed()

    # -- what replicas are told ----------------------------------------------------------------------------------------

    async def tell(self, replica: RunningReplica, targets: bytes) -> None:
        """Tell a replica what was published, and wait until it has taken that in."""
        with contextlib.suppress(RayError, TimeoutError):
            await asyncio.wait_for(replica.actor.publish.remote(targets).as_future(), PUBLISH_S)

    async def tell_all(self, targets: bytes) -> None:
        """Tell all replicas, and wait for all but those that did not answer their last health check."""
        self.latest = targets
        hanging = {key for key, _ in self.running() if self._hangs(key)}
        for key in hanging:
            self.spawn(self.tell(self.replicas[key], targets))
        await asyncio.gather(*(self.tell(replica, targets) for key, replica in self.running() if key not in hanging))

    async def leave_clients_to_proxies(self) -> None:
        """Have replicas accept no clients from now on."""
        self.proxied = True
        await asyncio.gather(*(self.leave_clients(replica) for replica in self.replicas.values() if replica.direct))

    async def leave_clients(self, replica: RunningReplica) -> None:
        """Have one replica accept no clients from now on, and wait until it does not."""
        if replica.info is not None:
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(replica.actor.leave_clients_to_proxies.remote().as_future(), PUBLISH_S)
        replica.direct = False

    def stale(self, app: str) -> bool:
        """Tell whether a replica of an application that is to stop may still accept clients itself."""
        return any(
            replica.direct and replica.spec.id.app == app and self._is_stopping(replica_id)
            for replica_id, replica in self.replicas.items()
        )

    def _is_stopping(self, replica_id: str) -> bool:
        known = self._known(replica_id)
        return known is not None and known.state is ReplicaState.STOPPING

    def _hangs(self, replica_id: str) -> bool:
        known = self._known(replica_id)
        return known is not None and known.missed_checks > 0 and not known.responds

    def _known(self, replica_id: str) -> Replica | None:
        machine = self.machine(replica_id)
        return machine.replicas.get(replica_id) if machine is not None else None
