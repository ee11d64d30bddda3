"""The Python package beside ezmsg-tools: live streams of 64 x 128 and of 1 x 8 float32, each written and read by one
process, in rounds that take turns.

    python benches/circbuf/stream.py [ROUNDS]

Ends with 2 when a bar is missed.
"""

import asyncio
import gc
import logging
import os
import platform
import statistics
import sys
import time

import ezmsg.tools.shmem.shmem
import ezmsg.tools.shmem.shmem_mirror
import numpy as np
import shmhot.ezmsg.shmem
import shmhot.ezmsg.shmem_mirror
from ezmsg.util.messages.axisarray import AxisArray
from shmhot import CircBuff, Mirror

RATE = 1000.0
RING = 4096  # frames
CHUNKS = 48  # of a turn, which are fewer than the ring holds
SHAPES = [(64, 128), (1, 8)]


class Ezmsg:
    """Their unit, called as their runtime calls it, and their mirror: or what has the same interface."""

    def __init__(self, package, frames, channels):
        self.frames = frames
        self.chunk = np.ones((frames, channels), np.float32)
        name = f"bench-{package.__name__}-{os.getpid()}"
        self.loop = asyncio.new_event_loop()
        settings = package.shmem.ShMemCircBuffSettings(shmem_name=name, buf_dur=RING / RATE)
        self.unit = package.shmem.ShMemCircBuff(settings)
        self.loop.run_until_complete(self.unit.setup())
        self.sent = 0
        self.send(self.message())
        # Theirs never gives the last frame alone: so one is always left over.
        self.send(self.message())
        self.mirror = package.shmem_mirror.EZShmMirror(name)
        assert len(self.mirror.auto_view(frames)[0]) == frames

    def message(self):
        """Of a live stream: each tells when it was."""
        time_axis = AxisArray.TimeAxis(fs=RATE, offset=self.sent / RATE)
        self.sent += self.frames
        return AxisArray(self.chunk, ["time", "ch"], axes={"time": time_axis}, key="bench")

    def send(self, message):
        try:
            self.unit.on_message(message).send(None)
        except StopIteration:
            return
        raise AssertionError("it waits for something")

    def prepare(self):
        self.messages = [self.message() for _ in range(CHUNKS)]

    def write(self):
        for message in self.messages:
            self.send(message)

    def view(self):
        view, n = self.mirror.auto_view, self.frames
        for _ in range(CHUNKS):
            frames, _ = view(n)
        assert len(frames) == n

    def view_times(self):
        view, n = self.mirror.timed_view, self.frames
        for _ in range(CHUNKS):
            frames, times, _ = view(n)
        assert len(frames) == len(times) == n

    def close(self):
        self.mirror.disconnect()
        self.loop.run_until_complete(self.unit.shutdown())


class Ours:
    def __init__(self, frames, channels):
        self.frames = frames
        self.chunk = np.ones((frames, channels), np.float32)
        name = f"bench-ours-{os.getpid()}"
        self.stream = CircBuff(name, dtype=np.float32, shape=channels, rate=RATE, frames=RING)
        self.mirror = Mirror(name)
        # What numpy copies from: as much, and written as lately.
        self.ring = np.ones((RING, channels), np.float32), np.ones(RING)
        self.out = np.empty_like(self.chunk), np.empty(frames)

    def prepare(self):
        pass

    def write(self):
        write, chunk = self.stream.write, self.chunk
        for _ in range(CHUNKS):
            write(chunk)

    def view(self):
        view, n = self.mirror.view, self.frames
        for _ in range(CHUNKS):
            frames = view(n).frames
        assert len(frames) == n

    def view_times(self):
        view, n = self.mirror.view, self.frames
        for _ in range(CHUNKS):
            chunk = view(n)
            frames, times = chunk.frames, chunk.times
            intact = chunk.intact
        assert len(frames) == len(times) == n and intact

    def read(self):
        read, n = self.mirror.read, self.frames
        for _ in range(CHUNKS):
            chunk = read(n)
        assert len(chunk.frames) == len(chunk.times) == n

    def read_into(self):
        read, n, (out, times) = self.mirror.read, self.frames, self.out
        for _ in range(CHUNKS):
            chunk = read(n, out=out, times=times)
        assert len(chunk) == n

    def fill(self):
        ring, times = self.ring
        for begin in range(0, CHUNKS * self.frames, self.frames):
            ring[begin : begin + self.frames] = self.chunk
            times[begin : begin + self.frames] = begin / RATE

    def copy(self):
        (ring, times), n = self.ring, self.frames
        for begin in range(0, CHUNKS * n, n):
            ring[begin : begin + n].copy()
            times[begin : begin + n].copy()

    def copy_into(self):
        (ring, times), n, (out, out_times), copy = self.ring, self.frames, self.out, np.copyto
        for begin in range(0, CHUNKS * n, n):
            copy(out, ring[begin : begin + n])
            copy(out_times, times[begin : begin + n])

    def close(self):
        self.mirror.close()
        self.stream.close()


