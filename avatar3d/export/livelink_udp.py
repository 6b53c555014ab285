"""Motion -> Live Link Face packets over UDP, as the app sends them: what Unreal and Unity take live.

A packet is one datagram, all numbers big-endian: version 6 (1 byte); device id and subject name (32-bit length,
UTF-8); frame number (32 bit), sub-frame (float32), rate as numerator and denominator (32 bit each); the number of
values (1 byte, 61); the values (float32): 52 shapes in Apple's order, which is that of Unreal's `EARFaceBlendShape`
(the app's CSV has right before left for jaw and mouth, its packets have not), then yaw, pitch and roll of head, left
and right eye.
"""

import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import ExportError, FormatError, UsageError
from avatar3d.export.livelink import livelink_channels
from avatar3d.models.livelink import TIMECODE_BASE
from avatar3d.types import Motion
from avatar3d.typing import typed

PORT = 11111
"""Where Unreal's Live Link listens."""
VERSION = 6
_CHANNELS = 61


@dataclass(frozen=True, kw_only=True)
class Packet:
    """One frame as it travels."""

    device: str
    """Identifies the sender."""
    subject: str
    """Name under which an engine lists it."""
    seconds: float
    """Time of the frame on the sender's clock."""
    values: Float[Tensor, "61"]
    """52 shapes in Apple's order, then nine angles in radians."""


@typed
def encode_packet(packet: Packet) -> bytes:
    """One datagram.

    Raises:
        ValueError: values that are not finite.
    """
    if not bool(packet.values.isfinite().all()):
        raise ValueError("A Live Link packet holds finite values only; the motion has others.")
    ticks = packet.seconds * TIMECODE_BASE
    frame = int(ticks + 1e-9)
    texts = b"".join(struct.pack(">I", len(t)) + t for t in (packet.device.encode(), packet.subject.encode()))
    clock = struct.pack(">IfII", frame & 0xFFFFFFFF, max(0.0, ticks - frame), TIMECODE_BASE, 1)
    values = struct.pack(f">B{_CHANNELS}f", _CHANNELS, *packet.values.tolist())
    return bytes([VERSION]) + texts + clock + values


@typed
def decode_packet(data: bytes) -> Packet:
    """What a datagram says.

    Raises:
        FormatError: it is no Live Link Face packet.
    """
    try:
        if data[0] != VERSION:
            raise FormatError(f"A Live Link Face packet of version {data[0]}; expected {VERSION}.")
        at, texts = 1, []
        for _ in range(2):
            (length,) = struct.unpack_from(">I", data, at)
            if length > len(data):
                raise FormatError(f"No Live Link Face packet: a name of {length} bytes in {len(data)}.")
            texts.append(data[at + 4 : at + 4 + length].decode())
            at += 4 + length
        frame, part, numerator, denominator = struct.unpack_from(">IfII", data, at)
        count = data[at + 16]
        values = struct.unpack_from(f">{count}f", data, at + 17)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise FormatError(f"No Live Link Face packet: {len(data)} bytes end before its values.") from None
    if count != _CHANNELS or numerator == 0:
        raise FormatError(f"A Live Link Face packet with {count} values; expected {_CHANNELS}.")
    return Packet(device=texts[0], subject=texts[1], seconds=(frame + part) * denominator / numerator,
                  values=torch.tensor(values))  # fmt: skip


@typed
def parse_address(text: str) -> tuple[str, int]:
    """HOST or HOST:PORT; the port is Live Link's where it is left out.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    host, port = (host, port) if colon else (text, str(PORT))
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is no address; expected HOST or HOST:PORT, as in 192.168.1.20:{PORT}.")
    return host.strip("[]"), int(port)


class LiveLinkSender:
    """A socket that sends frames to an engine; use as a context."""

    def __init__(self, host: str, port: int = PORT, *, subject: str = "avatar3d") -> None:
        """Opens it.

        Raises:
            ExportError: there is no such host.
        """
        try:
            family, kind, _, _, self._address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise ExportError(f"{host}:{port} cannot be reached ({error.strerror or error}).") from None
        self._socket = socket.socket(family, kind)
        self._device = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{subject}.avatar3d")).upper()
        self._subject = subject

    def send(self, values: Float[Tensor, "61"], seconds: float) -> None:
        """Sends one frame.

        Raises:
            ExportError: the network refused it.
        """
        packet = Packet(device=self._device, subject=self._subject, seconds=seconds, values=values)
        try:
            self._socket.sendto(encode_packet(packet), self._address)
        except ConnectionRefusedError:
            pass  # nobody listens yet; an engine may come later
        except OSError as error:
            raise ExportError(f"{self._address[0]}:{self._address[1]}: {error.strerror or error}.") from None

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def __enter__(self) -> "LiveLinkSender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@typed
def stream_livelink(
    motions: Motion | Iterable[Motion],
    host: str,
    port: int = PORT,
    *,
    subject: str = "avatar3d",
    loop: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Sends a motion, or pieces of one as they come, frame by frame in real time.

    Frames leave when they are due on the clock, so that errors do not add up; pieces that come late are sent at once.

    Args:
        motions: What is sent.
        host: The engine's machine.
        port: Where its Live Link listens.
        subject: Name under which the engine lists it.
        loop: Begin again at the end, until interrupted; for a whole motion.
        clock: Seconds.
        sleep: Waits.

    Returns:
        Frames sent.

    Raises:
        ExportError: there is no such host, or the network refused a frame.
    """
    sent, due = 0, clock()

    def pieces() -> Iterator[Motion]:
        if not isinstance(motions, Motion):
            yield from motions
            return
        yield motions
        while loop:
            yield motions

    with LiveLinkSender(host, port, subject=subject) as sender:
        for motion in pieces():
            for values in livelink_channels(motion).float():
                wait = due - clock()
                if wait > 0:
                    sleep(wait)
                elif wait < -1.0:
                    due = clock()  # the source stood still: go on from here
                sender.send(values, time.time() % 86400)
                sent, due = sent + 1, due + 1 / motion.fps
    return sent
