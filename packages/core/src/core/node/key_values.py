"""The control store's keys and values, served: messages in, answers out. Decisions are the state machine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.node.connections import Connection
from core.protocol import from_node, to_node
from core.state.key_values import Changed, Instruction, KeyValues


class KeyValueService:
    """Answers what processes ask about keys.

    Args:
        send: sends a message to the process of an address.
    """

    def __init__(self, send: Callable[[bytes, Any], None]) -> None:
        self._send = send
        self._store = KeyValues()
        #: by type of message, for the daemon's table
        self.handlers: dict[type, Callable[[Connection, Any], None]] = {
            to_node.KeyGet: self._get,
            to_node.KeyPut: self._put,
            to_node.KeyDelete: self._delete,
            to_node.KeyList: lambda c, m: c.send(from_node.KeyNames(m.request, self._store.keys(m.prefix))),
            to_node.KeyWatch: lambda c, m: self._perform(
                self._store.watch(c.address, m.watch, m.request, m.prefix, m.after)
            ),
            to_node.KeyUnwatch: lambda c, m: self._perform(self._store.unwatch(c.address, m.watch)),
            to_node.KeyTaken: lambda c, m: self._perform(
                self._store.when_taken(c.address, m.request, m.key, m.version)
            ),
        }

    def process_gone(self, address: bytes) -> None:
        """A process is gone."""
        self._perform(self._store.process_gone(address))

    def _perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Changed):
                message: Any = from_node.KeyChanges(instruction.request, instruction.changes, instruction.forgotten)
            else:
                message = from_node.KeyReply(instruction.request)
            self._send(instruction.to, message)

    def _get(self, connection: Connection, message: to_node.KeyGet) -> None:
        entry = self._store.get(message.key)
        if entry is None:
            connection.send(from_node.KeyReply(message.request))
        else:
            connection.send(from_node.KeyReply(message.request, entry.version, entry.value))

    def _put(self, connection: Connection, message: to_node.KeyPut) -> None:
        refusal = self._store.refusal(message.key, message.value)
        if refusal:
            connection.send(from_node.KeyReply(message.request, error="refused", reason=refusal))
        elif not self._conflicts(connection, message):
            instructions = self._store.put(message.key, message.value)
            connection.send(from_node.KeyReply(message.request, self._store.version))
            self._perform(instructions)

    def _delete(self, connection: Connection, message: to_node.KeyDelete) -> None:
        version = self._store.version_of(message.key)
        if not version:
            connection.send(from_node.KeyReply(message.request))
        elif not self._conflicts(connection, message):
            instructions = self._store.delete(message.key)
            connection.send(from_node.KeyReply(message.request, version))
            self._perform(instructions)

    def _conflicts(self, connection: Connection, message: to_node.KeyPut | to_node.KeyDelete) -> bool:
        version = self._store.version_of(message.key)
        if message.expected is None or message.expected == version:
            return False
        connection.send(from_node.KeyReply(message.request, version, error="conflict"))
        return True
