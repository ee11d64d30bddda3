"""Signals in shared memory: a writer streams frames into a ring, and any number of readers follow it.

    with CircBuff("scope", dtype="f4", shape=8, rate=1000, seconds=10) as stream:
        stream.write(np.zeros((50, 8)))

    with Mirror("scope") as mirror:
        for chunk in mirror:
            print(chunk.times[-1], chunk.frames.mean(axis=0), chunk.lost)

Either end may be ezmsg-tools instead. The meaning of it all is documented in include/shmhot/circbuf.h.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import functools
import math
import operator
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _metadata
from ._handle import LONGEST_WAIT, NULL, Handle, memory, milliseconds, packing
from ._metadata import Metadata
from ._native import ffi, lib
from ._views import Part, Source
from .errors import check

Shape = Union[int, tuple[int, ...]]
Frames = NDArray[Any]
Times = NDArray[np.float64]

_LAYOUTS = {2: 0, 1: lib.CIRCBUF_LAYOUT_V1, 0: lib.CIRCBUF_LAYOUT_V0}
_NONE = 0xFFFFFFFF  # generation
_NEXT = 0xFFFFFFFFFFFFFFFF  # number of the frame that will be written
_ALL = 0x7FFFFFFF
_NOTHING_YET = (-errno.ENOENT, -errno.EAGAIN)
_ENDED = (-errno.EOWNERDEAD, -errno.ENODATA)
_ESTALE = -errno.ESTALE

_from_buffer = ffi.from_buffer
_BYTES, _DOUBLES = ffi.typeof("char[]"), ffi.typeof("double[]")
_write = lib.circbuf_write
_read = lib.circbuf_mirror_read
_wait = lib.circbuf_mirror_wait


class State(enum.IntEnum):
    """Of a stream."""

    ABSENT = lib.CIRCBUF_ABSENT
    UNCONFIGURED = lib.CIRCBUF_UNCONFIGURED
    ALIVE = lib.CIRCBUF_ALIVE
    DEAD = lib.CIRCBUF_DEAD
    ENDED = lib.CIRCBUF_ENDED
    UNKNOWN = lib.CIRCBUF_UNKNOWN


class StreamEnded(EOFError):
    """The writer has ended the stream, and its frames have been read."""


class WriterDied(StreamEnded):
    """The writer has died, and its frames have been read."""


class Format(NamedTuple):
    """What the frames of a stream are."""

    dtype: np.dtype[Any]
    """Of their numbers."""
    shape: tuple[int, ...]
    """Of a frame; () when it is a single number."""
    frames: int
    """How many the ring holds."""
    rate: float
    """Frames per second; 0 when they are irregular."""
    key: str
    """What the source calls itself."""


class Info(NamedTuple):
    """What there is to know of a stream. None is what is not known."""

    begin: int
    """Number of the ring's first frame."""
    oldest: int
    """Number of the oldest frame that is still there."""
    written: int
    """Number that the next frame will have."""
    position: int
    """Number of the frame that this mirror reads next."""
    lost: int
    """Frames that this mirror has lost, in all. Those that were overwritten in being copied are in Chunk.lost only."""
    last_write_ns: int | None
    """When frames were last written, since 1970, some milliseconds early."""
    state: State
    layout: int | None
    pid: int | None
    """Process of the writer."""
    generation: int | None
    """Of the ring."""
    metadata_generation: int | None
    is_ours: bool
    """Whether the writer is this library's."""

    @property
    def last_write(self) -> np.datetime64 | None:
        return None if self.last_write_ns is None else np.datetime64(self.last_write_ns, "ns")


def short_name(name: str) -> str:
    """What the shared-memory object of a stream's header is called: the name of a file in /dev/shm."""
    text = ffi.new("char[]", 64)
    check(lib.circbuf_short_name(_encode(name), text, 64))
    return bytes(ffi.string(text)).decode()


def _encode(text: str) -> bytes:
    if "\0" in text:
        raise ValueError(f"{text!r} has a NUL")
    return text.encode()


def _sized(kind: str, **values: Any) -> Any:
    """A struct that says its size."""
    return ffi.new(f"{kind} *", {"size": ffi.sizeof(kind), **values})


