"""A socket ring on io_uring: one system call for a whole turn of the loop.

    ring = HotpathRing()
    ring.submit_accept(listener)
    while True:
        for op, fd, result, buf_id, flags in ring.wait().tolist():
            if op == Op.ACCEPT and result >= 0:
                ring.submit_recv(result)
            elif op == Op.RECV and result <= 0:
                ring.submit_close(fd)
            elif op == Op.RECV:
                ring.send_buffer(fd, buf_id, length=result, quiet=True)

The meaning of operations and completions is documented in include/shmhot/hotpath.h.
"""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from ._handle import NULL, Handle, dtype, memory, milliseconds
from ._native import ffi, lib
from .errors import error

Descriptor = Union[int, socket.socket]
Data = Union[bytes, bytearray, memoryview, NDArray[Any]]
Address = Union[str, bytes, tuple[str, int], tuple[str, int, int, int]]


class Op(enum.IntEnum):
    """op_kind of a completion."""

    ACCEPT = lib.HOTPATH_OP_ACCEPT
    RECV = lib.HOTPATH_OP_RECV
    SEND = lib.HOTPATH_OP_SEND
    CLOSE = lib.HOTPATH_OP_CLOSE
    CONNECT = lib.HOTPATH_OP_CONNECT
    TIMEOUT = lib.HOTPATH_OP_TIMEOUT
    WAKE = lib.HOTPATH_OP_WAKE
    SHUTDOWN = lib.HOTPATH_OP_SHUTDOWN
    DRAIN = lib.HOTPATH_OP_DRAIN


class Flag(enum.IntFlag):
    """flags of a completion."""

    BUFFER = lib.HOTPATH_F_BUFFER
    MORE = lib.HOTPATH_F_MORE
    ENDED = lib.HOTPATH_F_ENDED


class Command(enum.IntEnum):
    """op of a command of HotpathRing.turn()."""

    ACCEPT = lib.HOTPATH_CMD_ACCEPT
    RECV = lib.HOTPATH_CMD_RECV
    SEND = lib.HOTPATH_CMD_SEND
    CLOSE = lib.HOTPATH_CMD_CLOSE
    CONNECT = lib.HOTPATH_CMD_CONNECT
    TIMEOUT = lib.HOTPATH_CMD_TIMEOUT
    SHUTDOWN = lib.HOTPATH_CMD_SHUTDOWN
    SEND_BORROWED = lib.HOTPATH_CMD_SEND_BORROWED
    RELEASE = lib.HOTPATH_CMD_RELEASE
    CANCEL = lib.HOTPATH_CMD_CANCEL
    CANCEL_TIMEOUT = lib.HOTPATH_CMD_CANCEL_TIMEOUT
    PAUSE = lib.HOTPATH_CMD_PAUSE
    RESUME = lib.HOTPATH_CMD_RESUME
    IDLE_TIMEOUT = lib.HOTPATH_CMD_IDLE_TIMEOUT
    FORGET = lib.HOTPATH_CMD_FORGET
    DRAIN = lib.HOTPATH_CMD_DRAIN


class CommandFlag(enum.IntFlag):
    """flags of a command that sends."""

    RELEASE = lib.HOTPATH_RELEASE
    QUIET = lib.HOTPATH_QUIET


class Backend(enum.IntEnum):
    """What a ring stands on."""

    IO_URING = lib.HOTPATH_BACKEND_IO_URING


COMPLETION = dtype("hotpath_completion_t")
COMMAND = dtype("hotpath_command_t")

_from_buffer = ffi.from_buffer
_wait = lib.hotpath_wait
_send = lib.hotpath_send
_QUIET = lib.HOTPATH_QUIET


class Probe(NamedTuple):
    """What the kernel offers."""

    supported: bool
    errno: int
    """Why rings cannot be made here; 0 when they can."""
    detail: str
    """The same in a sentence, and what would help."""
    features: list[str]


def supported() -> bool:
    """Whether a ring can be made on this host; probe() says why not."""
    return bool(lib.hotpath_supported())


def probe() -> Probe:
    """What the kernel offers, and why not when it does not."""
    out = ffi.new("hotpath_probe_t *", {"size": ffi.sizeof("hotpath_probe_t")})
    status = lib.hotpath_probe(out)
    if status < 0:
        raise error(status)
    features = []
    for bit in range(64):
        name = lib.hotpath_feature_name(bit)
        if out.features >> bit & 1 and name != NULL:
            features.append(ffi.string(name).decode())
    return Probe(out.status == 0, -out.status, ffi.string(out.detail).decode(), features)


