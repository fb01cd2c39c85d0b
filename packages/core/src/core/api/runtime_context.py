"""Facts about where the calling code runs: ``get_runtime_context``."""

from __future__ import annotations

from typing import Any

import msgspec

from core import current
from core.engine.base import Engine, RuntimeFacts
from core.refs import ActorHandle


class RuntimeContext:
    """Answers about the session, node, task and actor that the calling code belongs to. Ids are hexadecimal."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _facts(self) -> RuntimeFacts:
        return self._engine.facts()

    def get(self) -> dict[str, Any]:
        """Return the most used answers in one dictionary."""
        facts = self._facts
        context = {"job_id": facts.job_id, "node_id": facts.node_id, "namespace": facts.namespace}
        more = {"task_id": facts.task_id, "actor_id": facts.actor_id}
        return {**context, **{name: value for name, value in more.items() if value is not None}}

    def get_job_id(self) -> str:
        """Return the job's id, 8 digits."""
        return self._facts.job_id

    def get_node_id(self) -> str:
        """Return the id of this node, 56 digits."""
        return self._facts.node_id

    def get_worker_id(self) -> str:
        """Return the id of this process, 56 digits."""
        return self._facts.worker_id

    def get_session_name(self) -> str:
        """Return the name of the session, as in its directory."""
        return self._facts.session_name

    def get_temp_dir(self) -> str:
        """Return the directory of the session's files."""
        return self._facts.session_dir

    def get_task_id(self) -> str | None:
        """Return the id of the current task, 48 digits; None in a driver."""
        return self._facts.task_id

    def get_task_name(self) -> str | None:
        """Return the name of the current task: the option ``name``, or the function's; None in a driver."""
        return self._facts.task_name

    def get_task_function_name(self) -> str | None:
        """Return the qualified name of the current task's function; None in a driver."""
        return self._facts.task_function_name

    def get_actor_id(self) -> str | None:
        """Return the id of the current actor, 32 digits; None outside of actors."""
        return self._facts.actor_id

    def get_actor_name(self) -> str | None:
        """Return the name of the current actor, empty if it has none; None outside of actors."""
        return self._facts.actor_name

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group the current task runs in; None if it runs in none."""
        return self._facts.placement_group_id

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the resources that the current task or actor holds."""
        return self._facts.assigned_resources

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the ids of the accelerators assigned to the current task or actor, by kind."""
        return {"GPU": [str(number) for number in self._facts.gpu_ids]}

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Return the same as :meth:`get_accelerator_ids` (Ray's older name)."""
        return self.get_accelerator_ids()

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this node."""
        node_id = self._facts.node_id
        for node in self._engine.query("nodes"):
            if node.get("NodeID") == node_id:
                return dict(node.get("Labels") or {})
        return {}

    def get_runtime_env_string(self) -> str:
        """Return the runtime environment of the current task or job as JSON."""
        return msgspec.json.encode(self._facts.runtime_env).decode()

    def is_canceled(self) -> bool:
        """Tell whether the current task was cancelled and should end soon."""
        return self._facts.is_canceled

    @property
    def namespace(self) -> str:
        """The namespace of the session."""
        return self._facts.namespace

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The runtime environment of the current task or job."""
        return self._facts.runtime_env

    @property
    def gcs_address(self) -> str:
        """Address of the session's head."""
        session = self._engine.query("session")
        return str(session[0].get("gcs_address") or "") if session else ""

    @property
    def worker(self) -> RuntimeFacts:
        """All facts at once (Ray has its private worker object here)."""
        return self._facts

    @property
    def job_id(self) -> str:
        """Same as :meth:`get_job_id`."""
        return self.get_job_id()

    @property
    def node_id(self) -> str:
        """Same as :meth:`get_node_id`."""
        return self.get_node_id()

    @property
    def task_id(self) -> str | None:
        """Same as :meth:`get_task_id`."""
        return self.get_task_id()

    @property
    def actor_id(self) -> str | None:
        """Same as :meth:`get_actor_id`."""
        return self.get_actor_id()

    @property
    def current_placement_group_id(self) -> str | None:
        """Same as :meth:`get_placement_group_id`."""
        return self.get_placement_group_id()

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """A handle to the current actor.

        Raises:
            RuntimeError: outside of actors.
        """
        handle = self._engine.current_actor()
        if handle is None:
            raise RuntimeError("current_actor is only there inside of an actor")
        return handle

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the current actor was started again after its process died."""
        return self._facts.was_reconstructed

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks submitted here run in the current placement group."""
        return self._facts.capture_child_tasks


def get_runtime_context() -> RuntimeContext:
    """Return facts about where the calling code runs; starts a session if none runs."""
    return RuntimeContext(current.engine or current.require())
