"""What is wanted, kept in the control store, so that a restarted controller wants the same.

There is one record for each application, written before its orders are answered and whenever its machine comes to a
decision; the revisions that can be gone back to; and one record for each replica, written before it starts. Code is
kept once for all revisions that share it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import msgspec

from core.util import kv
from serve.controller import chunks
from serve.specs import DESIRED_PREFIX, REPLICA_PREFIX, ApplicationSpec, DeploymentSpec, Traffic
from serve.state.application import Application

T = TypeVar("T")
_REVISIONS = "serve/revisions/"
_BLOBS = "serve/blob/"


class AppRecord(msgspec.Struct, frozen=True):
    """An application as its machine knows it. Blobs are replaced by their digests."""

    spec: ApplicationSpec
    good: ApplicationSpec | None
    rejected: tuple[int, str] | None
    deleting: bool
    served: tuple[int, ...]
    candidate: tuple[ApplicationSpec, Traffic] | None
    #: how many replicas each deployment was to have
    wanted: dict[str, int]


class ReplicaRecord(msgspec.Struct, frozen=True):
    """A replica as it was started, without its code."""

    spec: DeploymentSpec
    serve_http: bool
    #: it accepts clients itself
    direct: bool


class Desired:
    """The records in the control store (see the module's docstring)."""

    def __init__(self) -> None:
        #: what is stored of each application, to see what is new
        self._stored: dict[str, tuple[object, ...]] = {}
        #: digests of the code that is stored, and of which specs need it, by application
        self._blobs: set[str] = set()
        self._needed: dict[str, set[str]] = {}

    # -- applications --------------------------------------------------------------------------------------------------

    def save(self, app: Application, revisions: list[ApplicationSpec]) -> None:
        """Write an application's records, if anything has changed."""
        name = app.spec.name
        beside = None if app.candidate is None else (app.candidate.spec, app.candidate.traffic)
        wanted = {key: machine.wanted for key, machine in app.deployments.items()}
        now = (app.spec, app.good, app.rejected, app.deleting, tuple(app.served), beside, wanted, revisions)
        if self._stored.get(name) == now:
            return
        specs = [each for each in (app.spec, app.good, *(beside or ())[:1], *revisions) if each is not None]
        self._keep_blobs(name, specs)
        if name not in self._stored or self._stored[name][-1] != revisions:
            kv.put(_REVISIONS + quote(name, safe=""), _pack([_strip(spec) for spec in revisions]))
        record = AppRecord(
            _strip(app.spec),
            None if app.good is None else _strip(app.good),
            app.rejected,
            app.deleting,
            tuple(app.served),
            None if beside is None else (_strip(beside[0]), beside[1]),
            wanted,
        )
        kv.put(DESIRED_PREFIX + quote(name, safe=""), _pack(record))
        self._stored[name] = now
        self._drop_blobs()

    def forget(self, name: str) -> None:
        """Forget an application that is gone."""
        kv.delete(DESIRED_PREFIX + quote(name, safe=""))
        kv.delete(_REVISIONS + quote(name, safe=""))
        self._stored.pop(name, None)
        self._needed.pop(name, None)
        self._drop_blobs()

    def load(self) -> list[tuple[AppRecord, list[ApplicationSpec]]]:
        """Return what is stored: each application and its revisions, newest first."""
        self._blobs = {key.removeprefix(_BLOBS).partition("/")[0] for key in kv.keys(_BLOBS)}
        code = {digest: chunks.get(_BLOBS + digest) for digest in self._blobs}
        found = []
        for key in kv.keys(DESIRED_PREFIX):
            record = _read(key, AppRecord)
            if record is None:
                continue
            revisions = _read(_REVISIONS + key.removeprefix(DESIRED_PREFIX), list[ApplicationSpec]) or []
            specs = [_whole(spec, code) for spec in revisions]
            beside = record.candidate
            whole = msgspec.structs.replace(
                record,
                spec=_whole(record.spec, code),
                good=None if record.good is None else _whole(record.good, code),
                candidate=None if beside is None else (_whole(beside[0], code), beside[1]),
            )
            found.append((whole, specs))
        return found

    def _keep_blobs(self, name: str, specs: list[ApplicationSpec]) -> None:
        blobs = {_digest(each.blob): each.blob for spec in specs for each in spec.deployments}
        for digest, blob in blobs.items():
            if digest not in self._blobs:
                chunks.put(_BLOBS + digest, blob)
                self._blobs.add(digest)
        self._needed[name] = set(blobs)

    def _drop_blobs(self) -> None:
        for digest in self._blobs.difference(*self._needed.values()):
            chunks.delete(_BLOBS + digest)
            self._blobs.discard(digest)

    # -- replicas ------------------------------------------------------------------------------------------------------

    @staticmethod
    def save_replica(replica_id: str, record: ReplicaRecord) -> None:
        """Note a replica that is about to start, or has new options."""
        bare = msgspec.structs.replace(record, spec=msgspec.structs.replace(record.spec, blob=b""))
        kv.put(REPLICA_PREFIX + replica_id, _pack(bare))

    @staticmethod
    def forget_replica(replica_id: str) -> None:
        """Forget a replica that is gone."""
        kv.delete(REPLICA_PREFIX + replica_id)

    @staticmethod
    def load_replicas() -> dict[str, ReplicaRecord]:
        """Return the replicas that were started, by id."""
        records = ((key, _read(key, ReplicaRecord)) for key in kv.keys(REPLICA_PREFIX))
        return {key.removeprefix(REPLICA_PREFIX): record for key, record in records if record is not None}


def _strip(spec: ApplicationSpec) -> ApplicationSpec:
    deployments = (msgspec.structs.replace(each, blob=_digest(each.blob).encode()) for each in spec.deployments)
    return msgspec.structs.replace(spec, deployments=tuple(deployments))


def _whole(spec: ApplicationSpec, code: Mapping[str, bytes]) -> ApplicationSpec:
    deployments = (msgspec.structs.replace(each, blob=code[each.blob.decode()]) for each in spec.deployments)
    return msgspec.structs.replace(spec, deployments=tuple(deployments))


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()[:32]


def _pack(record: object) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(record), 1)


def _read(key: str, kind: type[T]) -> T | None:
    entry = kv.get(key)
    return None if entry is None else msgspec.msgpack.decode(zlib.decompress(entry.value), type=kind)
