"""A reader with the interface of ezmsg.tools.shmem.shmem_mirror."""

from __future__ import annotations

import errno
from typing import Any, Callable, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._metadata import Metadata
from ..circbuf import Format, Mirror, short_name

Frames = NDArray[Any]
Times = NDArray[np.float64]
_T = TypeVar("_T")

_NO_TIMES: Times = np.empty(0)


class ShmemVersionError(RuntimeError):
    """What has the name is no stream that this build reads."""


class ShmemArrMeta(NamedTuple):
    """What the header of a stream says."""

    struct_version: int
    """The layout."""
    buffer_generation: int
    meta_generation: int
    bvalid: bool = False
    """Whether there is a buffer."""
    dtype: bytes = b""
    srate: float = -1.0
    ndim: int = 0
    shape: tuple[int, ...] = ()
    """Frames of the buffer, and the lengths of each frame."""
    write_index: int = 0
    wrap_counter: int = 0
    key: str = ""


class EZShmMirror:
    """A stream, as it is seen from another process. It need not be there yet, and may be made anew at any time.

    Frames are copies, and so stay as they are. What auto_view and timed_view return comes once: single frames and exact
    fills too.
    """

    def __init__(self, shmem_name: str | None = None) -> None:
        self._name: str | None = None
        self._mirror: Mirror | None = None
        self._change_callback: Callable[[], object] | None = None
        self._metadata_callback: Callable[[], object] | None = None
        self._aux: Metadata | None = None
        self._is_lapped = False
        self.connect(shmem_name)

    def connect(self, name: str | None) -> None:
        """Reads the stream of this name from now on; None is none."""
        if name != self._name:
            self.disconnect()
        if name is not None and self._mirror is None:
            self._name = name
            self._mirror = Mirror(name, on_format=self._on_format, on_metadata=self._on_metadata)
        # What is no stream is told at once. The rest waits for the first look: callbacks are registered after this.
        self._ask(lambda mirror: mirror.info)

    def disconnect(self) -> None:
        if self._mirror is not None:
            self._mirror.close()
        self._name = self._mirror = self._aux = None
        self._is_lapped = False

    # Reading

    def auto_view(self, n: int | None = None) -> tuple[Frames, bool]:
        """The frames since the last read, or n when there are as many and else none; and whether some were overwritten
        before they were read.
        """
        frames, _, is_overflow = self.timed_view(n)
        return frames, is_overflow

    def timed_view(self, n: int | None = None) -> tuple[Frames, Times, bool]:
        """As auto_view, and the timestamp of each frame."""
        mirror = self._mirror
        if mirror is None:
            return np.array([[]]), _NO_TIMES, False
        try:
            frames, times, lost = self._next(mirror, n)
        except OSError as failure:
            raise _explained(failure) from failure
        if len(frames) == 0 and mirror.format is None:
            return np.array([[]]), _NO_TIMES, False
        is_overflow = lost > 0 or self._is_lapped
        self._is_lapped = False
        return frames, times, is_overflow

    def _next(self, mirror: Mirror, n: int | None) -> tuple[Frames, Times, int]:
        if n is not None and mirror.available() < n:
            view = mirror.view(0)
            return view.frames, _NO_TIMES, view.lost
        chunk = mirror.read(n)
        if n is not None and 0 < len(chunk) < n:
            # The writer has overtaken it: there will be n from the first that is whole.
            mirror.seek(chunk.first)
            return chunk.frames[:0], _NO_TIMES, chunk.lost
        return chunk.frames, chunk.times, chunk.lost

    @property
    def meta(self) -> ShmemArrMeta | None:
        """What the header says now; None without a stream."""
        return self._ask(_meta)

    @property
    def buffer(self) -> Frames | None:
        """The buffer itself, which the writer goes on writing; None when it is not connected."""
        return self._ask(lambda mirror: mirror.ring)

    @property
    def write_index(self) -> int | None:
        """Where in the buffer the next frame goes."""
        meta = self.meta
        return None if meta is None else meta.write_index

    @property
    def connected(self) -> bool:
        return self.buffer is not None

    def register_change_callback(self, callback: Callable[[], object]) -> None:
        """Has it called when there is another buffer."""
        self._change_callback = callback

    def unregister_change_callback(self) -> None:
        self._change_callback = None

    # Metadata: None until there is some

    @property
    def axes(self) -> dict[str, dict[str, Any]] | None:
        """By name: {"kind": "linear", "unit", "gain", "offset"} or {"kind": "coord", "unit", "dims", "data"}.

        The buffered one has neither offset nor data.
        """
        return self._known().get("axes")

    @property
    def attrs(self) -> dict[str, Any] | None:
        return self._known().get("attrs")

    @property
    def dims(self) -> list[str] | None:
        """Names of the buffer's dimensions, the buffered one first."""
        return self._known().get("dims")

    @property
    def stream_dim(self) -> str | None:
        """Along which dimension the source says that it grows."""
        return self._known().get("stream_dim")

    @property
    def buffered_axis(self) -> str | None:
        """Which dimension the buffer is a history of."""
        return self._known().get("buffered_axis")

    @property
    def metadata_available(self) -> bool:
        self._refresh()
        return self._aux is not None

    def register_metadata_callback(self, callback: Callable[[], object]) -> None:
        """Has it called when there is other metadata."""
        self._metadata_callback = callback

    def unregister_metadata_callback(self) -> None:
        self._metadata_callback = None

    def _known(self) -> Metadata:
        """All of them, or nothing."""
        self._refresh()
        return {} if self._aux is None else self._aux

    def _refresh(self) -> None:
        """Looks for what is new, and reads nothing."""
        self._is_lapped |= bool(self._ask(lambda mirror: mirror.view(0).lost))

    def _ask(self, look: Callable[[Mirror], _T]) -> _T | None:
        """What is seen by a look at the stream; None when not connected."""
        if self._mirror is None:
            return None
        try:
            return look(self._mirror)
        except OSError as failure:
            raise _explained(failure) from failure

    def _on_format(self, _format: Format) -> None:
        if self._change_callback is not None:
            self._change_callback()

    def _on_metadata(self, metadata: Metadata | None) -> None:
        self._aux = metadata
        if metadata is not None and self._metadata_callback is not None:
            self._metadata_callback()


def _meta(mirror: Mirror) -> ShmemArrMeta | None:
    info = mirror.info
    if info.layout is None:
        return None
    generation = 0xFFFFFFFF if info.generation is None else info.generation
    meta = ShmemArrMeta(info.layout, generation, info.metadata_generation or 0)
    format = mirror.format
    if format is None:
        return meta
    shape = (format.frames, *format.shape)
    written = info.written - info.begin
    # An exact fill leaves the index at the end.
    wraps, last = divmod(written - 1, format.frames) if written else (0, -1)
    return meta._replace(
        bvalid=True,
        dtype=format.dtype.char.encode(),
        srate=format.rate,
        ndim=len(shape),
        shape=shape,
        write_index=last + 1,
        wrap_counter=wraps,
        key=format.key,
    )


def shorten_shmem_name(long_name: str | None) -> str | None:
    """What the shared-memory object of a stream's header is called."""
    return None if long_name is None else short_name(long_name)


def _explained(failure: OSError) -> Exception:
    return ShmemVersionError(failure.strerror) if failure.errno == errno.EPROTO else failure