class Pin:
    """Bytes that submit_send() sends without a copy; see HotpathRing.pin()."""

    __slots__ = ("_memory",)

    def __init__(self, data: Data) -> None:
        self._memory = _from_buffer(data)

    def __len__(self) -> int:
        return len(self._memory)


class HotpathRing(Handle):
    """A ring. It belongs to the thread that uses it first; calls of others are a WrongThreadError, but for wake(),
    healthy, force_unhealthy(), backend and close(). In a forked child calls are a ForkError.

    Where a descriptor is expected, a socket does as well. Times are in seconds, None is no limit. What is refused is an
    OSError, or one of shmhot.errors.

    queue_depth: entries of the submission queue.
    n_bufs, buf_size: receive buffers, how many (a power of two) and of how many bytes.
    any_thread: any thread may use the ring, one at a time.
    max_queued_bytes, max_queued_total: what may wait to be sent, on one connection and on all; 0 is the default.
    batch: completions that a wait brings at most.
    """

    def __init__(
        self,
        *,
        queue_depth: int = 1024,
        n_bufs: int = 512,
        buf_size: int = 8192,
        any_thread: bool = False,
        max_queued_bytes: int = 0,
        max_queued_total: int = 0,
        batch: int = 256,
    ) -> None:
        sizes = {"queue_depth": queue_depth, "n_bufs": n_bufs, "buf_size": buf_size}
        for name, size in [*sizes.items(), ("batch", batch)]:
            if size < 1:  # the library takes 0 for "the default"
                raise ValueError(f"{name} is {size}, and must be positive")
        limits = {"max_queued_bytes": max_queued_bytes, "max_queued_total": max_queued_total}
        flags = lib.HOTPATH_ANY_THREAD if any_thread else 0
        known = {"size": ffi.sizeof("hotpath_options_t"), "flags": flags}
        options = ffi.new("hotpath_options_t *", {**known, **sizes, **limits})
        handle = lib.hotpath_ring_new_with(options)
        if handle == NULL:
            raise error(lib.shmhot_last_status())
        self._handle = ffi.gc(handle, lib.hotpath_ring_free)
        self._batch = batch
        self._out = ffi.new("hotpath_completion_t[]", batch)
        self._completions: NDArray[np.void] = np.frombuffer(ffi.buffer(self._out), COMPLETION)
        self._buf_size = buf_size
        self._pool: memoryview | None = None
        self._pins: set[Pin] = set()
        self._sockets: dict[int, Descriptor] = {}  # a socket that is collected would close its descriptor

    def close(self) -> None:
        """Frees the ring and all that it has in flight; descriptors stay open. Another thread's wait ends.

        Views of received bytes keep the ring: it is freed with the last of them.
        """
        handle, self._handle = self._handle, NULL
        self._pool = None
        if handle is not NULL:
            lib.hotpath_wake(handle)

    # Operations. They go out with the next wait, turn or flush.

    def submit_accept(self, listener: Descriptor) -> None:
        """Accepts connections until cancelled: an Op.ACCEPT for each, whose result is the new descriptor."""
        self._check(lib.hotpath_submit_accept(self._handle, _fd(listener)))
        self._sockets[_fd(listener)] = listener

    def submit_recv(self, fd: Descriptor) -> None:
        """Receives until the end of the stream: an Op.RECV for each piece, which is in a buffer until released."""
        status = lib.hotpath_submit_recv(self._handle, _fd(fd))
        if status < 0:
            raise self._failure(status)

    def submit_connect(self, fd: Descriptor, address: Address) -> None:
        """Connects a socket; Op.CONNECT tells. address: as socket.connect() has it, with the host as a number."""
        packed = _pack_address(address)
        where = ffi.cast("struct sockaddr *", _from_buffer(packed))
        self._check(lib.hotpath_submit_connect(self._handle, _fd(fd), where, len(packed)))
        self._sockets[_fd(fd)] = fd

    def send(self, fd: Descriptor, data: Data, *, quiet: bool = False) -> None:
        """Sends a copy of bytes, after all that is queued on fd before. quiet: only a failure is told."""
        if type(data) is not bytes:
            data = _from_buffer(data)
        status = _send(self._handle, _fd(fd), data, len(data), _QUIET if quiet else 0)
        if status < 0:
            raise self._failure(status)

    def send_buffer(
        self, fd: Descriptor, buf_id: int, offset: int = 0, length: int = 0, *, quiet: bool = False
    ) -> None:
        """Sends received bytes without a copy, and releases their buffer when that is finished."""
        status = lib.hotpath_send_buffer(self._handle, _fd(fd), buf_id, offset, length, _QUIET if quiet else 0)
        if status < 0:
            raise self._failure(status)

    def pin(self, data: Data) -> Pin:
        """Keeps bytes where they are, for submit_send(), until unpin() or the ring goes. They must not change."""
        pin = Pin(data)
        self._pins.add(pin)
        return pin

    def unpin(self, pin: Pin) -> None:
        """Lets bytes go whose sends have all been told of."""
        self._pins.discard(pin)

    def submit_send(self, fd: Descriptor, *pieces: Pin) -> None:
        """Sends what pin() gave, without a copy, and told by one Op.SEND."""
        if not self._pins.issuperset(pieces):
            raise ValueError("a piece is not pinned in this ring")
        iov = ffi.new("struct iovec[]", [{"iov_base": piece._memory, "iov_len": len(piece)} for piece in pieces])
        self._check(lib.hotpath_submit_send(self._handle, _fd(fd), iov, len(pieces)))

    def submit_close(self, fd: Descriptor, timeout: float | None = None) -> None:
        """Closes fd once everything queued is sent, or when the time is over; Op.CLOSE tells. 0 drops what is queued.

        The ring closes the descriptor: a socket is detached from it.
        """
        number = _fd(fd)
        status = lib.hotpath_submit_close_within(self._handle, number, milliseconds(timeout))
        if status < 0:
            raise self._failure(status)
        for known in (fd, self._sockets.pop(number, number)):
            if isinstance(known, socket.socket):
                known.detach()

    def submit_shutdown(self, fd: Descriptor) -> None:
        """Ends the sending half of fd once everything queued is sent; Op.SHUTDOWN tells."""
        self._check(lib.hotpath_submit_shutdown(self._handle, _fd(fd)))

    def submit_timeout(self, id: int, timeout: float) -> None:
        """Has an Op.TIMEOUT come after a time, its result the id. A pending one of the same id is replaced."""
        self._check(lib.hotpath_submit_timeout(self._handle, id, milliseconds(timeout)))

    def cancel_timeout(self, id: int) -> None:
        """Takes a timeout back."""
        self._check(lib.hotpath_cancel_timeout(self._handle, id))

    def cancel(self, fd: Descriptor, *ops: Op) -> None:
        """Ends what is at work on fd, all or these kinds. Each ends with its completion."""
        mask = sum(1 << op for op in set(ops))
        self._check(lib.hotpath_cancel(self._handle, _fd(fd), mask))

    def pause_recv(self, fd: Descriptor) -> None:
        """Stops receiving, or of a listener accepting, until resume_recv()."""
        self._check(lib.hotpath_pause_recv(self._handle, _fd(fd)))

    def resume_recv(self, fd: Descriptor) -> None:
        self._check(lib.hotpath_resume_recv(self._handle, _fd(fd)))

    def set_idle_timeout(self, fd: Descriptor, timeout: float) -> None:
        """Has an Op.RECV with -ETIMEDOUT come when nothing was received or sent for so long; 0 turns it off."""
        self._check(lib.hotpath_set_idle_timeout(self._handle, _fd(fd), milliseconds(timeout)))

    def forget(self, fd: Descriptor) -> None:
        """Says that the number is the caller's own, who is going to close it: nothing more is told of it."""
        self._check(lib.hotpath_forget(self._handle, _fd(fd)))
        self._sockets.pop(_fd(fd), None)

    def drain(self, timeout: float | None = None) -> None:
        """Stops accepting. Op.DRAIN tells when the last connection is closed or the time is over; how many are left."""
        self._check(lib.hotpath_drain(self._handle, milliseconds(timeout)))

    # Turns

    def wait(self, min_complete: int = 1, timeout: float | None = None) -> NDArray[np.void]:
        """Submits what is queued, waits for completions, and returns them: an array of COMPLETION.

        It is the ring's own memory, and holds them until the next wait. There are fewer than min_complete when the time
        is over, or a signal came. The fastest way through it is `for op, fd, result, buf_id, flags in done.tolist()`.
        """
        status = _wait(self._handle, min_complete, milliseconds(timeout), self._out, self._batch)
        if status < 0:
            raise self._failure(status)
        return self._completions[:status]

    def turn(self, commands: NDArray[np.void], min_complete: int = 1, timeout: float | None = None) -> NDArray[np.void]:
        """Executes an array of COMMAND, each of which is told in its status whether it was refused, then waits.

        What a command points to by its data must stay as long as the call that it names says.
        """
        if commands.dtype != COMMAND or commands.ndim != 1:
            raise TypeError(
                f"commands are {commands.dtype} in {commands.ndim} dimensions, and must be an array of COMMAND"
            )
        given = _from_buffer("hotpath_command_t[]", commands, require_writable=True)
        what = (given, len(commands), min_complete, milliseconds(timeout), self._out, self._batch)
        return self._completions[: self._check(lib.hotpath_turn(self._handle, *what))]

    def flush(self) -> None:
        """Submits what is queued, without waiting."""
        self._check(lib.hotpath_flush(self._handle))

    def wake(self) -> None:
        """Ends the ring's wait, or the next one, by an Op.WAKE. Any thread may call it."""
        self._check(lib.hotpath_wake(self._handle))

    @property
    def event_fd(self) -> int:
        """A descriptor that is readable while there is something to do: then call wait(timeout=0). It is the ring's."""
        return self._check(lib.hotpath_event_fd(self._handle))

    async def wait_async(self) -> NDArray[np.void]:
        """As wait(), beside the other tasks of an asyncio loop, which must run in the ring's thread."""
        loop = asyncio.get_running_loop()
        while True:
            done = self.wait(timeout=0)
            if len(done) > 0:
                return done
            ready = asyncio.Event()
            descriptor = self.event_fd
            loop.add_reader(descriptor, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(descriptor)

    async def __aiter__(self) -> AsyncIterator[NDArray[np.void]]:
        """The completions of each turn, until the ring is closed."""
        while not self.closed:
            yield await self.wait_async()

    # Received bytes

    def buffers(self) -> memoryview:
        """The memory of all receive buffers: number i begins at i * buf_size."""
        if self._pool is None or self.closed:
            out = ffi.new("hotpath_buffers_t *")
            self._check(lib.hotpath_buffers(self._handle, out))
            self._pool = memoryview(memory(out.base, out.buf_size * out.n_bufs, self._handle)).toreadonly()
        return self._pool

    def buffer(self, buf_id: int) -> memoryview:
        """What was received into a buffer, in place: until it is released."""
        out = ffi.new("uint8_t const **")
        length = self._check(lib.hotpath_buffer(self._handle, buf_id, out))
        return self.buffers()[buf_id * self._buf_size :][:length]

    def copy_buffer(self, buf_id: int, length: int) -> bytes:
        """A copy of the first bytes of a buffer, which stays held."""
        out = ffi.new("uint8_t[]", length)
        self._check(lib.hotpath_copy_buffer(self._handle, buf_id, length, out, length))
        return bytes(ffi.buffer(out))

    def release_buf(self, buf_id: int) -> None:
        """Gives a buffer back to the kernel."""
        status = lib.hotpath_release_buf(self._handle, buf_id)
        if status < 0:
            raise self._failure(status)

    def release_bufs(self, buf_ids: Iterable[int] | NDArray[np.int32]) -> None:
        """Gives buffers back: all that can be, also when one is refused."""
        ids = np.ascontiguousarray(buf_ids, np.int32)
        self._check(lib.hotpath_release_bufs(self._handle, _from_buffer("int32_t[]", ids), len(ids)))

    # The ring

    @property
    def stats(self) -> dict[str, int]:
        """What the ring has done so far: counters by name."""
        out = ffi.new("hotpath_stats_t *", {"size": ffi.sizeof("hotpath_stats_t")})
        self._check(lib.hotpath_stats(self._handle, out))
        return {name: getattr(out, name) for name in _STATS}

    @property
    def healthy(self) -> bool:
        """Whether the ring can be used."""
        return bool(self._check(lib.hotpath_is_healthy(self._handle)))

    def force_unhealthy(self) -> None:
        """Gives the ring up: its wait ends, and calls are an UnhealthyError from now on."""
        self._check(lib.hotpath_force_unhealthy(self._handle))

    @property
    def backend(self) -> Backend:
        return Backend(self._check(lib.hotpath_backend(self._handle)))


_STATS = [name for name, _ in ffi.typeof("hotpath_stats_t").fields if name != "size"]


def _fd(descriptor: Descriptor) -> int:
    return descriptor if type(descriptor) is int else descriptor.fileno()  # type: ignore[union-attr]


def _pack_address(address: Address) -> bytes:
    """A struct sockaddr."""
    if isinstance(address, (str, bytes)):
        return struct.pack("=H", socket.AF_UNIX) + os.fsencode(address) + b"\0"
    host, port, *rest = address
    ip = ipaddress.ip_address(host)
    if ip.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + ip.packed + bytes(8)
    flow, scope = rest or (0, 0)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, flow) + ip.packed + struct.pack("=I", scope)
