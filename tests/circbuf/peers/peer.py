"""A released ezmsg-tools at one end of a stream: lines of JSON say what to do, and each is answered by one.

Frames are those of ../support.rs: the first of their 64-bit words is their number, each other tells of number and
place.
"""

import asyncio
import json
import sys
import time
import traceback
from multiprocessing import resource_tracker

import numpy as np
from ezmsg.tools.shmem.shmem import ShMemCircBuff, ShMemCircBuffSettings
from ezmsg.tools.shmem.shmem_mirror import EZShmMirror
from ezmsg.util.messages.axisarray import AxisArray, CoordinateAxis, LinearAxis

PATIENCE = 20  # seconds
FACTOR = np.uint64(0x9E3779B97F4A7C15)


def words(first, count, width):
    numbers = np.arange(first, first + count, dtype="u8")[:, None]
    with np.errstate(over="ignore"):
        frames = (numbers + np.arange(width, dtype="u8")) * FACTOR
    frames[:, :1] = numbers
    return frames


class Writer:
    """Their unit, called as their runtime calls it."""

    def __init__(self, name, seconds, axis="time"):
        self.loop = asyncio.new_event_loop()
        self.unit = ShMemCircBuff(ShMemCircBuffSettings(shmem_name=name, buf_dur=seconds, axis=axis))
        self.loop.run_until_complete(self.unit.setup())

    def settings(self, name, seconds, axis="time"):
        self.unit.on_settings(ShMemCircBuffSettings(shmem_name=name, buf_dur=seconds, axis=axis))

    def send(
        self,
        first,
        count,
        chunk,
        dtype,
        shape,
        rate,
        key="",
        pause=0.0,
        times=None,
        moved=False,
        labels=None,
        attrs=None,
    ):
        """Sends frames in messages of `chunk`. `moved`: the dimension that is buffered comes last."""
        dims = ["time", *(f"d{i}" for i in range(len(shape)))]
        axes = {}
        if labels is not None:
            axes["d0"] = CoordinateAxis(unit="", dims=["d0"], data=np.array(labels))
        width = int(np.prod(shape)) * np.dtype(dtype).itemsize // 8
        for begin in range(first, first + count, chunk):
            length = min(chunk, first + count - begin)
            data = words(begin, length, width).view(dtype).reshape(length, *shape)
            if times is None:
                axes["time"] = LinearAxis(unit="s", gain=1 / rate, offset=begin / rate)
            else:
                axes["time"] = CoordinateAxis(
                    unit="s", dims=["time"], data=times + np.arange(begin, begin + length) / rate
                )
            if moved:
                data = np.moveaxis(data, 0, -1)
            order = dims[1:] + dims[:1] if moved else dims
            message = AxisArray(data, order, axes=axes, attrs=attrs or {}, key=key)
            self.loop.run_until_complete(self.unit.on_message(message))
            time.sleep(pause)

    def shutdown(self):
        self.loop.run_until_complete(self.unit.shutdown())


class Reader:
    """Their mirror."""

    def __init__(self, name):
        self.mirror = EZShmMirror(name)
        self.changes = self.news = 0
        self.mirror.register_change_callback(self.changed)
        if hasattr(self.mirror, "register_metadata_callback"):
            self.mirror.register_metadata_callback(self.told)

    def changed(self):
        self.changes += 1

    def told(self):
        self.news += 1

    def read(self, count, n=None):
        """Reads until there were so many frames, each of which must be whole."""
        runs, overflows, read, times, frames = [], 0, 0, [], None
        end = time.monotonic() + PATIENCE
        while read < count:
            if time.monotonic() > end:
                return {"error": f"{read} of {count} frames after {PATIENCE} s: {runs}"}
            if hasattr(self.mirror, "timed_view"):
                frames, stamps, overflow = self.mirror.timed_view(n)
                times += stamps.tolist()
            else:
                frames, overflow = self.mirror.auto_view(n)
            overflows += bool(overflow)
            if frames.size == 0:
                time.sleep(0.0005)
                continue
            found = np.ascontiguousarray(frames).reshape(len(frames), -1).view("u8")
            numbers = found[:, 0].tolist()
            for number, frame in zip(numbers, found):
                if not np.array_equal(frame, words(number, 1, found.shape[1])[0]):
                    return {"error": f"torn: frame {number} of {numbers}"}
                if runs and runs[-1][1] == number:
                    runs[-1][1] += 1
                else:
                    runs.append([number, number + 1])
            read += len(numbers)
        return {
            "runs": runs,
            "overflows": overflows,
            "times": [times[0], times[-1]] if times else None,
            "dtype": frames.dtype.char,
            "shape": frames.shape[1:],
            "changes": self.changes,
        }

    def settle(self):
        """Looks until the ring is the one that the header names now."""
        end = time.monotonic() + PATIENCE
        while not self.mirror.connected and time.monotonic() < end:
            self.mirror.auto_view()
            time.sleep(0.01)
        self.mirror.auto_view()

    def connect(self, name):
        self.mirror.connect(name)

    def header(self):
        meta = self.mirror.meta
        return {
            "rate": meta.srate,
            "shape": list(meta.shape[: meta.ndim]),
            "key": meta.key,
            "generation": meta.buffer_generation,
            "index": meta.write_index,
            "wraps": meta.wrap_counter,
            "valid": meta.bvalid,
        }

    def metadata(self):
        """What they make of the metadata: arrays as their type and content."""
        if not self.mirror.metadata_available:
            return None
        return {
            "dims": self.mirror.dims,
            "axes": plain(self.mirror.axes),
            "attrs": plain(self.mirror.attrs),
            "stream_dim": self.mirror.stream_dim,
            "buffered_axis": self.mirror.buffered_axis,
            "news": self.news,
        }


def plain(value):
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return [type(value).__name__, value.dtype.str, list(value.shape), value.tolist()]
    if isinstance(value, tuple):
        return ["tuple", *map(plain, value)]
    if isinstance(value, (bytes, complex)):
        return [type(value).__name__, str(value)]
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def obey(end, what, arguments):
    match what:
        case "write":
            return Writer(**arguments), None
        case "mirror":
            return Reader(**arguments), None
        case "let_live":  # as readers do that want to end without taking the stream with them
            resource_tracker.register = lambda *_: None
            return end, None
        case _:
            return end, getattr(end, what)(**arguments)


def main():
    end = None
    for line in sys.stdin:
        try:
            end, answer = obey(end, *json.loads(line))
        except Exception:  # noqa: BLE001 - whoever has asked is told
            answer = {"error": traceback.format_exc()}
        print("answer", json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