# What is measured, and what comes before it and after it, so that there is something to read, and nothing is left.
EZMSG = {"write": (None, "view"), "view": ("write", None), "view_times": ("write", None)}
WORK = {
    "theirs": EZMSG,
    "drop-in": EZMSG,
    "ours": {
        **EZMSG,
        "read": ("write", None),
        "read_into": ("write", None),
        "copy": ("fill", None),
        "copy_into": ("fill", None),
    },
}

# How many times as fast as theirs: at least, where that was promised.
FASTER = [
    ("CircBuff.write(chunk)", ("ours", "write"), ("theirs", "write"), 5),
    ("Mirror.view(n).frames", ("ours", "view"), ("theirs", "view"), 5),
    ("Mirror.view(n): .frames, .times, .intact", ("ours", "view_times"), ("theirs", "view_times"), None),
    ("ShMemCircBuff.on_message(message)", ("drop-in", "write"), ("theirs", "write"), None),
    ("EZShmMirror.auto_view(n)", ("drop-in", "view"), ("theirs", "view"), None),
    ("EZShmMirror.timed_view(n)", ("drop-in", "view_times"), ("theirs", "view_times"), None),
]
# How many times as long as numpy's own copies of as much: at most.
LONGER = [
    ("Mirror.read(n)", ("ours", "read"), ("ours", "copy"), 1.3),
    ("Mirror.read(n, out=, times=)", ("ours", "read_into"), ("ours", "copy_into"), None),
]


def measure(frames, channels, rounds):
    """Nanoseconds for a chunk, by who does what, of each round."""
    sides = {
        "theirs": Ezmsg(ezmsg.tools.shmem, frames, channels),
        "drop-in": Ezmsg(shmhot.ezmsg, frames, channels),
        "ours": Ours(frames, channels),
    }
    taken = {(who, what): [] for who, works in WORK.items() for what in works}
    turns = list(taken)
    try:
        for round in range(-2, rounds):  # the first ones are for warming up
            for who, what in turns[round % len(turns) :] + turns[: round % len(turns)]:  # nobody is always the first
                side, (before, after) = sides[who], WORK[who][what]
                side.prepare()
                if before:
                    getattr(side, before)()
                work = getattr(side, what)
                begin = time.perf_counter_ns()
                work()
                end = time.perf_counter_ns()
                if after:
                    getattr(side, after)()
                if round >= 0:
                    taken[who, what].append((end - begin) / CHUNKS)
    finally:
        for side in sides.values():
            side.close()
    return taken


class Table:
    """Of what was measured: a way beside another one, with the median of the rounds' ratios."""

    def __init__(self, taken):
        self.taken = taken
        self.missed = False

    def ratio(self, one, other):
        return statistics.median(a / b for a, b in zip(self.taken[one], self.taken[other]))

    def report(self, name, way, other, ratio, bar, is_met):
        self.missed |= not is_met
        times = [statistics.median(self.taken[key]) for key in (way, other)]
        told = "" if bar is None else f"  (bar: {bar})" if is_met else f"  (bar: {bar}, MISSED)"
        print(f"    {name:44} {times[0]:9.0f} {times[1]:9.0f} {ratio:7.2f}x{told}")


def main(rounds=301):
    gc.disable()  # as timeit does
    logging.disable(logging.CRITICAL)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, medians of {rounds} rounds")
    missed = False
    for frames, channels in SHAPES:
        table = Table(measure(frames, channels, rounds))
        print(f"\n{f'{frames} x {channels} float32, ns':48} {'shmhot':>9} {'theirs':>9}   as fast")
        for name, way, other, bar in FASTER:
            faster = table.ratio(other, way)
            table.report(name, way, other, faster, bar, bar is None or faster >= bar)
        print(f"{'':48} {'shmhot':>9} {'numpy':>9}   as long")
        for name, way, other, bar in LONGER:
            longer = table.ratio(way, other)
            table.report(name, way, other, longer, bar, bar is None or longer <= bar)
        missed |= table.missed
    sys.exit(2 if missed else 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
