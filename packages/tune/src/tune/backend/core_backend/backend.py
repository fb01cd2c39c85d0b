"""`CoreBackend`: trials in warm processes, slots, that serve one trial after another.

A slot is an actor of core in a placement group of the trial's resources. It keeps both between trials of the same
resources, and gives them back when it has been idle for a while or another shape needs the room. The driver and a slot
talk through long polls (`slot_actor`): what waits is awaited with one ``core.wait`` over all slots.

Everything happens in `poll`, in the controller's thread; a second thread keeps the limits (`limits`).
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from pathlib import Path
from typing import Any

import core
from core.exceptions import RayError
from tune.argument_checks import log_files
from tune.backend.base import TrialBackend
from tune.backend.core_backend import process_tree
from tune.backend.core_backend.deaths import OF_ONE_PROCESS, failure_of_death
from tune.backend.core_backend.limits import LimitWatch, Watched
from tune.backend.core_backend.placement import Place, Shape, capacity, fits
from tune.backend.core_backend.slot import Slot
from tune.messages import (
    Event,
    Launch,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialStarted,
    Verdict,
)
from tune.storage import ExperimentStorage, Storage
from tune.trial import FailureKind, ResourceRequest, TrialFailure
from tune.trial_process.output import tail
from tune.trial_process.runner import ProcessSettings
from tune.trial_process.slot_actor import Answer, Leave
from tune.trial_process.wire import ProcessSpoiled, SlotEvent, TrialUnreadable, TrialUnwinding, decode

#: Seconds that an idle slot keeps its process and resources.
IDLE_S = 5.0
#: Seconds that a trial has to end after it was told to.
STOP_GRACE_S = 30.0
#: Seconds that idle processes have at the end to clean up what they keep.
LEAVE_S = 1.0


class CoreBackend(TrialBackend):
    """See the module's docstring. Needs a running session of core.

    Args:
        trainable: a function of the configuration, or a `Trainable` class. Put into the object store once.
        storage: where the experiment is kept; None: `Launch.trial_dir` are local paths.
        reuse_actors: run trials in warm processes; False gives each trial a process of its own.
        log_to_file: files in the trial's directory for what it prints: True for ``stdout`` and ``stderr``, one name for
            both, or two names; False leaves it to the console.
        chdir_to_trial_dir: run trials in their own directories (Ray's default).
        export_formats: for class trainables that end well: passed to `Trainable.export_model`.
        stop_grace_s: seconds that a trial's code has to end once ``tune.report`` has told it to; then it is killed.
        idle_s: seconds that an idle process keeps its resources.

    Raises:
        TypeError: the trainable cannot be pickled, or `log_to_file` is none of these.
    """

    def __init__(
        self,
        trainable: Any,
        storage: ExperimentStorage | None = None,
        *,
        reuse_actors: bool = True,
        log_to_file: bool | str | tuple[str, str] = False,
        chdir_to_trial_dir: bool = True,
        export_formats: tuple[str, ...] = (),
        stop_grace_s: float = STOP_GRACE_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._settings = ProcessSettings(storage, log_files(log_to_file), chdir_to_trial_dir, export_formats)
        self._reference = core.put(trainable)
        self._storage = storage
        self._reuse = reuse_actors
        self._stop_grace_s = stop_grace_s
        self._idle_s = idle_s
        self._numbers = itertools.count()
        self._slots: list[Slot] = []
        #: launches that no slot could take yet
        self._queue: deque[Launch] = deque()
        #: events for the next poll
        self._events: list[Event] = []
        self._limits = LimitWatch()
        self._closed = False

    # -- TrialBackend -----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time()

    def capacity(self, request: ResourceRequest) -> int:
        """Return how many such trials could run at once on an empty cluster; 0 if not even one."""
        return capacity(request, [node["Resources"] for node in core.nodes() if node["Alive"]])

    def cluster(self) -> dict[str, float]:
        """Return the resources of the whole cluster, by name, used or not."""
        return core.cluster_resources()

    def start(self, launch: Launch) -> None:
        """Start a trial, or go on with one."""
        self._queue.append(launch)
        self._place_queued()

    def answer(self, trial_id: str, verdict: Verdict) -> None:
        """Answer a trial that waits; to one that runs, say so at its next result."""
        slot = self._slot_of(trial_id)
        if slot is not None and slot.launch is not None:
            slot.order(Answer(trial_id, slot.launch.attempt, verdict, slot.waiting))
            slot.waiting = False

    def kill(self, trial_id: str) -> None:
        """End a trial without asking it."""
        for launch in self._queue:
            if launch.trial_id == trial_id:
                self._queue.remove(launch)
                self._events.append(TrialReturned(trial_id, launch.attempt, stopped=True))
                return
        slot = self._slot_of(trial_id)
        if slot is not None and slot.launch is not None:
            self._events.append(TrialReturned(trial_id, slot.launch.attempt, stopped=True))
            self._replace(slot)

    def poll(self, timeout: float | None) -> list[Event]:
        """Wait up to `timeout` seconds for events and return all there are."""
        for slot in self._slots:
            slot.exchange()
        if not self._events and self._slots:
            self._wait(timeout)
        elif not self._events and timeout is not None:
            time.sleep(timeout)
        events, self._events = self._events, []
        return events

    def delete_checkpoint(self, trial_dir: str, name: str) -> None:
        """Delete a checkpoint from the storage."""
        if self._storage is not None:
            self._storage.delete_checkpoint(trial_dir, name)
        else:
            Storage(trial_dir).child(name).delete()

    def close(self) -> None:
        """End everything that still runs and give all resources back."""
        if self._closed:
            return
        self._closed = True
        self._limits.close()
        idle = [slot for slot in self._slots if slot.launch is None and not slot.spoiled]
        for slot in idle:
            slot.order(Leave())
            slot.exchange()
        if idle:
            lives = [slot.life for slot in idle]
            core.wait(lives, num_returns=len(lives), timeout=LEAVE_S)
        for slot in list(self._slots):
            self._dispose(slot)
        self._queue.clear()

    # -- slots ------------------------------------------------------------------------------------------------------

    def _slot_of(self, trial_id: str) -> Slot | None:
        return next((s for s in self._slots if s.launch is not None and s.launch.trial_id == trial_id), None)

    def _place_queued(self) -> None:
        """Give the launches that wait to slots, as far as there is room, in order."""
        while self._queue:
            slot = self._slot_for(Shape.of(self._queue[0].bundles, self._queue[0].strategy))
            if slot is None:
                return
            slot.start(self._queue.popleft())
            slot.exchange()

    def _slot_for(self, shape: Shape) -> Slot | None:
        """Return an idle slot or a new one; None if there is no room."""
        idle = [slot for slot in self._slots if slot.launch is None]
        for slot in idle:
            if slot.place.shape == shape:
                return slot
        total = core.cluster_resources()
        while not fits(shape.total, self._held(), total):
            if not idle:
                # What does not fit on an empty cluster is core's to complain about.
                return None if self._slots else self._new_slot(Place(shape))
            self._dispose(idle.pop(0))
        return self._new_slot(Place(shape))

    def _held(self) -> dict[str, float]:
        held: dict[str, float] = {}
        for slot in self._slots:
            for name, amount in slot.place.shape.total.items():
                held[name] = held.get(name, 0.0) + amount
        return held

    def _new_slot(self, place: Place) -> Slot:
        slot = Slot(next(self._numbers), place, ([self._reference], self._settings))
        self._slots.append(slot)
        return slot

    def _dispose(self, slot: Slot) -> None:
        """End a slot's process and give its resources back."""
        self._end_process(slot)
        slot.place.give_back()

    def _replace(self, slot: Slot) -> None:
        """End a slot's process and start another in its place."""
        self._end_process(slot)
        fresh = self._new_slot(slot.place)
        fresh.idle_since = time.monotonic()
        self._place_queued()

    def _end_process(self, slot: Slot) -> None:
        self._limits.release(slot.number)
        self._slots.remove(slot)
        if slot.pid:
            process_tree.kill_descendants(slot.pid)
        slot.kill()

    def _drop_idle(self) -> float | None:
        """Give back what has been idle for long; return in how many seconds to look again, None for never."""
        now = time.monotonic()
        soonest: float | None = None
        for slot in [slot for slot in self._slots if slot.launch is None]:
            left = slot.idle_since + self._idle_s - now
            if left <= 0:
                self._dispose(slot)
            else:
                soonest = left if soonest is None else min(soonest, left)
        return soonest

    # -- events -----------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> None:
        """Wait for slots and take what they say. Comes back without an event at the timeout, or when it must look."""
        look = self._drop_idle()
        if not self._slots:
            return
        if look is not None:
            timeout = look if timeout is None else min(timeout, look)
        by_reference = {slot.awaited: slot for slot in self._slots}
        references = list(by_reference)
        ready, others = core.wait(references, num_returns=1, timeout=timeout)
        if ready and others:
            ready += core.wait(others, num_returns=len(others), timeout=0)[0]
        for reference in ready:
            self._receive(by_reference[reference])
        self._place_queued()

    def _receive(self, slot: Slot) -> None:
        try:
            data = core.get(slot.awaited)
        except OF_ONE_PROCESS as error:
            self._died(slot, error)
            return
        if not slot.calls:  # it left, as it was told
            self._dispose(slot)
            return
        slot.calls.popleft()
        for event in decode(data):
            self._handle(slot, event)
        if slot in self._slots and not slot.waiting:
            # The next poll is under way while the controller is busy with what came.
            slot.exchange()

    def _died(self, slot: Slot, error: RayError) -> None:
        launch = slot.launch
        reason = self._limits.release(slot.number)
        if launch is not None:
            words = (
                "" if self._settings.log_files is None else tail(self._local_dir(launch) / self._settings.log_files[1])
            )
            failure = reason or failure_of_death(error, words)
            self._events.append(TrialFailed(launch.trial_id, launch.attempt, failure))
        self._dispose(slot)

    def _handle(self, slot: Slot, event: SlotEvent) -> None:
        if isinstance(event, ProcessSpoiled):
            slot.spoiled = True
            return
        launch = slot.launch
        if launch is None or not slot.runs(event.trial_id, event.attempt):
            return
        match event:
            case TrialStarted():
                self._started(slot, launch, event)
            case TrialUnwinding():
                self._limits.set_deadline(slot.number, slot.pid, self._stop_grace_s, _deaf(self._stop_grace_s))
                return
            case TrialUnreadable():
                failure = TrialFailure(FailureKind.UNPICKLABLE, "UnpicklingError", event.message)
                self._events.append(TrialFailed(event.trial_id, event.attempt, failure))
                self._replace(slot)
                return
            case TrialReported():
                slot.waiting = event.waiting
            case TrialReturned() | TrialPaused() | TrialFailed():
                self._ended(slot)
            case _:
                pass
        self._events.append(event)

    def _started(self, slot: Slot, launch: Launch, event: TrialStarted) -> None:
        slot.pid = event.pid
        limit = launch.time_limit_s
        if limit is None and launch.memory_limit is None:
            return
        late = TrialFailure(
            FailureKind.TIMEOUT, "TimeoutError", f"the trial ran longer than its time limit of {limit} s"
        )
        deadline = None if limit is None else time.monotonic() + limit
        self._limits.watch(slot.number, Watched(event.pid, deadline, late, launch.memory_limit))

    def _ended(self, slot: Slot) -> None:
        """The attempt is over, and the process alive, unless it was killed for a limit this very moment."""
        slot.launch = None
        slot.waiting = False
        slot.idle_since = time.monotonic()
        killed = self._limits.release(slot.number) is not None
        if killed or slot.spoiled or not self._reuse:
            self._replace(slot)

    def _local_dir(self, launch: Launch) -> Path:
        return Path(launch.trial_dir) if self._storage is None else self._storage.trial(launch.trial_dir)[1]


def _deaf(seconds: float) -> TrialFailure:
    return TrialFailure(
        FailureKind.TIMEOUT,
        "TimeoutError",
        f"the trial did not end within {seconds:g} s after it was told to: does it catch TrialStopped (except: or "
        "except BaseException:), or take long in a finally block?",
    )
