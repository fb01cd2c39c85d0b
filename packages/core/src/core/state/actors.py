"""The actor table: every actor of the session, its state, its name, and what becomes of it when processes die.

::

    PENDING_CREATION ──placed, __init__ done──> ALIVE ──its process died, restarts left──> RESTARTING
           │                                      │                                           │  ^
           │                                      │                                placed, ready  │ died
           └──> DEAD <──────────────── no restarts left, killed, out of scope ────────────────┘

An actor is ended by its owner's death, by ``kill`` or because no handle is left; detached actors only by ``kill`` or
with the session. A worker that said it would leave (``exit_actor``) is not restarted. What remains of a dead actor is
a light record; the last :data:`DEAD_RECORDS` are kept.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from core.protocol.records import ActorInfo, ActorSpec, DeathCause
from core.state import actor_events as ev

#: How many dead actors are remembered.
DEAD_RECORDS = 5_000
#: Seconds an actor without handles may take for the calls it has and its exit handlers.
GRACE_SECONDS = 30.0
#: Seconds in which the creation of an actor that is watched must become known.
UNKNOWN_SECONDS = 2.0

PENDING, ALIVE, RESTARTING, DEAD = "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD"


class Actor(Struct, eq=False):
    """One actor that is not dead."""

    spec: ActorSpec
    job_id: bytes
    state: str = PENDING
    #: its process, from the moment it is chosen; empty while it waits for one
    worker: bytes = b""
    pid: int = 0
    gpu_ids: list[int] = []
    restarts: int = 0
    cause: DeathCause | None = None
    #: no restart follows, because of this
    ending: DeathCause | None = None


class ActorTable:
    """The control store's actors (see the module's docstring)."""

    def __init__(self) -> None:
        self.actors: dict[bytes, Actor] = {}
        #: final state of dead actors, oldest first
        self.dead: dict[bytes, ActorInfo] = {}
        #: (namespace, name) -> id, of actors that are not dead
        self.names: dict[tuple[str, str], bytes] = {}
        #: process -> the actor that runs in it
        self.by_worker: dict[bytes, bytes] = {}
        self._watchers: dict[bytes, set[bytes]] = {}
        #: owner -> its actors that die with it
        self._owned: dict[bytes, set[bytes]] = {}
        #: watched actors nobody created so far -> when to call them dead
        self._unknown: dict[bytes, float] = {}
        #: actors that are ending -> when their grace turns into SIGKILL (monotonic seconds)
        self._kill_at: dict[bytes, float] = {}
        #: when time alone will change something; None if never
        self.deadline: float | None = None
        self._handlers: dict[type, Callable[..., None]] = {
            ev.Create: self._create,
            ev.Placed: self._placed,
            ev.Refused: self._refused,
            ev.Ready: self._ready,
            ev.InitFailed: self._init_failed,
            ev.Leaving: self._leaving,
            ev.OutOfScope: self._out_of_scope,
            ev.Kill: self._kill,
            ev.Watch: self._watch,
            ev.Unwatch: self._unwatch,
            ev.ProcessGone: self._process_gone,
            ev.Tick: self._tick,
        }

    def handle(self, event: ev.Event, *, now: float) -> list[ev.Instruction]:
        """Take in one event; return what must be done, in order. ``now`` is in monotonic seconds."""
        out: list[ev.Instruction] = []
        self._handlers[type(event)](event, now, out)
        self.deadline = min((*self._unknown.values(), *self._kill_at.values()), default=None)
        return out

    # looking in

    def info(self, actor_id: bytes) -> ActorInfo | None:
        """Return the public state of an actor; None if it is not known (any more)."""
        actor = self.actors.get(actor_id)
        return _info(actor) if actor is not None else self.dead.get(actor_id)

    def named(self, namespace: str, name: str) -> ActorInfo | None:
        """Return the living actor of that name."""
        actor_id = self.names.get((namespace, name))
        return self.info(actor_id) if actor_id is not None else None

    def infos(self) -> list[ActorInfo]:
        """Return the state of every actor, the dead ones last."""
        return [*(_info(actor) for actor in self.actors.values()), *self.dead.values()]

    # creation

    def _create(self, event: ev.Create, now: float, out: list[ev.Instruction]) -> None:
        spec = event.spec
        key = (spec.namespace, spec.name)
        if spec.actor_id in self.actors or spec.actor_id in self.dead:
            out.append(ev.Reply(event.sender, event.request, self.info(spec.actor_id)))
            return
        taken = self.names.get(key) if spec.name else None
        if taken is not None:
            info = self.info(taken)
            error = "" if spec.get_if_exists else "exists"
            reason = f"an actor named {spec.name!r} exists already in namespace {spec.namespace!r}" if error else ""
            out.append(ev.Reply(event.sender, event.request, info, error, reason))
            return
        actor = self.actors[spec.actor_id] = Actor(spec, event.job_id)
        self._unknown.pop(spec.actor_id, None)
        if spec.name:
            self.names[key] = spec.actor_id
        if not spec.detached:
            self._owned.setdefault(spec.owner, set()).add(spec.actor_id)
        out.append(ev.Reply(event.sender, event.request, _info(actor)))
        self._changed(actor, out)
        out.append(_place(actor))

    def _placed(self, event: ev.Placed, now: float, out: list[ev.Instruction]) -> None:
        actor = self.actors.get(event.actor_id)
        if actor is None or actor.worker or actor.state not in (PENDING, RESTARTING):
            # Ended between the request and the answer.
            out.append(ev.KillProcess(event.address, DeathCause("killed", detail="the actor is gone", pid=event.pid)))
            return
        actor.worker, actor.pid, actor.gpu_ids = event.address, event.pid, event.gpu_ids
        self.by_worker[event.address] = event.actor_id
        out.append(ev.Start(event.address, actor.spec, actor.restarts, event.gpu_ids))

    def _refused(self, event: ev.Refused, now: float, out: list[ev.Instruction]) -> None:
        actor = self.actors.get(event.actor_id)
        if actor is not None:
            self._die(actor, DeathCause(event.kind, detail=event.reason), out)

    def _ready(self, event: ev.Ready, now: float, out: list[ev.Instruction]) -> None:
        actor = self._of_worker(event.worker, event.actor_id)
        if actor is not None and actor.state in (PENDING, RESTARTING):
            actor.state = ALIVE
            self._changed(actor, out)

    def _init_failed(self, event: ev.InitFailed, now: float, out: list[ev.Instruction]) -> None:
        actor = self._of_worker(event.worker, event.actor_id)
        if actor is None:
            return
        cause = DeathCause("intended", detail="__init__ raised an exception", pid=actor.pid)
        out.append(ev.KillProcess(actor.worker, cause))
        self._die(actor, cause, out, event.error)

    def _of_worker(self, worker: bytes, actor_id: bytes) -> Actor | None:
        actor = self.actors.get(actor_id)
        return actor if actor is not None and actor.worker == worker else None

    # the end

    def _leaving(self, event: ev.Leaving, now: float, out: list[ev.Instruction]) -> None:
        actor = self.actors.get(self.by_worker.get(event.worker, b""))
        if actor is not None and actor.ending is None:
            actor.ending = DeathCause("intended", detail=event.reason or "the actor left on its own", pid=actor.pid)

    def _out_of_scope(self, event: ev.OutOfScope, now: float, out: list[ev.Instruction]) -> None:
        actor = self.actors.get(event.actor_id)
        if actor is None or actor.ending is not None:
            return
        cause = DeathCause("intended", detail="no handle to the actor is left", pid=actor.pid)
        if not actor.worker:
            self._die(actor, cause, out)
            return
        actor.ending = cause
        self._kill_at[event.actor_id] = now + GRACE_SECONDS
        out.append(ev.End(actor.worker, cause.detail))

    def _kill(self, event: ev.Kill, now: float, out: list[ev.Instruction]) -> None:
        actor = self.actors.get(event.actor_id)
        if actor is not None:
            self._end_now(actor, event.reason, not event.no_restart, out)

    def _end_now(self, actor: Actor, reason: str, restart: bool, out: list[ev.Instruction]) -> None:
        cause = DeathCause("killed", detail=reason, pid=actor.pid)
        worker = actor.worker
        if worker:
            out.append(ev.KillProcess(worker, cause))
        if not restart:
            # Dead for everybody now; the process follows within a moment.
            self._die(actor, cause, out)

    def _process_gone(self, event: ev.ProcessGone, now: float, out: list[ev.Instruction]) -> None:
        address = event.address
        actor = self.actors.get(self.by_worker.pop(address, b""))
        if actor is not None and actor.worker == address:
            self._worker_died(actor, event.cause, out)
        for actor_id in sorted(self._owned.pop(address, ())):
            orphan = self.actors.get(actor_id)
            if orphan is not None:
                self._end_now(orphan, "the process that owns the actor is gone", False, out)
        for actor_id in [actor_id for actor_id, watchers in self._watchers.items() if address in watchers]:
            self._unwatch(ev.Unwatch(address, actor_id), now, out)

    def _worker_died(self, actor: Actor, cause: DeathCause, out: list[ev.Instruction]) -> None:
        limit = actor.spec.max_restarts
        actor.worker, actor.pid = b"", 0
        if actor.ending is not None or cause.kind == "intended" or (limit >= 0 and actor.restarts >= limit):
            self._die(actor, actor.ending or cause, out)
            return
        actor.restarts += 1
        actor.state = RESTARTING
        actor.cause = cause
        self._changed(actor, out)
        out.append(_place(actor))

    def _die(self, actor: Actor, cause: DeathCause, out: list[ev.Instruction], init_error: bytes = b"") -> None:
        spec = actor.spec
        if not actor.worker:
            out.append(ev.Withdraw(spec.actor_id))
        actor.state = DEAD
        actor.cause = cause
        info = _info(actor)
        info.address = info.methods = info.calling = b""
        info.init_error = init_error
        del self.actors[spec.actor_id]
        self._kill_at.pop(spec.actor_id, None)
        self.by_worker.pop(actor.worker, None)
        owned = self._owned.get(spec.owner)
        if owned is not None:
            owned.discard(spec.actor_id)
            if not owned:
                del self._owned[spec.owner]
        if spec.name and self.names.get((spec.namespace, spec.name)) == spec.actor_id:
            del self.names[spec.namespace, spec.name]
        self.dead[spec.actor_id] = info
        if len(self.dead) > DEAD_RECORDS:
            del self.dead[next(iter(self.dead))]
        self._tell(info, out)
        self._watchers.pop(spec.actor_id, None)

    # watching

    def _watch(self, event: ev.Watch, now: float, out: list[ev.Instruction]) -> None:
        actor_id = event.actor_id
        info = self.info(actor_id)
        if info is None:
            # The creator's message may be under way on another connection.
            self._unknown.setdefault(actor_id, now + UNKNOWN_SECONDS)
        else:
            out.append(ev.Update(frozenset((event.watcher,)), info))
        if actor_id not in self.dead:
            self._watchers.setdefault(actor_id, set()).add(event.watcher)

    def _unwatch(self, event: ev.Unwatch, now: float, out: list[ev.Instruction]) -> None:
        watchers = self._watchers.get(event.actor_id)
        if watchers is not None:
            watchers.discard(event.watcher)
            if not watchers:
                del self._watchers[event.actor_id]

    def _changed(self, actor: Actor, out: list[ev.Instruction]) -> None:
        self._tell(_info(actor), out)

    def _tell(self, info: ActorInfo, out: list[ev.Instruction]) -> None:
        watchers = self._watchers.get(info.actor_id)
        if watchers:
            out.append(ev.Update(frozenset(watchers), info))

    # time

    def _tick(self, event: ev.Tick, now: float, out: list[ev.Instruction]) -> None:
        for actor_id in [actor_id for actor_id, at in self._kill_at.items() if at <= now]:
            del self._kill_at[actor_id]
            actor = self.actors[actor_id]
            detail = f"did not leave within {GRACE_SECONDS:g} s after its last handle was gone"
            out.append(ev.KillProcess(actor.worker, DeathCause("killed", detail=detail, pid=actor.pid)))
        for actor_id in [actor_id for actor_id, at in self._unknown.items() if at <= now]:
            del self._unknown[actor_id]
            cause = DeathCause("killed", detail="the actor is unknown: it died long ago, or with its creator")
            self._tell(ActorInfo(actor_id, DEAD, cause=cause), out)
            self._watchers.pop(actor_id, None)

    def validate(self) -> None:
        """Check every invariant; used by tests after each event.

        Raises:
            AssertionError: one is broken.
        """
        for actor_id, actor in self.actors.items():
            spec = actor.spec
            assert actor.state in (PENDING, ALIVE, RESTARTING) and actor_id == spec.actor_id
            assert actor_id not in self.dead
            assert (actor.state == ALIVE) <= bool(actor.worker)
            assert not actor.worker or self.by_worker[actor.worker] == actor_id
            assert spec.max_restarts < 0 or actor.restarts <= spec.max_restarts
            assert not spec.name or self.names[spec.namespace, spec.name] == actor_id
            assert spec.detached or actor_id in self._owned[spec.owner]
            assert actor.ending is None or actor.worker, "an actor without a process is ending"
        for worker, actor_id in self.by_worker.items():
            assert self.actors[actor_id].worker == worker
        assert set(self.names.values()) <= set(self.actors)
        for owner, owned in self._owned.items():
            assert owned and all(self.actors[actor_id].spec.owner == owner for actor_id in owned)
        assert all(info.state == DEAD and not info.address for info in self.dead.values())
        assert len(self.dead) <= DEAD_RECORDS
        assert all(self._watchers.values()), "an actor that nobody watches was kept"
        assert self._watchers.keys() <= self.actors.keys() | self._unknown.keys()
        assert not self._unknown.keys() & (self.actors.keys() | self.dead.keys())
        assert all(self.actors[actor_id].ending is not None for actor_id in self._kill_at)
        assert self.deadline == min((*self._unknown.values(), *self._kill_at.values()), default=None)


def _place(actor: Actor) -> ev.Place:
    spec = actor.spec
    name = f"{spec.class_name}({spec.name})" if spec.name else spec.class_name
    return ev.Place(spec.actor_id, spec.owner, actor.job_id, spec.placement, spec.held, name)


def _info(actor: Actor) -> ActorInfo:
    spec = actor.spec
    alive = actor.state == ALIVE
    return ActorInfo(
        spec.actor_id,
        actor.state,
        actor.worker if alive else b"",
        actor.pid if alive else 0,
        actor.restarts,
        spec.class_name,
        spec.name,
        spec.namespace,
        spec.detached,
        spec.creation_object,
        spec.methods,
        spec.calling,
        actor.cause,
    )
