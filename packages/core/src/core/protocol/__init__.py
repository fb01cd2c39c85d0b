"""The wire: every message two processes exchange, and how messages become bytes.

One module per receiver: :mod:`core.protocol.to_node` (what the node daemon accepts), :mod:`core.protocol.from_node`
(what drivers and workers accept from it), :mod:`core.protocol.peer` (what drivers and workers accept from each
other), :mod:`core.protocol.zygote` (what the zygote and the node exchange). :mod:`core.protocol.framing` turns lists
of messages into length-prefixed frames and back.
"""

#: Both ends of a connection must say the same in their ``Hello``. Changed with every incompatible message.
VERSION = "1"

#: Name of the daemon's socket in the session directory.
NODE_SOCKET = "node.sock"


def socket_name(address: bytes) -> str:
    """Return the name, in the session directory, of the socket of the driver or worker at ``address``."""
    return f"{address.hex()}.sock"
