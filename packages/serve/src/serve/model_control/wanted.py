"""The models that are wanted of a deployment, in the control store."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core.util import kv
from serve.specs import DeploymentID

#: keys begin with it
PREFIX = "serve/models/"

#: model -> number of the order; a later one has a greater number
Wanted = dict[str, int]
_decoder = msgspec.msgpack.Decoder(tuple[int, Wanted])


def key_of(deployment: DeploymentID) -> str:
    """Return the key of a deployment."""
    return f"{PREFIX}{deployment.app}/{deployment.name}"


def decode(value: bytes | None) -> Wanted:
    """Return what a value says."""
    return {} if value is None else _decoder.decode(value)[1]


def add(deployment: DeploymentID, model_id: str) -> int:
    """Want a model, and return the number of the order: of the one before, if it is wanted already."""
    return _change(deployment, lambda number, wanted: wanted if model_id in wanted else {**wanted, model_id: number})[
        model_id
    ]


def again(deployment: DeploymentID, model_id: str) -> int:
    """Want a model anew, after it could not be loaded, and return the number of the order."""
    return _change(deployment, lambda number, wanted: {**wanted, model_id: number})[model_id]


def remove(deployment: DeploymentID, model_id: str) -> None:
    """Want a model no more."""
    _change(deployment, lambda _, wanted: {name: order for name, order in wanted.items() if name != model_id})


def read(deployment: DeploymentID) -> Wanted:
    """Return what is wanted of a deployment."""
    entry = kv.get(key_of(deployment))
    return decode(None if entry is None else entry.value)


def forget(app: str) -> None:
    """Forget what was wanted of an application: it was deleted."""
    for key in kv.keys(f"{PREFIX}{app}/"):
        kv.delete(key)


def _change(deployment: DeploymentID, change: Callable[[int, Wanted], Wanted]) -> Wanted:
    key = key_of(deployment)
    while True:
        entry = kv.get(key)
        number, wanted = (0, {}) if entry is None else _decoder.decode(entry.value)
        changed = change(number + 1, wanted)
        if changed == wanted:
            return wanted
        try:
            version = 0 if entry is None else entry.version
            kv.put(key, msgspec.msgpack.encode((number + 1, changed)), expected_version=version)
        except kv.VersionConflictError:
            continue
        return changed
