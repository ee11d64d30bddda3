"""A sink for AxisArray messages with the interface of ezmsg.tools.shmem.shmem."""

from __future__ import annotations

import asyncio
import multiprocessing.connection
import typing
import uuid
from collections.abc import Mapping

import ezmsg.core as ez
import numpy as np
from ezmsg.util.messages.axisarray import AxisArray

from .._metadata import is_plain
from ..circbuf import CircBuff
from .shmem_mirror import ShmemArrMeta, ShmemVersionError, shorten_shmem_name

__all__ = [
    "ShMemCircBuff",
    "ShMemCircBuffSettings",
    "ShMemCircBuffState",
    "ShmemArrMeta",
    "ShmemVersionError",
    "shorten_shmem_name",
]

Source = tuple[list[str], Mapping[str, typing.Any], Mapping[str, typing.Any], str, typing.Optional[str]]


class ShMemCircBuffSettings(ez.Settings):
    shmem_name: str | None
    """Of the stream. None makes one up: SETTINGS.shmem_name is it then."""

    buf_dur: float
    """Seconds that the ring holds."""

    conn: multiprocessing.connection.Connection | None = None
    """Is told what is done; "quit" from there ends the unit."""

    axis: str | None = None
    """The dimension along which frames are written; None for the message's stream_dim, or "time"."""


class ShMemCircBuffState(ez.State):
    stream: CircBuff | None = None
    format: tuple[typing.Any, ...] | None = None
    """What the stream was configured for."""
    source: Source | None = None
    """What the metadata was made of."""
    dropped: frozenset[str] = frozenset()
    """Attributes that were warned of."""
    refusal: str = ""
    """Why there is no metadata, as was warned of."""


class ShMemCircBuff(ez.Unit):
    SETTINGS = ShMemCircBuffSettings
    STATE = ShMemCircBuffState

    INPUT_SIGNAL = ez.InputStream(AxisArray)
    INPUT_SETTINGS = ez.InputStream(ShMemCircBuffSettings)

    async def initialize(self) -> None:
        self._open()

    async def shutdown(self) -> None:
        self._close()
        if self.SETTINGS.conn is not None:
            self._tell("close")
            self.SETTINGS.conn.close()

    @ez.subscriber(INPUT_SETTINGS)
    async def on_settings(self, msg: ShMemCircBuffSettings) -> None:
        is_renamed = msg.shmem_name != self.SETTINGS.shmem_name
        if is_renamed:
            self._close()
        self.apply_settings(msg)
        if is_renamed:
            self._open()
        self.STATE.format = None  # the next message says it anew

    @ez.subscriber(INPUT_SIGNAL)
    async def on_message(self, msg: AxisArray) -> None:
        stream = self.STATE.stream
        if stream is None or not isinstance(msg, AxisArray):
            return
        stream_dim = getattr(msg, "stream_dim", None)  # ezmsg 3.10
        name = self.SETTINGS.axis or stream_dim or "time"
        if name not in msg.dims:
            return
        axis = msg.axes[name]
        index = msg.dims.index(name)
        data = msg.data.transpose(index, *(other for other in range(msg.data.ndim) if other != index))
        if len(data) == 0:
            return
        has_data = hasattr(axis, "data")
        # The spacing of coordinates is never twice the same, which is no reason for another ring.
        gain = None if has_data else axis.gain
        format = (name, data.dtype, data.shape[1:], gain, msg.key)
        if format != self.STATE.format:
            self._tell("begin update")
            rate = _rate(axis)
            stream.configure(
                dtype=data.dtype.newbyteorder("="),
                shape=data.shape[1:],
                rate=0.0 if has_data else rate,
                frames=max(1, int(np.ceil(self.SETTINGS.buf_dur * rate))),
                key=msg.key,
            )
            self.STATE.format = format
            self._tell("meta updated")
            self._tell("buffer reset")
        self._publish(stream, msg, name, stream_dim)
        stream.write(data, axis.data if has_data else axis.offset + np.arange(len(data)) * axis.gain)

    @ez.task
    async def check_continue(self) -> None:
        while True:
            if self.SETTINGS.conn is None or not self.SETTINGS.conn.poll():
                await asyncio.sleep(0.05)
            elif self.SETTINGS.conn.recv() == "quit":
                raise ez.NormalTermination

    def _open(self) -> None:
        if self.SETTINGS.shmem_name is None:
            given = self.SETTINGS
            self.apply_settings(ShMemCircBuffSettings(f"shmhot-{uuid.uuid4()}", given.buf_dur, given.conn, given.axis))
        self._tell("meta reset")
        self.STATE.stream = CircBuff(typing.cast(str, self.SETTINGS.shmem_name))

    def _close(self) -> None:
        if self.STATE.stream is not None:
            self._tell("buffer cleanup")
            self._tell("meta cleanup")
            self.STATE.stream.close()
        self.STATE.stream = self.STATE.format = self.STATE.source = None

    def _tell(self, what: str) -> None:
        if self.SETTINGS.conn is not None:
            self.SETTINGS.conn.send(what)

    def _publish(self, stream: CircBuff, msg: AxisArray, buffered: str, stream_dim: str | None) -> None:
        """Publishes the metadata, when it is another than before."""
        dims = [buffered, *(dim for dim in msg.dims if dim != buffered)]
        source = (dims, msg.axes, msg.attrs, msg.key, stream_dim)
        if _is_same(source, self.STATE.source, buffered):
            return
        dropped = {str(name) for name, value in msg.attrs.items() if not (isinstance(name, str) and is_plain(value))}
        if not dropped <= self.STATE.dropped:
            self.STATE.dropped |= dropped
            ez.logger.warning(f"ShMemCircBuff does not publish attrs that are no plain values: {sorted(dropped)}")
        metadata = {
            "dims": dims,
            "axes": {name: _plain_axis(axis, name == buffered) for name, axis in msg.axes.items()},
            "attrs": {name: value for name, value in msg.attrs.items() if str(name) not in dropped},
            "key": msg.key,
            "buffered_axis": buffered,
            "stream_dim": stream_dim,
        }
        try:
            is_new = stream.set_metadata(metadata)
        except (OSError, TypeError, ValueError, RecursionError) as refusal:
            # The frames go on, and no reader is told what these are not.
            if str(refusal) != self.STATE.refusal:
                self.STATE.refusal = str(refusal)
                ez.logger.warning(f"ShMemCircBuff does not publish metadata: {refusal}")
            is_new = stream.set_metadata(None)
        if is_new:
            self._tell("aux updated")
        self.STATE.source = source


