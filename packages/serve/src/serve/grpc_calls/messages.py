"""Classes of protobuf messages: our own, in a pool of their own, and those of the user's generated modules."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from serve.errors import RayServeException
from serve.grpc_calls import descriptors

#: what stands in place of a module for messages of ours
OWN = "serve"


def need(module: str) -> Any:
    """Import a module of the extra ``grpc``.

    Raises:
        ImportError: it is not installed; the message says how to mend that.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ImportError(
            f"gRPC needs {error.name}, which is not installed: pip install 'skate-serve[grpc]'"
        ) from error


@functools.cache
def own_pool() -> Any:
    """Return the descriptors of our own messages, apart from those of other copies of the same protocol."""
    pool = need("google.protobuf.descriptor_pool").DescriptorPool()
    file_set = need("google.protobuf.descriptor_pb2").FileDescriptorSet
    for encoded in (descriptors.INFERENCE, descriptors.SERVE):
        for file in file_set.FromString(encoded).file:
            pool.AddSerializedFile(file.SerializeToString())
    return pool


@functools.cache
def own(name: str) -> Any:
    """Return the class of a message of ours: ``inference.ModelInferRequest``."""
    return need("google.protobuf.message_factory").GetMessageClass(own_pool().FindMessageTypeByName(name))


@functools.cache
def find(name: str, module: str) -> Any:
    """Return the class of a message, wherever it was defined.

    Args:
        name: its full name in protobuf.
        module: that defines it, as it says itself; imported if the message is not known here yet.

    Raises:
        RayServeException: no module here defines it.
    """
    if module == OWN:
        return own(name)
    pool = need("google.protobuf.descriptor_pool").Default()
    try:
        described = pool.FindMessageTypeByName(name)
    except KeyError:
        try:
            importlib.import_module(module)
            described = pool.FindMessageTypeByName(name)
        except (ImportError, KeyError) as error:
            raise RayServeException(
                f"the replica does not know the message {name}: import its generated module ({module}) in the module "
                "of the deployment"
            ) from error
    return need("google.protobuf.message_factory").GetMessageClass(described)
