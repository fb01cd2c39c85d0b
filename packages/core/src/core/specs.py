"""Small frozen records that options, protocol and state machines share: what a task or actor needs to run."""

from __future__ import annotations

from msgspec import Struct

#: Resource amounts are integers in units of 1/10,000, Ray's precision, so that sums are exact.
RESOURCE_UNIT = 10_000

#: A sorted tuple of (resource name, amount in units); hashable, so it can key scheduling classes.
Resources = tuple[tuple[str, int], ...]


class RuntimeEnv(Struct, array_like=True, frozen=True):
    """What a worker's process environment must look like beyond the job's own.

    Two tasks may share a worker only if their records are equal.
    """

    env_vars: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    #: directories put in front of ``sys.path``
    py_modules: tuple[str, ...] = ()


class Strategy(Struct, array_like=True, frozen=True):
    """Where a task or an actor may run."""

    #: "default", "spread", "node" or "placement_group"
    kind: str = "default"
    node_id: bytes = b""
    soft: bool = False
    placement_group: bytes = b""
    #: bundle index, -1 for any
    bundle: int = -1
    capture_child_tasks: bool = False


class LeaseSpec(Struct, array_like=True, frozen=True):
    """A scheduling class: tasks with equal specs may run on the same leased worker."""

    resources: Resources = ()
    runtime_env: RuntimeEnv = RuntimeEnv()
    strategy: Strategy = Strategy()


#: Ray's words for how far the scheduler has come with a group, by the state that engines tell of it.
SCHEDULING_STATES = {
    "PENDING": "NO_RESOURCES",
    "INFEASIBLE": "INFEASIBLE",
    "CREATED": "FINISHED",
    "REMOVED": "REMOVED",
}
