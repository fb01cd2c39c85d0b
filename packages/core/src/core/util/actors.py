"""Questions about actors that the control store answers."""

from __future__ import annotations

from typing import Literal, overload

from core import current
from core.argument_checks import flag


@overload
def list_named_actors(all_namespaces: Literal[False] = False) -> list[str]: ...
@overload
def list_named_actors(all_namespaces: Literal[True]) -> list[dict[str, str]]: ...
def list_named_actors(all_namespaces: bool = False) -> list[str] | list[dict[str, str]]:
    """Return the names of the living named actors, detached or not.

    Args:
        all_namespaces: False gives the names in the current namespace; True gives all, each as
            ``{"name": ..., "namespace": ...}``.
    """
    all_namespaces = flag("all_namespaces", all_namespaces)
    names = current.require().list_named_actors(all_namespaces)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in names]
    return [name for _, name in names]