def _rate(axis: typing.Any) -> float:
    """Frames per second, more or less."""
    if not hasattr(axis, "data"):
        return float(1 / axis.gain)
    return float(1 / np.median(np.diff(axis.data))) if len(axis.data) > 1 else 100.0


def _plain_axis(axis: typing.Any, is_buffered: bool) -> dict[str, typing.Any]:
    """An axis as metadata has it. Where the buffered one is goes with the frames."""
    plain: dict[str, typing.Any] = {"unit": getattr(axis, "unit", "")}
    if hasattr(axis, "data"):
        plain.update(kind="coord", dims=list(axis.dims))
        return plain if is_buffered else {**plain, "data": _plain_labels(np.array(axis.data))}
    plain.update(kind="linear", gain=float(axis.gain))
    return plain if is_buffered else {**plain, "offset": float(axis.offset)}


def _plain_labels(data: np.ndarray[typing.Any, typing.Any]) -> np.ndarray[typing.Any, typing.Any]:
    """Strings as numpy has them, also where they are objects, as those of pandas are."""
    is_text = data.dtype == object and all(isinstance(label, str) for label in data.flat)
    return data.astype(str) if is_text else data


def _is_same(source: Source, before: Source | None, buffered: str) -> bool:
    """Whether metadata can be no other: what sources pass on unchanged is the same object. Called for each message."""
    if before is None:
        return False
    dims, axes, attrs, key, stream_dim = source
    dims_before, axes_before, attrs_before, key_before, stream_dim_before = before
    return (
        (dims, key, stream_dim) == (dims_before, key_before, stream_dim_before)
        and (attrs is attrs_before or _are_identical(attrs, attrs_before))
        and axes.keys() == axes_before.keys()
        and all(_is_same_axis(axis, axes_before[name], name == buffered) for name, axis in axes.items())
    )


def _are_identical(one: Mapping[str, typing.Any], other: Mapping[str, typing.Any]) -> bool:
    return one.keys() == other.keys() and all(value is other[name] for name, value in one.items())


def _is_same_axis(one: typing.Any, other: typing.Any, is_buffered: bool) -> bool:
    if one is other:
        return True
    if type(one) is not type(other) or one.unit != other.unit:
        return False
    if not hasattr(one, "data"):
        return bool(one.gain == other.gain and (is_buffered or one.offset == other.offset))
    if list(one.dims) != list(other.dims):
        return False
    if is_buffered or one.data is other.data:
        return True
    return one.data.dtype == other.data.dtype and np.array_equal(one.data, other.data)
