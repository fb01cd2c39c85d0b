"""Keeps the numbers of replicas at what the load asks for: measures, asks the machines, and is woken from zero.

A process whose request finds a deployment without replicas says so under `WAKE_PREFIX` in the control store; that
brings the first replica at once, without waiting for the next measurement.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import inspect
import logging
import pickle
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.exceptions import RayError
from core.util import kv
from serve.config import PICKLED, AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from serve.controller.collector import PERIOD_S, Collector
from serve.handle.local_router import WAKE_PREFIX
from serve.state.application import Application
from serve.state.autoscaling import Autoscaler, Load
from serve.state.deployment import Deployment

logger = logging.getLogger("serve")


@dataclass
class _Scaled:
    """A deployment and its machine."""

    #: the options as they were given, to notice a change
    options: dict[str, Any]
    scaler: Autoscaler
    due: float = 0.0
    #: what the user's policy remembers
    memory: dict[str, Any] = field(default_factory=dict)
    queued: int = 0
    #: the policy raised when it was asked last
    broken: bool = False


class Autoscaling:
    """See the module's docstring. All methods run on the controller's event loop.

    Args:
        apps: the applications by name.
        collector: knows how much there is to do.
        changed: called after a number has changed, for the machines to be asked.
    """

    def __init__(self, apps: Mapping[str, Application], collector: Collector, changed: Callable[[], None]) -> None:
        self._apps = apps
        self._collector = collector
        self._changed = changed
        self._scaled: dict[str, _Scaled] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def look(self) -> None:
        """Begin to work, once there is a deployment that asks for it."""
        if not self._tasks and any(True for _ in self._deployments()):
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._run()), loop.create_task(self._listen())]

    def close(self) -> None:
        """Scale no more."""
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        while True:
            intervals = [each.scaler.config.metrics_interval_s for each in self._scaled.values()]
            interval = min(intervals, default=PERIOD_S)
            await asyncio.sleep(interval)
            if interval < PERIOD_S:
                await self._collector.ask()
            self.decide(time.monotonic())

    async def _listen(self) -> None:
        with contextlib.suppress(RayError), kv.watch(WAKE_PREFIX, after_version=None) as changes:
            async for change in changes:
                self.wake(change.key.removeprefix(WAKE_PREFIX))

    def _deployments(self) -> Iterator[Deployment]:
        for app in self._apps.values():
            if not app.deleting:
                yield from (each for each in app.deployments.values() if _options(each) is not None)

    def _of(self, machine: Deployment) -> _Scaled:
        """Return what is known of a deployment, after its options and its number were looked at again."""
        options = _options(machine)
        assert options is not None, "only deployments with an autoscaling_config are scaled"
        key = str(machine.id)
        scaled = self._scaled.get(key)
        if scaled is None or scaled.options != options:
            config = AutoscalingConfig.model_validate(options)
            if scaled is None:
                scaled = self._scaled[key] = _Scaled(options, Autoscaler(config, machine.wanted))
            scaled.options = options
            scaled.scaler.change(config)
            scaled.scaler.desire = self._desire(machine, scaled, config)
        scaled.scaler.wanted = machine.wanted
        return scaled

    def wake(self, deployment: str) -> None:
        """A request waits for a deployment that may have no replica: start one."""
        for machine in self._deployments():
            if str(machine.id) == deployment and machine.wanted == 0:
                scaled = self._of(machine)
                now = time.monotonic()
                scaled.scaler.measured(Load(queued=1), now)
                self._resize(machine, scaled.scaler.decide(now))

    def decide(self, now: float) -> None:
        """Measure all deployments whose time has come, and bring them to the number they should have."""
        machines = {str(machine.id): machine for machine in self._deployments()}
        for gone in self._scaled.keys() - machines.keys():
            del self._scaled[gone]
        for machine in machines.values():
            scaled = self._of(machine)
            if now < scaled.due or machine.failed:
                continue
            scaled.due = now + scaled.scaler.config.metrics_interval_s * 0.9
            load = self._collector.load(machine.id)
            scaled.queued = load.queued
            # a second revision's replicas are not this machine's to change
            ongoing = sum(number for name, number in load.replicas.items() if name in machine.replicas)
            scaled.scaler.measured(Load(ongoing, load.queued, load.handled), now)
            try:
                wanted = scaled.scaler.decide(now)
            except Exception as error:  # the user's policy; the number stays
                text = "".join(traceback.format_exception(error))
                machine.message = f"the autoscaling policy failed, the number of replicas stays: {text}"
                logger.warning("the autoscaling policy of %s failed", machine.id, exc_info=error)
                scaled.broken = True
                continue
            if scaled.broken:
                scaled.broken = False
                machine.message = ""
            if machine.wanted and not machine.proven:
                wanted = max(1, wanted)  # a version shows that it can start before it may sleep
            self._resize(machine, wanted)

    def _resize(self, machine: Deployment, wanted: int) -> None:
        if wanted != machine.wanted:
            logger.info("deployment %s goes from %d to %d replicas", machine.id, machine.wanted, wanted)
            machine.resize(wanted)
            self._changed()

    def _desire(
        self, machine: Deployment, scaled: _Scaled, config: AutoscalingConfig
    ) -> Callable[[float], float] | None:
        """Return what takes the place of the load's own wish: the user's policy."""
        if config.policy is None:
            return None
        policy: Callable[[AutoscalingContext], Any] | None = None
        asked = config.policy

        def desire(average: float) -> float:
            nonlocal policy
            if policy is None:
                policy = load_policy(asked)
            running = [replica.replica_id for replica in machine.running]
            answer = policy(
                AutoscalingContext(
                    machine.id.name,
                    machine.id.app,
                    len(running),
                    machine.wanted,
                    running,
                    average,
                    float(scaled.queued),
                    config,
                    scaled.memory,
                    time.monotonic(),
                    self._collector.stats(machine.id),
                )
            )
            if isinstance(answer, tuple):
                answer, scaled.memory = answer
            return float(answer)

        return desire


def load_policy(policy: AutoscalingPolicy) -> Callable[[AutoscalingContext], Any]:
    """Return the user's function (or the instance of his class).

    Raises:
        Exception: whatever its import raises.
    """
    name: str = policy.policy_function
    if name.startswith(PICKLED):
        found: Any = pickle.loads(base64.b64decode(name.removeprefix(PICKLED)))
    else:
        module, _, attribute = name.rpartition(":" if ":" in name else ".")
        found = getattr(importlib.import_module(module), attribute)
    if inspect.isclass(found):
        found = found(**policy.policy_kwargs)
    loaded: Callable[[AutoscalingContext], Any] = found
    return loaded


def _options(machine: Deployment) -> dict[str, Any] | None:
    options: dict[str, Any] | None = machine.spec.config.get("autoscaling_config") if machine.spec is not None else None
    return options
