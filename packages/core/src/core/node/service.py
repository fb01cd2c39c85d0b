"""The daemon itself: feeds messages and deaths to the state machines and performs what they instruct.

One thread. The scheduler and the actor table decide; this module only translates between them and the processes, so a
decision that seems to be missing here is in :mod:`core.state`.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import ids
from core.node import queries
from core.node.config import NodeConfig
from core.node.connections import Connection, Server
from core.node.inquiries import Inquiries, Report
from core.node.jobs import Job, new_job
from core.node.key_values import KeyValueService
from core.node.loop import Loop
from core.node.memory import MemoryMonitor
from core.node.objects import MESSAGES as STORE_MESSAGES
from core.node.objects import ObjectService
from core.node.process import reap_orphans
from core.node.workers import WorkerProcess, WorkerProcesses
from core.node.zygote_client import ZygoteClient
from core.protocol import NODE_SOCKET, VERSION, from_node, socket_name, to_node
from core.protocol.records import DeathCause
from core.protocol.zygote import Preload, WorkerStart
from core.state import actor_events as ac
from core.state import scheduler_events as sc
from core.state.actors import ActorTable
from core.state.scheduler import Scheduler
from core.state.waits import WaitGraph

logger = logging.getLogger(__name__)

#: Seconds between two looks at what has no deadline of its own.
TICK_SECONDS = 0.5
#: While more bytes than this wait for a driver, log lines wait too (and are dropped beyond a limit).
LOG_BACKLOG_BYTES = 4 * 1024 * 1024
#: Seconds that a driver which leaves has to take the last lines.
GOODBYE_SECONDS = 0.5
#: How many waits one ``Stall`` explains at most.
EXPLAIN_LINES = 3


class NodeService:
    """All of the daemon's parts, wired.

    Args:
        config: what the launcher told.
        listener: the socket that listens at ``node.sock``.
        zygote: the zygote, forked before.
    """

    def __init__(self, config: NodeConfig, listener: socket.socket, zygote: ZygoteClient) -> None:
        self.config = config
        self.node_id = ids.new_node_id()
        self.socket_path = str(Path(config.session_dir) / NODE_SOCKET)
        self.zygote_pid = zygote.pid
        self._zygote = zygote
        self.loop = Loop()
        self.scheduler = Scheduler(self.node_id, config.node_resources, ids.new_address, config.prestarted_workers)
        self.actors = ActorTable()
        self.jobs: dict[bytes, Job] = {}
        #: the first driver that is the process which started the daemon: the session ends with its connection
        self._own_driver = b""
        #: the driver, where it is our parent and nothing but that tells of its death
        self._watched_parent = 0
        self._waits = WaitGraph()
        self._server = Server(self.loop, listener, self._received, self._disconnected)
        self._processes = WorkerProcesses(
            self.loop, zygote, self._printed, self._start_failed, self._worker_gone, self._zygote_lost
        )
        self.objects = ObjectService(
            Path(config.session_dir),
            config.object_store_bytes,
            self._server.send,
            self.loop.post,
            spill_parent=config.spill_parent,
        )
        self._inquiries = Inquiries(self._server)
        self._key_values = KeyValueService(self._server.send)
        self._memory = MemoryMonitor(self._killable, self._end)
        self._next_tick = 0.0
        self._handlers = self._message_handlers()
        self._performers = self._instruction_performers()
        self.loop.after_batch = self._after_batch
        self.loop.next_timer = self._next_timer
        self.loop.on_timer = self._on_timer

    def run(self) -> None:
        """Serve until the session is over."""
        self._watch_driver()
        self.loop.run()
        self._server.flush()
        self.objects.close()

    # time

    def _next_timer(self) -> float:
        times = (
            self._next_tick,
            self.objects.deadline,
            self._memory.deadline,
            self.scheduler.deadline,
            self.actors.deadline,
            self._processes.deadline,
            self._server.next_expiry,
            self._inquiries.deadline,
        )
        return min(at for at in times if at is not None)

    def _on_timer(self, now: float) -> None:
        if self.objects.deadline is not None and self.objects.deadline <= now:
            self.objects.tick(now)
        if self._next_tick <= now:
            self._next_tick = now + TICK_SECONDS
            self.objects.tick(now)
            reap_orphans(self.zygote_pid)
            if self._watched_parent and os.getppid() != self._watched_parent:
                self.loop.stop()
        if self._memory.deadline <= now:
            self._memory.sample(now)
        if self.scheduler.deadline is not None and self.scheduler.deadline <= now:
            self._schedule(sc.Tick())
        if self.actors.deadline is not None and self.actors.deadline <= now:
            self._act(ac.Tick())
        self._processes.expire(now)
        self._server.expire(now)
        self._inquiries.expire(now)

    def _after_batch(self) -> None:
        for job in self.jobs.values():
            self._send_logs(job)
        self._server.flush()

    def _send_logs(self, job: Job) -> None:
        connection = self._server.by_address.get(job.address)
        if connection is not None and connection.backlog < LOG_BACKLOG_BYTES:
            lines = job.logs.take()
            if lines:
                connection.send(from_node.Log(lines))

    # state machines

    def _schedule(self, event: sc.Event) -> None:
        self._perform(self.scheduler.handle(event, now=time.monotonic()))

    def _act(self, event: ac.Event) -> None:
        self._perform(self.actors.handle(event, now=time.monotonic()))

    def _perform(self, instructions: list[Any]) -> None:
        for instruction in instructions:
            self._performers[type(instruction)](instruction)

    def _instruction_performers(self) -> dict[type, Callable[[Any], None]]:
        send = self._server.send
        return {
            sc.StartWorker: self._start_worker,
            sc.StopWorker: lambda i: send(i.address, from_node.Exit(i.reason, soft=True)),
            sc.KillWorker: lambda i: self._processes.kill(i.address, i.cause),
            sc.Granted: lambda i: send(i.holder, from_node.LeaseGrant(i.cls, i.lease_id, i.address, i.pid, i.gpu_ids)),
            sc.Refused: lambda i: send(i.holder, from_node.LeaseRefused(i.cls, i.kind, i.reason)),
            sc.ActorPlaced: lambda i: self._act(ac.Placed(i.actor_id, i.address, i.pid, i.gpu_ids)),
            sc.ActorRefused: lambda i: self._act(ac.Refused(i.actor_id, i.kind, i.reason)),
            sc.GroupChanged: self._group_changed,
            sc.AskBack: lambda i: send(i.holder, from_node.Reclaim(i.leases)),
            sc.Warn: lambda i: self._warn(i.address, i.text),
            ac.Reply: lambda i: send(i.to, from_node.ActorReply(i.request, i.info, i.error, i.reason)),
            ac.Place: lambda i: self._schedule(sc.ActorWaits(i.actor_id, i.owner, i.job_id, i.spec, i.held, i.name)),
            ac.Withdraw: lambda i: self._schedule(sc.ActorWithdrawn(i.actor_id)),
            ac.Start: self._start_actor,
            ac.End: lambda i: send(i.address, from_node.EndActor(i.reason)),
            ac.KillProcess: lambda i: self._processes.kill(i.address, i.cause),
            ac.Update: self._actor_update,
        }

    def _start_worker(self, instruction: sc.StartWorker) -> None:
        environment, job_id = instruction.key
        job = self.jobs[job_id]
        self._processes.start(
            WorkerStart(
                b"",
                instruction.address,
                self.config.session_dir,
                self.node_id,
                job_id,
                job.namespace,
                job.sys_path,
                job.cwd,
                environment,
                job.log_to_driver,
            )
        )

    def _start_actor(self, instruction: ac.Start) -> None:
        process = self._processes.by_address.get(instruction.address)
        if process is not None:
            process.name = instruction.spec.class_name
        self._server.send(
            instruction.address,
            from_node.StartActor(instruction.spec, instruction.restarts, instruction.gpu_ids),
        )

    def _actor_update(self, instruction: ac.Update) -> None:
        for watcher in instruction.watchers:
            self._server.send(watcher, from_node.ActorUpdate(instruction.info))

    def _group_changed(self, instruction: sc.GroupChanged) -> None:
        info = self.scheduler.groups.find(instruction.placement_group_id)
        if info is not None:
            for watcher in instruction.watchers:
                self._server.send(watcher, from_node.PlacementGroupUpdate(info))

    # processes

    def _start_failed(self, address: bytes, kind: str, reason: str) -> None:
        self._schedule(sc.StartFailed(address, kind, reason))

    def _worker_gone(self, process: WorkerProcess, status: int) -> None:
        connection = self._server.by_address.get(process.address)
        if connection is not None:
            # What it said last (that it leaves, that __init__ failed) explains its death.
            self._server.drain(connection)
        cause = self._processes.forget(process, status)
        # A process that was killed leaves the file of its socket behind.
        (Path(self.config.session_dir) / socket_name(process.address)).unlink(missing_ok=True)
        if not process.joined and (process.doom is None or process.doom.kind == "start"):
            reason = "\n".join(part for part in (self._server.refusal, cause.detail, cause.stderr_tail) if part)
            self._schedule(sc.StartFailed(process.address, "start", reason))
        else:
            self._process_gone(process.address, cause)

    def _process_gone(self, address: bytes, cause: DeathCause) -> None:
        """Tell everybody, then the state machines: a holder must hear of a death before it gets new leases."""
        for connection in self._server.by_address.values():
            connection.send(from_node.ProcessDied(address, cause))
        self._waits.go_on(address)
        self._inquiries.process_gone(address)
        self._key_values.process_gone(address)
        self.objects.process_gone(address)
        self._schedule(sc.ProcessGone(address))
        self._act(ac.ProcessGone(address, cause))

    def _disconnected(self, connection: Connection) -> None:
        if connection.kind == "worker":
            self._processes.disconnected(connection.address)
            return
        if connection.address == self._own_driver:
            logger.info("the driver is gone: the session ends")
            self.loop.stop()
            return
        cause = DeathCause("disconnected", detail="the driver has left", pid=connection.pid)
        self._process_gone(connection.address, cause)
        self._schedule(sc.JobEnded(connection.job_id))

    def _zygote_lost(self) -> None:
        text = "the zygote, which starts the workers, is gone: the session ends"
        logger.error(text)
        for job in self.jobs.values():
            self._server.send(job.address, from_node.Notice("error", text))
        self.loop.stop()  # what is queued is sent after it

    def _printed(self, process: WorkerProcess, stream: int, lines: list[str], task: str) -> None:
        job = self.jobs[process.job_id]
        if job.log_to_driver:
            job.logs.add(process.pid, process.name or task, stream, lines)

    def _end(self, address: bytes, cause: DeathCause) -> None:
        """End a worker at once; its lease may be given back before it is dead, but it is not granted again."""
        self._schedule(sc.WorkerLeaving(address))
        self._processes.kill(address, cause)

    def _killable(self) -> list[tuple[bytes, int]]:
        workers = self.scheduler.pool.workers.values()
        return [(worker.address, worker.pid) for worker in workers if worker.state in ("leased", "actor")]

    def _watch_driver(self) -> None:
        """See the driver's death even if a child of it keeps its sockets open."""
        if not self.config.driver_pid:
            return
        try:
            fd = os.pidfd_open(self.config.driver_pid)
        except ProcessLookupError:
            self.loop.stop()
        except (AttributeError, OSError):  # not this system, or an old kernel: a parent can still be seen to die
            self._watched_parent = self.config.driver_pid if os.getppid() == self.config.driver_pid else 0
        else:
            self.loop.watch(fd, selectors.EVENT_READ, lambda events: self.loop.stop())

    # messages

    def _received(self, connection: Connection, message: to_node.ToNode) -> None:
        self._handlers[type(message)](connection, message)

    def _message_handlers(self) -> dict[type, Callable[[Connection, Any], None]]:
        return {
            to_node.Hello: self._hello,
            to_node.LeaseDemand: self._demand,
            to_node.ReturnLease: lambda c, m: self._schedule(sc.LeaseReturned(c.address, m.lease_id, m.exiting)),
            to_node.Blocked: lambda c, m: self._schedule(sc.WorkerBlocked(c.address)),
            to_node.Unblocked: self._unblocked,
            to_node.Exiting: self._exiting,
            to_node.ExitDeclined: lambda c, m: self._schedule(sc.StopDeclined(c.address)),
            to_node.CreateActor: lambda c, m: self._act(ac.Create(c.address, m.request, c.job_id, m.spec)),
            to_node.ActorReady: lambda c, m: self._act(ac.Ready(c.address, m.actor_id)),
            to_node.ActorInitFailed: lambda c, m: self._act(ac.InitFailed(c.address, m.actor_id, m.error)),
            to_node.WatchActor: lambda c, m: self._act(ac.Watch(c.address, m.actor_id)),
            to_node.UnwatchActor: lambda c, m: self._act(ac.Unwatch(c.address, m.actor_id)),
            to_node.ActorOutOfScope: lambda c, m: self._act(ac.OutOfScope(m.actor_id)),
            to_node.KillActor: lambda c, m: self._act(ac.Kill(m.actor_id, m.no_restart)),
            to_node.GetNamedActor: self._get_named_actor,
            to_node.ListNamedActors: self._list_named_actors,
            to_node.KillWorker: self._kill_worker,
            **dict.fromkeys(STORE_MESSAGES, self._store),
            **self._key_values.handlers,
            to_node.CreatePlacementGroup: self._create_group,
            to_node.RemovePlacementGroup: lambda c, m: self._schedule(sc.GroupRemoved(m.placement_group_id)),
            to_node.GetPlacementGroup: self._get_group,
            to_node.Query: self._query,
            to_node.Report: lambda c, m: self._inquiries.answered(c.address, m),
            to_node.Stall: self._stall,
            to_node.Goodbye: self._goodbye,
        }

    def _hello(self, connection: Connection, message: to_node.Hello) -> None:
        problem = self._hello_problem(message)
        if not problem and message.kind == "worker":
            process = self._processes.join(message.address, message.token, connection.pid)
            problem = "" if process is not None else "not a worker that this daemon started"
            job = self.jobs[process.job_id] if process is not None else None
        else:
            job = self._add_job(message) if not problem else None
        if problem or job is None:
            connection.send(from_node.Refused(problem))
            connection.flush()
            self._server.close(connection, f"refused: {problem}")
            return
        connection.welcomed(message.address, message.kind, job.job_id)
        arena_bytes, facts = self.objects.arena_bytes, {"labels": self.config.labels}
        directory = self.config.session_dir
        welcome = from_node.Welcome(directory, self.node_id, job.job_id, job.namespace, arena_bytes, facts)
        connection.send_with_fd(welcome, self.objects.arena_fd)
        self.objects.process_joined(message.address)
        if message.kind == "worker":
            self._schedule(sc.WorkerReady(message.address, self._processes.by_address[message.address].pid))
            return
        if not self._own_driver and (connection.pid or message.pid) == self.config.driver_pid:
            self._own_driver = message.address
        if message.preload:
            self._zygote.send(Preload(message.preload))
        self._schedule(sc.JobStarted(job.job_id))

    def _hello_problem(self, message: to_node.Hello) -> str:
        if message.version != VERSION:
            return f"the daemon speaks protocol version {VERSION}, the process {message.version}: install one release"
        if message.kind not in ("driver", "worker") or len(message.address) != ids.ADDRESS_BYTES:
            return "malformed Hello"
        if message.address in self._server.by_address:
            return "another process has that address"
        return ""

    def _add_job(self, message: to_node.Hello) -> Job:
        job = new_job(len(self.jobs) + 1, message)
        self.jobs[job.job_id] = job
        return job

    def _goodbye(self, connection: Connection, message: to_node.Goodbye) -> None:
        """A driver leaves; first it gets all that its workers have printed so far."""
        job = self.jobs[connection.job_id]
        if connection.kind == "driver":
            self._processes.read_output(job.job_id)
            self._send_logs(job)
            connection.finish(GOODBYE_SECONDS)
        self._server.close(connection)

    def _demand(self, connection: Connection, message: to_node.LeaseDemand) -> None:
        if message.spec is not None:
            connection.specs[message.cls] = (message.spec, message.name)
        known = connection.specs.get(message.cls)
        if known is None:
            self._server.close(connection, f"LeaseDemand for class {message.cls} before its spec")
            return
        spec, name = known
        self._schedule(
            sc.Demanded(
                connection.address,
                connection.job_id,
                message.cls,
                spec,
                message.backlog,
                message.depth,
                message.name or name,
            )
        )

    def _unblocked(self, connection: Connection, message: to_node.Unblocked) -> None:
        self._waits.go_on(connection.address)
        self._schedule(sc.WorkerUnblocked(connection.address))

    def _exiting(self, connection: Connection, message: to_node.Exiting) -> None:
        process = self._processes.by_address.get(connection.address)
        if process is not None:
            process.leaving = message.reason or "left on its own"
            self._schedule(sc.WorkerLeaving(connection.address))
            self._act(ac.Leaving(connection.address, message.reason))

    def _store(self, connection: Connection, message: Any) -> None:
        self.objects.handle(connection.address, message)

    def _get_named_actor(self, connection: Connection, message: to_node.GetNamedActor) -> None:
        info = self.actors.named(message.namespace, message.name)
        if info is None:
            reason = f"no actor named {message.name!r} in namespace {message.namespace!r}"
            connection.send(from_node.ActorReply(message.request, None, "missing", reason))
        else:
            connection.send(from_node.ActorReply(message.request, info))

    def _list_named_actors(self, connection: Connection, message: to_node.ListNamedActors) -> None:
        names = [pair for pair in self.actors.names if message.all_namespaces or pair[0] == message.namespace]
        connection.send(from_node.NamesReply(message.request, names))

    def _kill_worker(self, connection: Connection, message: to_node.KillWorker) -> None:
        worker = self.scheduler.pool.workers.get(message.address)
        if worker is not None and worker.lease is not None and worker.lease.holder == connection.address:
            self._end(message.address, DeathCause("killed", detail=message.reason, pid=worker.pid))

    def _create_group(self, connection: Connection, message: to_node.CreatePlacementGroup) -> None:
        identifier = message.placement_group_id
        event = sc.GroupCreated(
            identifier, message.name, message.strategy, message.bundles, connection.address, message.detached
        )
        problem = self.scheduler.groups.problem(identifier, message.name, message.strategy, message.bundles)
        if problem:
            connection.send(from_node.PlacementGroupReply(message.request, None, problem))
            return
        instructions = self.scheduler.handle(event, now=time.monotonic())
        connection.send(from_node.PlacementGroupReply(message.request, self.scheduler.groups.find(identifier)))
        self._perform(instructions)

    def _get_group(self, connection: Connection, message: to_node.GetPlacementGroup) -> None:
        info = self.scheduler.groups.find(message.placement_group_id, message.name)
        if info is not None:
            self._schedule(sc.GroupWatched(info.placement_group_id, connection.address))
        connection.send(from_node.PlacementGroupReply(message.request, info, "" if info is not None else "missing"))

    def _query(self, connection: Connection, message: to_node.Query) -> None:
        def reply(reports: list[Report]) -> None:
            connection.send(from_node.QueryReply(message.request, queries.answer(self, message.what, reports)))

        if message.what in queries.ASKED_OF_PROCESSES:
            self._inquiries.start(message.what, reply, time.monotonic())
        else:
            reply([])

    def _stall(self, connection: Connection, message: to_node.Stall) -> None:
        """Explain a long wait, if the reason is known here."""
        connection.send(from_node.StallReply(message.request))
        now = time.monotonic()
        if message.on:
            cycle = self._waits.wait(connection.address, message.on, now)
            if cycle:
                names = [self._name_of(address) for address in cycle]
                chain = ", ".join(f"{a} waits for {b}" for a, b in zip(names, names[1:] + names[:1], strict=True))
                self._warn(connection.address, f"deadlock: {chain}")
                return
        for request in self.scheduler.queue.of_asker(connection.address)[:EXPLAIN_LINES]:
            text = self.scheduler.explain_stall(request, now)
            if text:
                self._warn(connection.address, text)

    def _warn(self, address: bytes, text: str) -> None:
        """Tell the driver for which a process works; a worker could show a notice to nobody."""
        connection = self._server.by_address.get(address)
        if connection is not None:
            self._server.send(self.jobs[connection.job_id].address, from_node.Notice("warning", text))

    def _name_of(self, address: bytes) -> str:
        actor = self.actors.actors.get(self.actors.by_worker.get(address, b""))
        if actor is not None:
            spec = actor.spec
            return f"actor {spec.class_name}({spec.name or spec.actor_id.hex()[:8]})"
        process = self._processes.by_address.get(address)
        return f"the task in process {process.pid}" if process is not None else "the driver"
