"""Answers to ``Query``: the node's state for people and for the API, in natural units and hexadecimal ids."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from msgspec import structs

from core import ids
from core.node.inquiries import Report
from core.protocol.records import ActorInfo, Json, PlacementGroupInfo
from core.specs import SCHEDULING_STATES
from core.state.resources import natural
from core.state.worker_pool import Worker

if TYPE_CHECKING:
    from core.node.service import NodeService


#: Asked of every process first: the daemon alone does not know it.
ASKED_OF_PROCESSES = frozenset({"tasks", "objects"})
#: Rows about tasks at most.
MAX_TASKS = 10_000


def answer(service: NodeService, what: str, reports: list[Report]) -> list[Json]:
    """Return the rows for ``what``; [] for a word that is not known.

    Args:
        service: the daemon.
        what: which rows.
        reports: what processes told, if they were asked.
    """
    if what == "tasks":
        return _tasks(service, reports)
    query = _QUERIES.get(what)
    return query(service) if query is not None else []


def _tasks(service: NodeService, reports: list[Report]) -> list[Json]:
    """Put together what submitters know of their tasks and what workers say they run; unfinished ones first."""
    running = {task.hex(): (report.address, since) for report in reports for task, since in report.message.running}
    rows = [row for report in reports for row in report.message.tasks]
    rows.sort(key=lambda row: row.end_time_ms is not None)
    del rows[MAX_TASKS:]
    for row in rows:
        found = running.get(row.task_id) if row.state == "SUBMITTED_TO_WORKER" else None
        if found is not None:
            address, since = found
            row.state = "RUNNING"
            row.start_time_ms = since
            row.worker_id = ids.worker_id(address).hex()
        if row.worker_pid is not None:
            row.node_id = service.node_id.hex()
    return [structs.asdict(row) for row in rows]


def _nodes(service: NodeService) -> list[Json]:
    config = service.config
    return [
        {
            "NodeID": service.node_id.hex(),
            "Alive": True,
            "NodeManagerAddress": config.node_ip,
            "NodeManagerHostname": socket.gethostname(),
            # Everything is local: no port is open.
            "NodeManagerPort": 0,
            "ObjectManagerPort": 0,
            "ObjectManagerPortSocketName": "",
            "ObjectStoreSocketName": service.socket_path,
            "RayletSocketName": service.socket_path,
            "MetricsExportPort": 0,
            "NodeName": config.node_name,
            "Resources": natural(service.scheduler.node.total),
            "Labels": {"ray.io/node-id": service.node_id.hex(), **config.labels},
            "DeathReason": 0,
            "DeathReasonMessage": "",
            "alive": True,
        }
    ]


def _cluster_resources(service: NodeService) -> list[Json]:
    return [_positive(service.scheduler.node.total)]


def _available_resources(service: NodeService) -> list[Json]:
    return [_positive(service.scheduler.node.available)]


def _positive(amounts: dict[str, int]) -> dict[str, Any]:
    return natural({name: amount for name, amount in amounts.items() if amount > 0})


def _actors(service: NodeService) -> list[Json]:
    return [_actor(service, info) for info in service.actors.infos()]


def _actor(service: NodeService, info: ActorInfo) -> Json:
    cause = info.cause
    return {
        "actor_id": info.actor_id.hex(),
        "class_name": info.class_name,
        "state": info.state,
        "name": info.name,
        "ray_namespace": info.namespace,
        "pid": info.pid,
        "address": info.address.hex(),
        "node_id": service.node_id.hex() if info.address else None,
        "job_id": info.creation_object[20:24].hex(),
        "num_restarts": info.restarts,
        "is_detached": info.detached,
        "death_cause": None if cause is None else {"kind": cause.kind, "detail": cause.detail, "pid": cause.pid},
    }


def _workers(service: NodeService) -> list[Json]:
    return [_worker(worker) for worker in service.scheduler.pool.workers.values()]


def _worker(worker: Worker) -> Json:
    lease = worker.lease
    allocation = lease.allocation if lease is not None else worker.allocation
    return {
        "worker_id": ids.worker_id(worker.address).hex(),
        "address": worker.address.hex(),
        "pid": worker.pid,
        "state": worker.state,
        "job_id": worker.key[1].hex(),
        "actor_id": worker.actor_id.hex() or None,
        "lease_holder": lease.holder.hex() if lease is not None else None,
        "resources": natural(allocation.amounts) if allocation is not None else {},
    }


def _placement_groups(service: NodeService) -> list[Json]:
    return [_group(service, info) for info in service.scheduler.groups.infos()]


def _group(service: NodeService, info: PlacementGroupInfo) -> Json:
    return {
        "placement_group_id": info.placement_group_id.hex(),
        "name": info.name,
        "strategy": info.strategy,
        "state": "PENDING" if info.state == "INFEASIBLE" else info.state,
        "stats": {"scheduling_state": SCHEDULING_STATES[info.state]},
        "is_detached": info.detached,
        "bundles": {str(index): natural(bundle.resources) for index, bundle in enumerate(info.bundles)},
        "bundles_to_node_id": {
            str(index): service.node_id.hex() if info.state == "CREATED" else "" for index in range(len(info.bundles))
        },
    }


def _objects(service: NodeService) -> list[Json]:
    return service.objects.list_objects()


def _session(service: NodeService) -> list[Json]:
    return [
        {
            "session_dir": service.config.session_dir,
            "node_id": service.node_id.hex(),
            "node_pid": os.getpid(),
            "zygote_pid": service.zygote_pid,
            "node_ip_address": service.config.node_ip,
            "jobs": [job.job_id.hex() for job in service.jobs.values()],
        }
    ]


_QUERIES = {
    "nodes": _nodes,
    "cluster_resources": _cluster_resources,
    "available_resources": _available_resources,
    "actors": _actors,
    "workers": _workers,
    "placement_groups": _placement_groups,
    "objects": _objects,
    "session": _session,
}
