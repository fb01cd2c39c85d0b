"""Frames: whatever the cuts, the same messages; whatever the garbage, one clear error and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.protocol import framing, peer, to_node
from core.protocol.framing import ProtocolError

MESSAGES = [
    peer.PeerHello("1", b"a" * 12, 7),
    peer.Push(b"t" * 24, 3, b"args"),
    peer.Push(b"t" * 24, 3, b"", 2, peer.Extra(returns=2, name="n", gpu_ids=(0, 1))),
    peer.Call(b"c" * 24, "method", b"x"),
    peer.Result(b"t" * 24, b"value", 12),
    peer.Results(b"t" * 24, (peer.Value("e", b"blob"),), failed=True, retry=True),
    peer.Item(b"t" * 24, 4, peer.Value("s", size=100)),
    peer.Returned([b"t" * 24], True),
    peer.Borrow(1, [b"o" * 28]),
]


@given(chosen=st.lists(st.sampled_from(MESSAGES), max_size=20), cuts=st.lists(st.integers(1, 200), max_size=30))
def test_any_cutting_gives_the_same_messages(chosen: list[object], cuts: list[int]) -> None:
    stream = bytes(framing.encode(chosen[:7])) + bytes(framing.encode(chosen[7:]))
    decoder = framing.Decoder[object](peer.FromPeer)
    got: list[object] = []
    for size in cuts:
        got += decoder.feed(stream[:size])
        stream = stream[size:]
    got += decoder.feed(stream)
    assert got == chosen


@given(data=st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    decoder = framing.Decoder[object](to_node.ToNode, max_first=1000)
    try:
        messages = decoder.feed(data)
    except ProtocolError:
        return
    assert isinstance(messages, list)


def test_an_oversized_frame_is_refused_before_it_is_buffered() -> None:
    decoder = framing.Decoder[object](to_node.ToNode, max_first=100)
    with pytest.raises(ProtocolError, match="101 bytes; at most 100"):
        decoder.feed((101).to_bytes(4, "little"))


def test_only_the_first_frame_must_be_short() -> None:
    first, long = to_node.Query(1, "nodes"), to_node.Query(2, "x" * 200)
    decoder = framing.Decoder[object](to_node.ToNode, max_first=100)
    assert decoder.feed(framing.encode([first]) + framing.encode([long])) == [first, long]
    decoder = framing.Decoder[object](to_node.ToNode, max_first=100)
    with pytest.raises(ProtocolError, match="at most 100"):
        decoder.feed(framing.encode([]) + framing.encode([long]))  # nobody has said anything yet


def test_a_message_for_somebody_else_is_refused() -> None:
    decoder = framing.Decoder[object](to_node.ToNode)
    with pytest.raises(ProtocolError):
        decoder.feed(framing.encode([peer.Result(b"t" * 24, b"")]))
