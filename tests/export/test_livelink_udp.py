"""Live Link Face over UDP: packets against real ones, round trips, and a socket on this machine."""

import gzip
import socket
import struct

import numpy as np
import pytest
import torch

from avatar3d.errors import ExportError, FormatError
from avatar3d.export.livelink import livelink_channels
from avatar3d.export.livelink_udp import (
    PORT,
    LiveLinkSender,
    Packet,
    decode_packet,
    encode_packet,
    parse_address,
    stream_livelink,
)
from avatar3d.types import ARKIT_INDEX, Motion


def recorded(path):
    """Datagrams of a recording: a byte, their number, then length and content of each."""
    raw = gzip.open(path).read()
    (count,) = struct.unpack_from(">I", raw, 1)
    at = 5
    for _ in range(count):
        (length,) = struct.unpack_from(">I", raw, at)
        yield raw[at + 4 : at + 4 + length]
        at += 4 + length
    assert at == len(raw)


def moving(frames=5, fps=30.0):
    generator = torch.Generator().manual_seed(3)
    return Motion(fps=fps, expression=torch.rand(frames, 52, generator=generator),
                  rotations={"head": torch.randn(frames, 3, generator=generator) * 0.2})  # fmt: skip


def test_recorded_packets_are_understood_and_written_alike(data):
    values = np.load(data("motion/llv_dao_DERIVED.npz"))["values61"]
    packets = list(recorded(data("motion/llv_dao.gesichter")))
    assert len(packets) == len(values) == 180
    for raw, expected in zip(packets, values, strict=True):
        packet = decode_packet(raw)
        np.testing.assert_array_equal(packet.values.numpy(), expected.astype(np.float32))
        again = encode_packet(packet)
        # All but the clock is the same to the bit; a float32 of the part of a frame leaves some microseconds.
        assert len(again) == len(raw) == 320 and again[:59] == raw[:59] and again[67:] == raw[67:]
        assert decode_packet(again).seconds == pytest.approx(packet.seconds, abs=1e-4)
    times = [decode_packet(raw).seconds for raw in packets]
    assert np.diff(times).min() > 0 and np.median(np.diff(times)) == pytest.approx(1 / 60, rel=1e-2)


def test_a_motion_arrives_as_it_was_sent():
    motion = moving()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(2)
        now = [0.0]
        waits = []

        def sleep(seconds):
            waits.append(seconds)
            now[0] += seconds

        port = receiver.getsockname()[1]
        assert stream_livelink(motion, "127.0.0.1", port, subject="Ada", clock=lambda: now[0], sleep=sleep) == 5
        packets = [decode_packet(receiver.recv(2048)) for _ in range(5)]
    torch.testing.assert_close(torch.stack([p.values for p in packets]), livelink_channels(motion).float())
    assert {p.subject for p in packets} == {"Ada"} and len({p.device for p in packets}) == 1
    assert sum(waits) == pytest.approx(4 / 30) and len(waits) == 4  # in real time: the first frame leaves at once
    # Apple's order: jawLeft before jawRight
    assert packets[0].values[15] == motion.expression[0, ARKIT_INDEX["jawLeft"]]


def test_pieces_that_come_late_are_sent_at_once_and_time_goes_on():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        now, waits = [0.0], []

        def late():
            yield moving(2)
            now[0] += 5.0  # the microphone was muted
            yield moving(3)

        def sleep(seconds):
            waits.append(seconds)
            now[0] += seconds

        sent = stream_livelink(late(), "127.0.0.1", receiver.getsockname()[1], clock=lambda: now[0], sleep=sleep)
    assert sent == 5 and sum(waits) == pytest.approx(3 / 30)


def test_damaged_packets_are_refused():
    packet = Packet(device="d", subject="s", seconds=1.5, values=torch.rand(61))
    raw = encode_packet(packet)
    assert decode_packet(raw).seconds == 1.5
    for bad in (b"", raw[:40], raw[:-1], b"\x05" + raw[1:], raw[:1] + b"\xff\xff\xff\xff" + raw[5:]):
        with pytest.raises(FormatError, match="Live Link"):
            decode_packet(bad)
    with pytest.raises(ValueError, match="finite"):
        encode_packet(Packet(device="d", subject="s", seconds=0.0, values=torch.full((61,), torch.nan)))


def test_addresses():
    assert parse_address("localhost") == ("localhost", PORT)
    assert parse_address("10.0.0.2:54321") == ("10.0.0.2", 54321)
    for bad in ("", ":1", "host:", "host:port", "host:70000"):
        with pytest.raises(ValueError, match="address"):
            parse_address(bad)
    with pytest.raises(ExportError, match="reached"):
        LiveLinkSender("no.such.host.invalid")