def _info(out: Any) -> Info:
    state = State(out.state)
    return Info(
        *(out.begin, out.oldest, out.written, out.position, out.lost, out.last_write_ns or None, state),
        layout=None if state == State.ABSENT else out.layout,
        pid=out.pid or None,
        generation=None if state == State.ABSENT or out.generation == _NONE else out.generation,
        metadata_generation=out.metadata_generation or None,
        is_ours=bool(out.is_ours),
    )


class _Ring:
    """The memory of a ring as arrays, which keep it mapped. For a mirror they are read-only."""

    def __init__(self, handle: Any, format: Format, mirror: Any = None) -> None:
        out = _sized("circbuf_memory_t")
        check(lib.circbuf_ring_memory(handle, out))
        self.number: int = out.ring
        self.format, self.mirror = format, mirror
        self.begin = 0
        """Number of the first frame, where times are counted from it."""

        def array(address: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
            view = memoryview(memory(address, math.prod(shape) * dtype.itemsize, handle))
            return np.frombuffer(view if mirror is None else view.toreadonly(), dtype).reshape(shape)

        # The ring may be a later one than the format: its frames are not given out before their format was asked for.
        frame_size = math.prod(format.shape) * format.dtype.itemsize
        self.is_of_format = (out.count, out.frame_size) == (format.frames, frame_size)
        if self.is_of_format:
            self.frame = np.dtype((format.dtype, format.shape))
            self.frames: Frames = array(out.frames, format.dtype, (format.frames, *format.shape))
            self.times_address = int(ffi.cast("uintptr_t", out.timestamps))
            self.times: Times | None = array(out.timestamps, _TIME, (format.frames,)) if out.timestamps else None


_TIME: np.dtype[Any] = np.dtype(np.float64)
_NO_TIMES: Times = np.empty(0, _TIME)


class CircBuff(Handle):
    """The writer of a stream. What a writer that has died has left is taken over; a second one is refused.

    dtype: type of the numbers; None when configure() is to say what the frames are.
    shape: of a frame; () for a single number.
    rate: frames per second; 0 when they are irregular, and each write has timestamps.
    seconds, frames: what the ring holds.
    key: what the source calls itself.
    start: the time of the first frame, for timestamps that are derived from the rate.
    layout: 2 for readers of ezmsg-tools 0.10, 1 for 0.4 to 0.9, 0 for older ones. This library's read all.
    metadata: dims, axes, attrs: docs/circbuf.md.
    mode: permissions.

    Closing removes the stream, detach() leaves it; both let readers read what is left.
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: DTypeLike | None = None,
        shape: Shape = (),
        rate: float = 0.0,
        seconds: float | None = None,
        frames: int | None = None,
        key: str = "",
        start: float = 0.0,
        layout: int = 2,
        metadata: Mapping[str, Any] | None = None,
        mode: int = 0o600,
    ) -> None:
        if layout not in _LAYOUTS:
            raise ValueError(f"layout {layout!r}: there are 0, 1 and 2")
        self.name = name
        self._what: dict[str, Any] = {
            "shape": shape, "rate": rate, "seconds": seconds, "frames": frames, "key": key, "start": start
        }  # fmt: skip
        self._metadata: Mapping[str, Any] | None = None
        self._ring: _Ring | None = None
        self._begin()
        text = ffi.new("char[]", _encode(name))
        options = _sized("circbuf_options_t", name=text, flags=_LAYOUTS[layout], mode=mode)
        self._take("circbuf_t", lib.circbuf_close, lib.circbuf_create, options)
        try:
            if metadata is not None:
                self.metadata = metadata
            if dtype is not None:
                self.configure(dtype=dtype)
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self._turn = threading.Lock()  # over writes, and changes of what they take
        _all.add(self)

    def configure(
        self,
        *,
        dtype: DTypeLike | None = None,
        shape: Shape | None = None,
        rate: float | None = None,
        seconds: float | None = None,
        frames: int | None = None,
        key: str | None = None,
        start: float | None = None,
    ) -> bool:
        """Says what the frames are from now on; what is not given stays. Another format begins a new ring.

        False when all is as it was.
        """
        given = {"dtype": dtype, "shape": shape, "rate": rate, "key": key, "start": start}
        what = {**self._what, **{name: value for name, value in given.items() if value is not None}}
        if seconds is not None or frames is not None:
            what.update(seconds=seconds, frames=frames)
        if what.get("dtype") is None:
            raise ValueError("the stream has no dtype yet: give one")
        kind = np.dtype(what["dtype"])
        shape_ = what["shape"] if np.iterable(what["shape"]) else (what["shape"],)
        lengths = tuple(map(operator.index, shape_))
        if not kind.isnative or len(kind.char) != 1 or kind.names is not None or kind.subdtype is not None:
            raise ValueError(f"frames are of numbers in native order, not of {kind}")
        if len(lengths) > lib.CIRCBUF_MAX_DIMENSIONS:
            raise ValueError(f"{len(lengths)} dimensions of a frame: at most {lib.CIRCBUF_MAX_DIMENSIONS} can be")
        name = _encode(what["key"])[: lib.CIRCBUF_MAX_KEY].decode(errors="ignore").encode()
        format = _sized(
            "circbuf_format_t",
            dtype=ord(kind.char),
            ndim=len(lengths),
            shape=lengths,
            rate=what["rate"],
            seconds=what["seconds"] or 0.0,
            frames=what["frames"] or 0,
            key=name,
            start=what["start"],
        )
        with self._turn:
            is_new = self._check(lib.circbuf_configure(self._handle, format)) == 1
            self._what = what
            if is_new:
                self._map(kind, lengths, float(what["rate"]), name.decode())
        return is_new

    def _map(self, dtype: np.dtype[Any], shape: tuple[int, ...], rate: float, key: str) -> None:
        out = ffi.new("circbuf_ring_t **")
        self._check(lib.circbuf_ring(self._handle, out))
        handle = ffi.gc(out[0], lib.circbuf_ring_free)
        held = _sized("circbuf_memory_t")
        check(lib.circbuf_ring_memory(handle, held))
        self._ring = _Ring(handle, Format(dtype, shape, held.count, rate, key))

    @property
    def format(self) -> Format | None:
        """What the frames are, once that was said."""
        return None if self._ring is None else self._ring.format

    def write(self, frames: ArrayLike, timestamps: ArrayLike | None = None) -> None:
        """Writes frames, or one. Of more than the ring holds, the last.

        frames: an array of any strides, whose first axis is theirs.
        timestamps: one for each, ascending; None to go on from the last one by the rate.
        """
        with self._turn:
            ring = self._ring
            if ring is None:
                self._check(lib.circbuf_write(self._handle, NULL, NULL, 0))  # says why
                return
            format = ring.format
            array = frames if isinstance(frames, np.ndarray) else np.asarray(frames, format.dtype)
            if array.dtype != format.dtype:
                array = array.astype(format.dtype, casting="same_kind")
            if array.shape[1:] != format.shape or array.ndim == 0:
                array = self._as_frames(array, format.shape)
            n = len(array)
            times = NULL
            if timestamps is not None:
                held = np.ascontiguousarray(timestamps, np.float64)
                if held.shape != (n,):
                    raise ValueError(f"timestamps of shape {held.shape} for {n} frames: one for each")
                times = _from_buffer(_DOUBLES, held)
            if array.flags.c_contiguous:
                status = _write(self._handle, _from_buffer(array), times, n)
            else:
                address = ffi.cast("void *", array.__array_interface__["data"][0])
                status = lib.circbuf_write_strided(self._handle, address, array.strides, times, n)
        if status < 0:
            raise self._failure(status)

    @staticmethod
    def _as_frames(array: Frames, shape: tuple[int, ...]) -> Frames:
        if array.shape == shape:
            return array[np.newaxis]
        raise ValueError(f"an array of shape {array.shape} is neither frames of shape {shape} nor one")

    def reserve(self, n: int) -> Reservation:
        """Room for frames, to be filled in place; the end of the block publishes them:

        with stream.reserve(100) as (frames, times):
            frames[:] = ...

        An exception gives them up. The oldest frames of the ring are gone at once.
        """
        out = _sized("circbuf_reservation_t")
        with self._turn:
            self._check(lib.circbuf_reserve(self._handle, n, out))
            assert self._ring is not None
            return Reservation(self, self._ring, out)

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """What does not change from frame to frame, as it was set. None removes it."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | None) -> None:
        self.set_metadata(metadata)

    def set_metadata(self, metadata: Mapping[str, Any] | None) -> bool:
        """Sets `metadata`. False when it is as it was."""
        text = NULL if metadata is None else _metadata.to_json(metadata)
        is_new = self._check(lib.circbuf_set_metadata(self._handle, text)) == 1
        self._metadata = metadata
        return is_new

    @property
    def info(self) -> Info:
        """What there is to know of the stream."""
        out = _sized("circbuf_info_t")
        self._check(lib.circbuf_info(self._handle, out))
        return _info(out)

    def close(self) -> None:
        """Ends the stream and removes it, when calls of other threads have returned; a second time does nothing."""
        self._ring = None
        super().close()

    def detach(self) -> None:
        """Ends the stream and leaves it to its readers, and to the next writer. No other thread may use it."""
        handle = self._borrow()
        self.close()
        ffi.gc(handle, None)
        check(lib.circbuf_detach(handle))


class Reservation:
    """Room for frames in the ring, in a with statement.

    frames: what to fill. At the end of the ring these are not in the ring, and are copied when published.
    times: their timestamps, derived from the rate when there is one; None when the layout has none.
    """

    def __init__(self, stream: CircBuff, ring: _Ring, out: Any) -> None:
        self._stream, self._is_open = stream, True
        begin, (upper, lower) = out.index, out.counts
        self.first: int = out.first
        self._parts = _parts(ring.frames, begin, upper, lower)
        self._time_parts = () if ring.times is None else _parts(ring.times, begin, upper, lower)
        self.frames: Frames = self._parts[0] if lower == 0 else np.empty(upper + lower, ring.frame)
        self.times: Times | None = None if ring.times is None else _joined(self._time_parts)

    def __iter__(self) -> Iterator[Any]:
        """frames, times."""
        return iter((self.frames, self.times))

    def __len__(self) -> int:
        return len(self.frames)

    def commit(self, n: int | None = None) -> None:
        """Publishes the first n, or all, and gives the others up. The end of the block does nothing more then."""
        n = len(self) if n is None else n
        if len(self._parts) == 2:
            _fill(self._parts, self.frames)
            if self.times is not None:
                _fill(self._time_parts, self.times)
        self._stream._check(lib.circbuf_commit(self._stream._handle, n))
        self._is_open = False

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_open:
            self.commit(None if kind is None else 0)


def _parts(ring: NDArray[Any], begin: int, upper: int, lower: int) -> tuple[NDArray[Any], ...]:
    """What lies in one piece, or in two: up to the end of the ring, and from its begin."""
    whole = ring[begin : begin + upper]
    return (whole, ring[:lower]) if lower else (whole,)


def _joined(parts: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fill(parts: tuple[NDArray[Any], ...], values: NDArray[Any]) -> None:
    upper, lower = parts
    upper[:], lower[:] = values[: len(upper)], values[len(upper) :]


class Chunk(Part):
    """Frames that were read.

    frames: an array, the first axis of which is theirs.
    times: their timestamps. Where the layout has none they are counted by the rate; NaN without one.
    first: number of the first. Frames are numbered: those of this library's writers from the making of the stream,
        others from the begin of their ring.
    lost: how many before the first were lost since the chunk before: exact when the writer is this library's.
    """

    __slots__ = ()

    frames: Frames

    @property
    def times(self) -> Times:
        if self.count == 0:
            return _NO_TIMES
        times: Times = self.stamps if type(self.stamps) is np.ndarray else np.frombuffer(self.stamps)
        return times

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} frames from {self.first} on, {self.lost} lost>"


def _chunk(frames: Frames, times: Times, first: int = 0, lost: int = 0) -> Chunk:
    chunk = Chunk()
    chunk.frames, chunk.stamps, chunk.count, chunk.first, chunk.lost = frames, times, len(frames), first, lost
    return chunk


class View(Part):
    """Frames where they are in the ring: the writer overwrites them as it goes on, and `intact` tells, after their use.

    frames, times, first, lost: as of a Chunk. What passes the end of the ring is in two parts, and copied for these.

    The memory stays for as long as one of the arrays does.
    """

    __slots__ = ()

    frames: Frames

    if not TYPE_CHECKING:  # it has no other attributes

        def __getattr__(self, name: str) -> Any:
            # Two parts are joined only when somebody asks.
            if name == "frames":
                self.frames = _joined(self.parts)
                return self.frames
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def times(self) -> Times:
        return _times(self)

    @property
    def parts(self) -> tuple[Frames, ...]:
        """The frames without a copy: one array, or two."""
        if self.upper == self.count:
            return (self.frames,)
        return _parts(self.source.frames, self.index, self.upper, self.count - self.upper)

    @property
    def intact(self) -> bool:
        """Whether the frames are still what they were."""
        return self.count == 0 or check(self.source.is_intact(self.first)) == 1

    def copy(self) -> Chunk:
        """The same in memory of its own. What of it is not intact any more counts as lost."""
        return _whole(self)

    __len__ = Chunk.__len__
    __repr__ = Chunk.__repr__


def _times(part: Part) -> Times:
    count = part.count
    if count == 0:
        return _NO_TIMES
    ring: _Ring = part.source.owner
    times = ring.times
    if times is None:
        rate = ring.format.rate
        return (part.first - ring.begin + np.arange(count)) / rate if rate else np.full(count, np.nan)
    if part.upper == count:
        return times[part.index : part.index + count]
    return _joined(_parts(times, part.index, part.upper, count - part.upper))


def _whole(part: Part) -> Chunk:
    """A copy of those frames that are whole after it."""
    first, lower = part.first, part.count - part.upper
    frames, times = np.concatenate(_parts(part.source.frames, part.index, part.upper, lower)), _times(part).copy()
    # What is overwritten are the oldest ones.
    torn, end = 0, part.count
    while torn < end:
        middle = (torn + end) // 2
        if check(part.source.is_intact(first + middle)):
            end = middle
        else:
            torn = middle + 1
    return _chunk(frames[torn:], times[torn:], first + torn, part.lost + torn)


class _Nothing(_Ring):
    """The ring of no stream."""

    def __init__(self) -> None:
        self.number = self.begin = 0
        self.format = Format(_TIME, (), 0, 0.0, "")
        self.frame = _TIME
        self.frames = self.times = _NO_TIMES


_NOTHING = _Nothing()
_NO_SOURCE = Source(_NOTHING, 0, 0, _NO_TIMES, 0, View, Chunk)
"""Whose calls fail, since it has no mirror."""


class _Out:
    """Room for what the library says of frames, and its fields: cheaper to read all at once than one by one."""

    __slots__ = ("span", "span_bytes")

    def __init__(self) -> None:
        self.span = _sized("circbuf_span_t")
        self.span_bytes = ffi.buffer(self.span)


_span_fields = packing("circbuf_span_t", "first", "count", "lost", "ring", "metadata_generation")[1].unpack_from


class Mirror(Handle):
    """A reader of a stream, of any layout. The stream need not be there yet; the mirror looks for it, and follows it
    through new formats and new writers. Any thread may use it, also in a forked child.

    from_now: begins with the frames that are written from now on, not with the oldest that is there.
    on_format: is called with the format of the frames to come, before the first of them is returned.
    on_metadata: is called with new metadata, when frames are read or looked for; with None when there is none any more,
        or none that can be decoded.
    """

    def __init__(
        self,
        name: str,
        *,
        from_now: bool = False,
        on_format: Callable[[Format], object] | None = None,
        on_metadata: Callable[[Metadata | None], object] | None = None,
    ) -> None:
        self.name, self.on_format, self.on_metadata = name, on_format, on_metadata
        self._ring: _Ring = _NOTHING
        self._source = _NO_SOURCE
        self._free: list[_Out] = []  # what no call uses
        self._told: bytes | None = None
        self._begin()
        options = _sized("circbuf_mirror_options_t", flags=lib.CIRCBUF_FROM_NOW if from_now else 0)
        self._take("circbuf_mirror_t", lib.circbuf_mirror_close, lib.circbuf_mirror_open, _encode(name), options)

    def _begin(self) -> None:
        self._following = threading.Lock()
        self._sleeper: ThreadPoolExecutor | None = None
        _all.add(self)

    # Reading

    def view(self, n: int | None = None) -> View:
        """The frames that come next, n at most, where they are. Empty when there are none, or no stream."""
        view = self._source.view(n)
        return view if type(view) is View else self._view(n, *view)

    def _view(self, n: int | None, status: int, view: View | None) -> View:
        if view is None:
            return self.view(n) if self._follows(status) else self._no_view()
        self._notice(view.metadata_generation)
        return view

    def read(self, n: int | None = None, out: Frames | None = None, times: Times | None = None) -> Chunk:
        """Copies the frames that come next, n at most: whole, and each once. Empty when there are none, or no stream.

        out, and times: what receives them, instead of new arrays: of the stream's dtype and shape, in C order.
        """
        if times is not None and out is None:
            raise ValueError("times without out: give both")
        if out is not None:
            return self._read_into(_ALL if n is None else n, out, times)
        chunk = self._source.read(n)
        return chunk if type(chunk) is Chunk else self._read(n, *chunk)

    def _read(self, n: int | None, status: int, chunk: Chunk | None) -> Chunk:
        if chunk is None:
            return self.read(n) if self._follows(status) else self._no_chunk()
        self._notice(chunk.metadata_generation)
        return _whole(chunk) if chunk.stamps is None else chunk

    def _no_view(self) -> View:
        view = View()
        view.frames = self._ring.frames[:0]
        return view

    def _no_chunk(self) -> Chunk:
        return _chunk(self._ring.frames[:0], _NO_TIMES)

    def _read_into(self, limit: int, out: Frames, times: Times | None) -> Chunk:
        while True:
            frames = self._fitting(out)
            if len(frames) == 0 or limit == 0:
                return self.read(0)
            chunk = self._copy(_read, limit, frames, times)
            if chunk is not None:
                return chunk

    def read_time(self, begin: float, end: float, n: int | None = None) -> Chunk:
        """Copies the frames of a range of time, its end excluded: the first n of them. Timestamps must ascend for that.

        What read() reads next stays as it is.
        """
        is_dense = False
        while True:
            format = self.format
            if format is None:
                return self._no_chunk()
            limit = room = format.frames if n is None else min(n, format.frames)
            if format.rate > 0 and not is_dense:
                room = int(min(limit, 16 + 1.01 * max(0, end - begin) * format.rate))
            frames = np.empty(room, self._ring.frame)
            chunk = self._copy(functools.partial(_read_time, begin, end), room, frames, None)
            is_dense = chunk is not None and len(chunk) == room < limit  # there are more than the rate says
            if chunk is not None and not is_dense:
                if 2 * len(chunk) < room:
                    chunk.frames, chunk.stamps = chunk.frames.copy(), chunk.times.copy()  # and no more memory than that
                return chunk

    def _fitting(self, out: Frames) -> Frames:
        format = self._ring.format
        if out.dtype == format.dtype and out.shape[1:] == format.shape:
            return out
        if self._ring is _NOTHING:
            return self._fitting(out) if self._follow() else out[:0]
        raise ValueError(
            f"out is of {out.dtype} and shape {out.shape}, and frames of {format.dtype} and shape {format.shape} come"
        )

    def _copy(self, call: Callable[..., int], limit: int, frames: Frames, times: Times | None) -> Chunk | None:
        """What a call copies; None when frames of another format come now."""
        ring = self._ring
        stamps = np.empty(len(frames), _TIME) if times is None else times
        try:
            out = self._free.pop()
        except IndexError:
            out = _Out()
        room = _from_buffer(_BYTES, frames, True)
        times_room = _from_buffer(_DOUBLES, stamps, True)
        n = len(times_room)
        status = call(self._handle, room, len(room), times_room, n if n < limit else limit, out.span)
        if status < 0:
            self._follows(status)
            return None
        first, count, lost, number, generation = _span_fields(out.span_bytes)
        self._free.append(out)
        self._notice(generation)
        if number != ring.number:
            return _chunk(frames[:0], _NO_TIMES, lost=lost + count)  # another thread has gone on to another ring
        if count == len(frames) == n:
            return _chunk(frames, stamps, first, lost)
        return _chunk(frames[:count], stamps[:count], first, lost)

    def available(self) -> int:
        """How many frames can be read now."""
        while True:
            there: int = _wait(self._handle, 1, 0)
            if there >= 0:
                return there
            if there in (*_ENDED, -errno.ENOENT) and self._handle is not NULL:
                return 0
            if not self._follows(there):
                return 0

    def seek(self, number: int | None) -> None:
        """Goes to the frame of this number, or to the nearest that is there; None is the next that will be written."""
        self._check(lib.circbuf_mirror_seek(self._handle, _NEXT if number is None else number))

    # Waiting

    def wait(self, n: int = 1, timeout: float | None = None) -> int:
        """Waits until n frames can be read, or as many as the ring holds, and tells how many there are.

        0 when the time is over, and the writer lives, or is another library's.

        Raises StreamEnded or WriterDied at once when it comes to know that, and else FileNotFoundError, StreamEnded or
        WriterDied when the time is over: it waits for the next writer.
        """
        for slice, is_last in _slices(timeout, LONGEST_WAIT):
            there = self._judge(self._sleep(n, slice), is_last)
            if there is not None:
                return there
        return 0

    async def wait_async(self, n: int = 1, timeout: float | None = None) -> int:
        """As wait(), beside the other tasks of an asyncio loop."""
        there = self._judge(self._sleep(n, 0), False)
        if there is not None:
            return there
        # The library sleeps in a futex, for which a loop has no eyes: a thread does it.
        if self._sleeper is None:
            self._sleeper = ThreadPoolExecutor(1, "mirror")
        loop = asyncio.get_running_loop()
        for slice, is_last in _slices(timeout, _LONGEST_SLEEP):
            slept = await loop.run_in_executor(self._sleeper, self._sleep, n, slice)
            there = self._judge(slept, is_last)
            if there is not None:
                return there
        return 0

    def _sleep(self, n: int, seconds: float) -> tuple[int, bool, Exception | None]:
        """Waits for a while: with what status, whether that came early, and what it means."""
        begin = time.monotonic()
        status = _wait(self._handle, n, milliseconds(seconds))
        failure = self._failure(status) if status < 0 else None
        return status, time.monotonic() - begin < seconds, failure

    def _judge(self, slept: tuple[int, bool, Exception | None], is_last: bool) -> int | None:
        """What waiting ends with; None when it goes on."""
        status, is_early, failure = slept
        if failure is None:
            # A wait for nothing ends early when a signal comes.
            return status if status > 0 or (is_last and not is_early) else None
        if status == _ESTALE and self._handle is not NULL:
            self._follow()
            return None
        if status in _ENDED and (is_early or is_last):
            kind = WriterDied if status == -errno.EOWNERDEAD else StreamEnded
            raise kind(getattr(failure, "strerror", None))
        if status in (*_ENDED, -errno.ENOENT) and not is_last:
            return None
        raise failure

    def __iter__(self) -> Iterator[Chunk]:
        """What is read whenever there is something, until the writer ends or dies, or the mirror is closed."""
        lost = 0
        while not self.closed:
            try:
                self.wait()
            except StreamEnded:
                return
            chunk = self.read()
            chunk.lost += lost
            if len(chunk) > 0:
                yield chunk
            lost = 0 if len(chunk) > 0 else chunk.lost  # the writer has overtaken it

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        lost = 0
        while not self.closed:
            try:
                await self.wait_async()
            except StreamEnded:
                return
            chunk = self.read()
            chunk.lost += lost
            if len(chunk) > 0:
                yield chunk
            lost = 0 if len(chunk) > 0 else chunk.lost

    # What is known of the stream

    @property
    def format(self) -> Format | None:
        """What the frames are, as of the last that were read; None when there is no stream, or none yet."""
        if self._ring is _NOTHING:
            self._follow()
        return None if self._ring is _NOTHING else self._ring.format

    @property
    def ring(self) -> Frames | None:
        """The memory of the ring, whatever the writer does there; None when there is none, or none yet."""
        return None if self.format is None else self._ring.frames

    @property
    def info(self) -> Info:
        """What there is to know of the stream, and of this mirror."""
        out = _sized("circbuf_info_t")
        self._check(lib.circbuf_mirror_info(self._handle, out))
        return _info(out)

    @property
    def state(self) -> State:
        """What has become of the stream."""
        return self.info.state

    @property
    def metadata(self) -> Metadata | None:
        """What does not change from frame to frame: dims, axes, attrs, key, buffered_axis, stream_dim. None without.

        It is decoded anew each time, without executing anything.
        """
        text = self._metadata_text()
        return None if text is None else _metadata.from_json(text)

    def _metadata_text(self) -> bytes | None:
        room = 1 << 12
        while True:
            text = ffi.new("char[]", room)
            length = lib.circbuf_mirror_metadata(self._handle, text, room)
            if length == -errno.ENODATA and self._handle is not NULL:
                return None
            if self._check(length) < room:
                return bytes(ffi.buffer(text)[:length])
            room = length + 1

    def _notice(self, generation: int) -> None:
        """Looks whether the metadata of this generation is new."""
        source = self._source
        if source.noticed == generation:
            return
        source.noticed = generation
        if self.on_metadata is None:
            return
        try:
            text = self._metadata_text()
        except OSError:
            text = None  # frames can be read without it, and `metadata` tells why it cannot
        if text != self._told:
            self._told = text
            self.on_metadata(None if text is None else _metadata.from_json(text))

    # New formats

    def _follows(self, status: int) -> bool:
        """Whether a call that has failed is to be called again. False when there is no stream."""
        if self._source is _NO_SOURCE or status == _ESTALE:
            return self._follow()
        if status in _NOTHING_YET:
            return False
        raise self._failure(status)

    def _follow(self) -> bool:
        """Asks what the frames to come are, and where. False when there are none yet."""
        out = _sized("circbuf_format_t")
        with self._following:
            ring = None
            while ring is None:
                status = lib.circbuf_mirror_format(self._handle, out)
                if status in _NOTHING_YET and self._handle is not NULL:
                    return False
                self._check(status)
                shape = tuple(out.shape[i] for i in range(out.ndim))
                key = bytes(ffi.string(out.key)).decode()
                ring = self._map(Format(np.dtype(chr(out.dtype)), shape, out.frames, out.rate, key))
            before, self._ring = self._ring, ring
            mirror = int(ffi.cast("uintptr_t", ring.mirror))
            self._source = Source(ring, mirror, ring.number, ring.frames, ring.times_address, View, Chunk)
            self._source.noticed = _NONE  # the ring may be of another stream
        if self.on_format is not None and (before.number, before.format) != (ring.number, ring.format):
            self.on_format(ring.format)
        return True

    def _map(self, format: Format) -> _Ring | None:
        """The ring of this format; None when it has just been replaced."""
        out = ffi.new("circbuf_ring_t **")
        status = lib.circbuf_mirror_ring(self._handle, out)
        if status == -errno.EAGAIN:
            return None
        self._check(status)
        ring = _Ring(ffi.gc(out[0], lib.circbuf_ring_free), format, self._handle)
        if not ring.is_of_format:
            return None
        if ring.times is None:
            ring.begin = self.info.begin
        return ring

    def close(self) -> None:
        self._ring, self._source = _NOTHING, _NO_SOURCE
        super().close()


class AsyncMirror(Mirror):
    """A Mirror for asyncio: `await mirror.wait()` is what wait_async() is, and chunks come by `async for` only."""

    __iter__ = None  # type: ignore[assignment]

    async def wait(self, n: int = 1, timeout: float | None = None) -> int:  # type: ignore[override]
        return await self.wait_async(n, timeout)


def _read_time(begin: float, end: float, mirror: Any, *rest: Any) -> int:
    status: int = lib.circbuf_mirror_read_time(mirror, begin, end, *rest)
    return status


_LONGEST_SLEEP = 0.1
"""Of a thread for a task that may have been cancelled meanwhile."""


def _slices(timeout: float | None, longest: float) -> Iterator[tuple[float, bool]]:
    """How long to wait at once until the time is over, and whether that is the last time."""
    milliseconds(timeout)  # refuses what is no time
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    while True:
        left = max(0.0, deadline - time.monotonic())
        yield min(left, longest), left <= longest


_all: weakref.WeakSet[CircBuff | Mirror] = weakref.WeakSet()


def _begin_in_child() -> None:
    """Other threads stay behind in the parent, and with them what they were about to unlock."""
    for one in list(_all):
        one._begin()


os.register_at_fork(after_in_child=_begin_in_child)
