"""Streams: what is written is read, whole and once, by whoever reads it."""

import asyncio
import os
import signal
import stat
import threading
import time
import uuid

import numpy as np
import pytest
from conftest import eventually, in_child, interrupted

from shmhot import AsyncMirror, CircBuff, ForkError, Mirror
from shmhot.circbuf import Format, State, StreamEnded, WriterDied, _chunk, short_name

DTYPES = "efdbBhHiIlLqQ?FD"

WRITER = """
import sys, time
import numpy as np
from shmhot import CircBuff
stream = CircBuff(sys.argv[1], dtype="f8", rate=1000, frames=1000)
stream.write(np.arange(int(sys.argv[2]), dtype=float))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def name():
    name = f"shmhot-test-{uuid.uuid4()}"
    yield name
    for what in ["", *(f"/buffer{i}" for i in range(20)), *(f"/meta{i}" for i in range(20))]:
        assert not os.path.exists("/dev/shm/" + short_name(name + what))


@pytest.fixture
def stream(name):
    """Frames of four floats, a ring of ten."""
    with CircBuff(name, dtype="f4", shape=4, rate=100, frames=10) as stream:
        yield stream


@pytest.fixture
def mirror(name):
    with Mirror(name) as mirror:
        yield mirror


def frames(first, n, shape=(4,)):
    """Frames of which each number tells where it belongs."""
    size = int(np.prod(shape))
    return np.arange(first * size, (first + n) * size, dtype=np.float32).reshape(n, *shape)


# Writing and reading


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
def test_reads_what_is_written(name, dtype, shape):
    with CircBuff(name, dtype=dtype, shape=shape, rate=10, seconds=2, key="kéy") as stream, Mirror(name) as mirror:
        given = np.random.default_rng(1).integers(0, 2, (7, *shape)).astype(dtype)
        stream.write(given)
        chunk = mirror.read()
        assert chunk.frames.dtype == np.dtype(dtype)
        assert np.array_equal(chunk.frames, given)
        assert np.allclose(chunk.times, np.arange(7) / 10)
        assert (chunk.first, chunk.lost, len(chunk)) == (0, 0, 7)
        assert mirror.format == stream.format == Format(np.dtype(dtype), shape, 20, 10, "kéy")


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_every_layout_has_times(name, layout):
    with CircBuff(name, dtype="i2", rate=4, frames=8, start=5, layout=layout) as stream, Mirror(name) as mirror:
        stream.write(np.arange(3))
        begin = 5 if layout == 2 else 0
        assert mirror.read(1).times.tolist() == [begin]
        assert mirror.view().times.tolist() == [begin + 0.25, begin + 0.5]
        assert mirror.info.layout == stream.info.layout == layout


def test_irregular_frames_have_times_of_their_own(name):
    with CircBuff(name, dtype="f4", frames=8) as stream, Mirror(name) as mirror:
        with pytest.raises(OSError, match="need a timestamp each"):
            stream.write([1])
        stream.write([1, 2], [0.5, 7])
        stream.write(3, [9])
        assert mirror.read().times.tolist() == [0.5, 7, 9]
    with CircBuff(name, dtype="f4", frames=8, layout=1) as stream, Mirror(name) as mirror:
        stream.write([1], [0.5])
        assert np.isnan(mirror.view(1).times).all()
        stream.write([2], [0.5])
        assert np.isnan(mirror.read(1).times).all()


@pytest.mark.parametrize(
    "arrange",
    [
        np.asfortranarray,
        lambda array: array[::-1][::-1],
        lambda array: np.repeat(array, 2, axis=1)[:, ::2],
        lambda array: np.flip(np.ascontiguousarray(np.flip(array, 0)), 0),
        lambda array: array.astype(">f4"),
        lambda array: array.astype("f8"),
        np.ndarray.tolist,
    ],
)
def test_takes_arrays_of_any_strides(stream, mirror, arrange):
    for first in range(0, 28, 7):
        stream.write(arrange(frames(first, 7)))
        assert np.array_equal(mirror.read().frames, frames(first, 7))


def test_one_number_for_all(stream, mirror):
    stream.write(np.broadcast_to(np.float32(3), (5, 4)))
    assert np.array_equal(mirror.read().frames, np.full((5, 4), 3))


def test_single_frames_exact_fills_and_more_than_the_ring_come_once(stream, mirror):
    read = []
    first = 0
    for n in [1, 9, 10, 1, 1, 10, 7, 0, 3, 25]:
        stream.write(frames(first, n))
        chunk = mirror.read()
        assert np.array_equal(chunk.frames, frames(chunk.first, len(chunk)))
        assert chunk.first == first + chunk.lost
        assert np.allclose(chunk.times, np.arange(chunk.first, first + n) / 100)
        read.append(len(chunk) + chunk.lost)
        first += n
        assert len(mirror.read()) == 0
    assert read == [1, 9, 10, 1, 1, 10, 7, 0, 3, 25]
    assert mirror.info.lost == 15


def test_what_cannot_be_written_is_refused(stream, mirror):
    with pytest.raises(ValueError, match=r"shape \(3, 5\) is neither frames of shape \(4,\) nor one"):
        stream.write(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="neither"):
        stream.write(np.float32(1))
    with pytest.raises(TypeError, match="same_kind"):
        stream.write(np.zeros((3, 4), complex))
    with pytest.raises(ValueError, match="one for each"):
        stream.write(frames(0, 3), [1, 2])
    assert len(mirror.read()) == 0


def test_reads_into_arrays(stream, mirror):
    out, times = np.zeros((6, 4), np.float32), np.zeros(6)
    assert len(mirror.read(out=out)) == 0
    stream.write(frames(0, 9))
    chunk = mirror.read(out=out, times=times)
    assert np.shares_memory(chunk.frames, out)
    assert np.array_equal(out, frames(0, 6))
    assert np.allclose(times, np.arange(6) / 100)
    assert len(mirror.read(2, out=out)) == 2
    chunk = mirror.read(out=out, times=times)
    assert np.array_equal(chunk.frames, frames(8, 1))
    assert np.array_equal(out[1:], [*frames(7, 1), *frames(2, 4)])
    with pytest.raises(ValueError, match=r"out is of float64 and shape \(6,\)"):
        mirror.read(out=times)
    with pytest.raises(ValueError, match="give both"):
        mirror.read(times=times)
    with pytest.raises(ValueError, match="contiguous"):
        stream.write(frames(9, 1))
        mirror.read(out=np.zeros((4, 6), np.float32).T)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|writable"):
        mirror.read(out=out)


def test_reads_by_time_and_by_number(stream, mirror):
    stream.write(frames(0, 25))
    assert np.array_equal(mirror.read_time(0.16, 0.19).frames, frames(16, 3))
    assert np.array_equal(mirror.read_time(0, 9, n=2).frames, frames(15, 2))
    assert len(mirror.read_time(0.3, 0.4)) == 0
    assert np.array_equal(mirror.read_time(-np.inf, np.inf).frames, frames(15, 10))
    assert mirror.read().first == 15
    mirror.seek(0)
    assert mirror.read(1).first == 15
    mirror.seek(20)
    assert mirror.read(1).first == 20
    mirror.seek(None)
    assert len(mirror.read()) == 0
    stream.write(frames(25, 1))
    chunk = mirror.read()
    assert (chunk.first, chunk.lost) == (25, 0)


def test_reads_by_times_that_are_denser_than_the_rate(name):
    with CircBuff(name, dtype="i4", rate=1, frames=1000) as stream, Mirror(name) as mirror:
        stream.write(np.arange(500), np.arange(500) / 1000)
        assert mirror.read_time(0.1, 0.4).frames.tolist() == list(range(100, 400))


def test_from_now(name, stream):
    stream.write(frames(0, 5))
    with Mirror(name, from_now=True) as mirror:
        assert len(mirror.read()) == 0
        stream.write(frames(5, 1))
        assert mirror.read().first == 5


# Views


def test_views_are_of_the_ring(stream, mirror):
    assert len(mirror.view()) == 0
    stream.write(frames(0, 8))
    view = mirror.view(6)
    assert (len(view), view.first, view.lost, view.intact) == (6, 0, 0, True)
    assert np.array_equal(view.frames, frames(0, 6))
    assert np.allclose(view.times, np.arange(6) / 100)
    assert np.shares_memory(view.frames, mirror.ring)
    with pytest.raises(ValueError, match="read-only"):
        view.frames[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.frames.flags.writeable = True


def test_a_view_that_passes_the_end_has_two_parts(stream, mirror):
    stream.write(frames(0, 8))
    mirror.read(7)
    stream.write(frames(8, 4))
    view = mirror.view()
    assert [len(part) for part in view.parts] == [3, 2]
    assert all(np.shares_memory(part, mirror.ring) for part in view.parts)
    assert np.array_equal(view.frames, frames(7, 5))
    assert np.allclose(view.times, np.arange(7, 12) / 100)
    assert not np.shares_memory(view.frames, mirror.ring)
    assert np.array_equal(view.copy().frames, frames(7, 5))


def test_a_view_tells_when_it_was_overwritten(stream, mirror):
    stream.write(frames(0, 5))
    view = mirror.view()
    stream.write(frames(5, 5))
    assert view.intact
    stream.write(frames(10, 1))
    assert not view.intact
    later = mirror.view()
    assert later.intact
    stream.write(frames(11, 20))
    assert not later.intact
    lapped = mirror.view()
    assert (lapped.first, lapped.lost) == (21, 10)


def test_a_copy_of_a_view_has_what_is_still_whole(stream, mirror):
    stream.write(frames(0, 8))
    mirror.read(1)
    view = mirror.view()
    stream.write(frames(8, 5))
    copy = view.copy()
    assert np.array_equal(copy.frames, frames(3, 5))
    assert np.allclose(copy.times, np.arange(3, 8) / 100)
    assert (copy.first, copy.lost, len(copy)) == (3, 2, 5)
    stream.write(frames(13, 10))
    assert (len(view.copy()), view.copy().lost) == (0, 7)


def test_arrays_outlive_everything(name):
    stream, mirror = CircBuff(name, dtype="f4", shape=4, rate=1, frames=10), Mirror(name)
    stream.write(frames(0, 3))
    with stream.reserve(2) as room:
        room.frames[:] = frames(3, 2)
    view = mirror.view()
    kept, times, written = view.frames, view.times, room.frames
    mirror.close()
    stream.close()
    del stream, mirror, view, room
    assert np.array_equal(kept, frames(0, 5))
    assert np.array_equal(times, np.arange(5))
    written[:] = 0
    assert np.array_equal(kept[3:], np.zeros((2, 4)))


# Reserving


def test_fills_the_ring_in_place(stream, mirror):
    first = 0
    for n in [4, 4, 5, 10, 1]:
        with stream.reserve(n) as (room, times):
            assert len(mirror.read()) == 0
            room[:] = frames(first, n)
            assert np.allclose(times, np.arange(first, first + n) / 100)
            times += 1000
        chunk = mirror.read()
        assert np.array_equal(chunk.frames, frames(first, n))
        assert np.allclose(chunk.times, np.arange(first, first + n) / 100 + 1000)
        stream.write(frames(first + n, 1), [(first + n) / 100])
        assert np.array_equal(mirror.read().frames, frames(first + n, 1))
        first += n + 1


def test_reservations_are_given_up_in_part_or_whole(stream, mirror):
    with stream.reserve(5) as room:
        room.frames[:2] = frames(0, 2)
        room.commit(2)
    with pytest.raises(ZeroDivisionError), stream.reserve(3) as (room, _):
        room[:] = 7
        raise ZeroDivisionError
    assert np.array_equal(mirror.read().frames, frames(0, 2))
    with pytest.raises(OSError, match="10"):
        stream.reserve(11)
    with stream.reserve(1) as room, pytest.raises(OSError, match="reserved"):
        stream.write(frames(0, 1))
    with stream.reserve(2) as room:
        for n, error in ((3, OSError), (-1, OverflowError)):
            with pytest.raises(error):
                room.commit(n)
        room.frames[:] = frames(3, 2)
    assert np.array_equal(mirror.read().frames[1:], frames(3, 2))
    with pytest.raises(OSError, match="reserved"):
        room.commit()


# Formats


def test_integers_of_numpy_are_as_good_as_others(stream, mirror):
    assert stream.configure(shape=np.int64(3), rate=np.int64(50), frames=np.int64(10))
    assert repr((stream.format.shape, stream.format.rate)) == "((3,), 50.0)"
    stream.write(frames(0, 5, (3,)), np.arange(5))
    mirror.seek(np.int64(1))
    assert (len(mirror.read(np.int64(2))), len(mirror.view(np.uint8(1))), mirror.wait(np.int16(1))) == (2, 1, 1)
    for n, error in ((1.0, TypeError), (-1, OverflowError), (1 << 70, OverflowError)):
        with pytest.raises(error):
            mirror.read(n)


def test_follows_new_formats(stream, mirror):
    told = []
    mirror.on_format = told.append
    stream.write(frames(0, 3))
    assert mirror.available() == 3
    assert not stream.configure(rate=100)
    assert stream.configure(dtype="i4", shape=(), seconds=0.5, key="other")
    stream.write([7, 8])
    assert np.array_equal(mirror.read().frames, frames(0, 3))
    chunk = mirror.read()
    assert (chunk.frames.tolist(), chunk.first, chunk.lost) == ([7, 8], 3, 0)
    assert [(one.dtype.char, one.shape, one.frames, one.key) for one in told] == [
        ("f", (4,), 10, ""),
        ("i", (), 50, "other"),
    ]
    assert stream.format == mirror.format == told[1]
    stream.configure(shape=2)
    stream.write([[1, 2]])
    assert mirror.view().frames.tolist() == [[1, 2]]


def test_a_view_follows_a_new_format_and_an_old_one_stays(stream, mirror):
    stream.write(frames(0, 3))
    old = mirror.view()
    stream.configure(dtype="f8")
    stream.write(np.ones((1, 4)))
    assert mirror.view().frames.dtype == np.float64
    assert np.array_equal(old.frames, frames(0, 3))
    with pytest.raises(ValueError, match="frames of float64"):
        mirror.read(out=np.zeros((1, 4), np.float32))


@pytest.mark.parametrize(
    "what, why",
    [
        ({"dtype": "U4"}, "type"),
        ({"dtype": ">f4"}, "native"),
        ({"dtype": [("a", "f4")]}, "numbers"),
        ({"shape": (0,)}, "length 0"),
        ({"shape": (1,) * 64}, "63"),
        ({"rate": -1}, "rate"),
        ({"frames": 0}, "frames"),
        ({"key": "a\0b"}, "NUL"),
        ({"layout": 3}, "layout 3"),
    ],
)
def test_formats_that_cannot_be_are_refused(name, what, why):
    with pytest.raises((ValueError, OSError), match=why):
        CircBuff(name, **{"dtype": "f4", "frames": 10, "rate": 1, **what})


def test_a_stream_may_have_its_format_later(name, mirror):
    with CircBuff(name) as stream:
        assert (stream.format, mirror.format, mirror.state) == (None, None, State.UNCONFIGURED)
        with pytest.raises(BlockingIOError, match="format"):
            stream.write([1])
        with pytest.raises(ValueError, match="dtype"):
            stream.configure(rate=5)
        stream.configure(dtype="u1", rate=5, frames=3)
        stream.write([1])
        assert mirror.read().frames.tolist() == [1]


# Who writes


def test_a_second_writer_is_refused(name, stream):
    with pytest.raises(OSError, match=rf"{os.getpid()}"):
        CircBuff(name)


def test_objects_have_the_mode(name):
    with CircBuff(name, dtype="f4", rate=1, frames=1, mode=0o640):
        for what in ["", "/buffer0"]:
            assert stat.S_IMODE(os.stat("/dev/shm/" + short_name(name + what)).st_mode) == 0o640


def test_tells_what_there_is_to_know(stream, mirror):
    before = time.time_ns()
    stream.write(frames(0, 25))
    mirror.read(4)
    info = mirror.info
    assert info[:5] == (0, 15, 25, 19, 0)
    assert info[6:] == (State.ALIVE, 2, os.getpid(), 0, None, True)
    assert before - 10**8 < info.last_write_ns <= time.time_ns()
    assert info.last_write == np.datetime64(info.last_write_ns, "ns")
    assert stream.info.written == 25


def test_detached_streams_can_be_read_and_gone_on_with(name, mirror):
    stream = CircBuff(name, dtype="f4", shape=4, rate=1, frames=10)
    stream.write(frames(0, 3))
    stream.detach()
    assert stream.closed
    assert mirror.read().first == 0
    with pytest.raises(StreamEnded):
        mirror.wait(timeout=20)
    assert mirror.state == State.ENDED
    with CircBuff(name, dtype="f4", shape=4, rate=1, frames=10) as stream:
        stream.write(frames(3, 1))
        mirror.wait(timeout=20)
        assert mirror.read().first == 3


def test_says_that_the_writer_has_died_and_follows_the_next(name, mirror, process):
    writer = process(WRITER, name, 5)
    assert writer.stdout.readline() == "written\n"
    assert mirror.wait(5, timeout=20) == 5
    writer.kill()
    writer.wait()
    assert mirror.read().frames.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(WriterDied, match="died"):
        mirror.wait()
    assert mirror.state == State.DEAD
    begin = time.monotonic()
    with pytest.raises(WriterDied):
        mirror.wait(timeout=0.3)  # it waits for the next
    assert time.monotonic() - begin > 0.25
    process(WRITER, name, 3)
    assert mirror.wait(3, timeout=20) == 3
    assert mirror.read().frames.tolist() == [0, 1, 2]
    assert mirror.state == State.ALIVE
    os.kill(mirror.info.pid, signal.SIGKILL)
    eventually(lambda: mirror.state == State.DEAD)
    CircBuff(name).close()  # takes what is left with it


# Waiting


def test_waits(stream, mirror):
    assert mirror.wait(timeout=0) == 0
    begin = time.monotonic()
    assert mirror.wait(timeout=0.2) == 0
    assert time.monotonic() - begin >= 0.2
    timer = threading.Timer(0.1, stream.write, [frames(0, 2)])
    timer.start()
    assert mirror.wait(timeout=20) == 2
    timer.join()
    assert mirror.available() == 2
    assert mirror.wait(3, timeout=0.05) == 0
    stream.write(frames(2, 9))
    assert mirror.wait(1000, timeout=20) == 10
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            mirror.wait(timeout=wrong)


def test_waits_for_a_stream_and_its_format(name, mirror):
    with pytest.raises(FileNotFoundError):
        mirror.wait(timeout=0.05)

    def write():
        with CircBuff(name) as stream:
            time.sleep(0.05)
            stream.configure(dtype="f4", rate=1, frames=10)
            time.sleep(0.05)
            stream.write([1])
            eventually(lambda: read)

    read = []
    writer = threading.Thread(target=write)
    writer.start()
    assert mirror.wait(timeout=20) == 1
    read.append(mirror.read())
    writer.join()


def test_interrupts_end_a_wait(mirror):
    with interrupted():
        mirror.wait()


def test_closing_ends_a_wait(stream, mirror):
    timer = threading.Timer(0.1, mirror.close)
    timer.start()
    with pytest.raises(ValueError, match="this Mirror is closed"):
        mirror.wait(timeout=20)
    timer.join()


def test_iterates_until_the_stream_ends(name, mirror):
    def write():
        with CircBuff(name, dtype="f4", shape=4, rate=1000, frames=1000) as stream:
            for first in range(0, 500, 5):
                stream.write(frames(first, 5))
                time.sleep(0.0002)

    writer = threading.Thread(target=write)
    writer.start()
    read = np.concatenate([chunk.frames for chunk in mirror])
    writer.join()
    assert np.array_equal(read, frames(0, 500))


def test_asyncio(name, mirror):
    async def write():
        await asyncio.sleep(0.05)
        with CircBuff(name, dtype="f4", shape=4, rate=1000, frames=1000) as stream:
            for first in range(0, 50, 5):
                stream.write(frames(first, 5))
                await asyncio.sleep(0.002)

    async def read():
        assert await mirror.wait_async(5, timeout=20) >= 5
        return np.concatenate([chunk.frames async for chunk in mirror])

    async def both():
        return (await asyncio.gather(read(), write()))[0]

    assert np.array_equal(asyncio.run(both()), frames(0, 50))


def test_chunks_are_not_empty_though_the_writer_overtakes(stream, mirror, monkeypatch):
    """It does so twice while the first chunk is being copied, and then no more."""
    stream.write(frames(0, 10))
    read = Mirror.read

    def overtaken(self):
        chunk = read(self)
        if stream.info.written < 30:
            chunk = _chunk(chunk.frames[:0], chunk.times[:0], chunk.first + len(chunk), chunk.lost + len(chunk))
            stream.write(frames(stream.info.written, 10))
        return chunk

    monkeypatch.setattr(Mirror, "read", overtaken)
    chunk = next(iter(mirror))
    assert (chunk.first, len(chunk), chunk.lost) == (20, 10, 20)


def test_a_mirror_for_asyncio(name, stream):
    async def read():
        with AsyncMirror(name) as mirror:
            stream.write(frames(0, 2))
            assert await mirror.wait(2, timeout=20) == 2
            assert np.array_equal(mirror.read().frames, frames(0, 2))
            assert await mirror.wait(timeout=0) == 0
            with pytest.raises(TypeError, match="not iterable"):
                iter(mirror)
            stream.write(frames(2, 1))
            stream.close()
            return [chunk.first async for chunk in mirror]

    assert asyncio.run(read()) == [2]


def test_asyncio_gives_up_in_time(stream, mirror):
    async def wait():
        begin = time.monotonic()
        assert await mirror.wait_async(timeout=0.15) == 0
        assert time.monotonic() - begin >= 0.15
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(mirror.wait_async(), 0.05)
        stream.write(frames(0, 1))
        assert await mirror.wait_async(timeout=20) == 1

    asyncio.run(wait())


# Threads and processes


def test_threads_share_a_mirror(name):
    """One writes and changes the format, the others read what they can: each frame comes to one of them."""
    total = 20_000
    with CircBuff(name, dtype="f4", shape=4, rate=1, frames=total) as stream, Mirror(name) as mirror:
        stream.write(frames(0, 10))
        counts, wrong = [len(mirror.read())], []

        def read(read):
            count = 0
            while True:
                try:
                    mirror.wait(timeout=0.2)
                except StreamEnded:
                    break
                chunk = read()
                first = frames(chunk.first, len(chunk)) if chunk.frames.shape[1:] == (4,) else None
                if first is not None and not np.array_equal(chunk.frames, first.astype(chunk.frames.dtype)):
                    wrong.append(chunk)
                count += len(chunk) + chunk.lost
            counts.append(count)

        readers = [threading.Thread(target=read, args=[one]) for one in (mirror.read, mirror.view, mirror.read)]
        for reader in readers:
            reader.start()
        for first in range(10, total, 10):
            if first % 1000 == 0:
                stream.configure(dtype="f8" if first % 2000 else "f4")
            stream.write(frames(first, 10))
        eventually(lambda: mirror.available() == 0)
        stream.close()
        for reader in readers:
            reader.join()
        assert not wrong
        assert sum(counts) == total


def test_forked_children_read_and_do_not_write(stream, mirror):
    stream.write(frames(0, 2))
    assert in_child(lambda: mirror.read().frames.tolist()) == str(frames(0, 2).tolist())
    assert in_child(lambda: stream.write(frames(0, 1))).startswith(ForkError.__name__)
    assert in_child(stream.close) == "None"
    stream.write(frames(2, 1))
    assert mirror.read().first == 0


def test_a_child_waits_with_a_mirror_that_its_parent_was_waiting_with(stream, mirror):
    async def wait():
        return await mirror.wait_async(timeout=0.2)

    assert asyncio.run(wait()) == 0
    with mirror._following:  # as if another thread were learning of a new format
        assert in_child(lambda: (asyncio.run(wait()), mirror.format.shape)) == "(0, (4,))"


def test_closed_ones_say_so(name):
    stream, mirror = CircBuff(name, dtype="f4", rate=1, frames=2), Mirror(name)
    for one in (stream, mirror):
        one.close()
        one.close()
    for call in (lambda: stream.write([1]), lambda: stream.info, lambda: stream.reserve(1), stream.detach):
        with pytest.raises(ValueError, match="this CircBuff is closed"):
            call()
    for call in (mirror.read, mirror.view, mirror.available, lambda: mirror.format, lambda: mirror.metadata):
        with pytest.raises(ValueError, match="this Mirror is closed"):
            call()


def test_what_is_no_stream_is_refused(name):
    path = "/dev/shm/" + short_name(name)
    with open(path, "wb") as file:
        file.write(bytes(2000))
    try:
        with Mirror(name) as mirror, pytest.raises(OSError, match=short_name(name)):
            eventually(lambda: mirror.read() is None)
    finally:
        os.unlink(path)


def test_short_names():
    assert short_name("demo") == "sm_KpdRbDVLaISM29j1SiJq"
    with pytest.raises(ValueError, match="NUL"):
        short_name("a\0b")
    with pytest.raises(OSError, match="name"):
        CircBuff("")


# Metadata

METADATA = {
    "dims": ["time", "ch"],
    "axes": {
        "time": {"kind": "linear", "unit": "s", "gain": 0.01},
        "ch": {"kind": "coord", "unit": "", "dims": ["ch"], "data": np.array(["C3", "Cz", "ä", ""])},
        "space": {"kind": "linear", "unit": "mm", "gain": float("inf"), "offset": -1.5},
    },
    "attrs": {
        "none": None,
        "numbers": [True, -(2**70), 1.5, float("-inf"), 1 + 2j],
        "tuple": (1, (b"\0\xff", "ü"), {"$odd": {"$$": 1}}),
    },
    "key": "signal",
    "buffered_axis": "time",
    "stream_dim": None,
}


def same(one, other):
    """Equal to the type, and to the dtype."""
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        return one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_metadata_leads_back(name, mirror):
    assert mirror.metadata is None
    with CircBuff(name, dtype="f4", rate=100, frames=10, metadata=METADATA) as stream:
        eventually(lambda: mirror.metadata is not None)
        assert same(mirror.metadata, METADATA)
        assert not stream.set_metadata(METADATA)
        stream.metadata = None
        eventually(lambda: mirror.metadata is None)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.array([2**64 - 1, 0], np.uint64),
        np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float16),
        np.array([0.1, 1 / 3], np.float32),
        np.array([1 + 2j, complex(np.nan, -np.inf)], np.complex64),
        np.array([True, False]),
        np.array([b"a\0b", b""]),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([1, 2], "m8[25us]"),
        np.array(5.0),
        np.zeros((0, 3), np.int8),
        np.array([("x", [1, 2], (3.0,))], [("label", "U4"), ("at", "i4", (2,)), ("in", [("deep", ">f8")])]),
        np.array([b"abc"], "V3"),
    ],
)
def test_arrays_of_metadata_lead_back(stream, mirror, array):
    stream.metadata = {"attrs": {"array": array}, "axes": {"ch": {"kind": "coord", "data": array}}}
    found = mirror.metadata
    assert same(found["attrs"]["array"], array)
    assert same(found["axes"]["ch"]["data"], array)


def test_scalars_of_numpy_become_plain(stream, mirror):
    stream.metadata = {"attrs": {"i": np.int8(5), "f": np.float32(0.5), "b": np.bool_(True), "s": np.str_("x")}}
    assert same(mirror.metadata["attrs"], {"i": 5, "f": 0.5, "b": True, "s": "x"})
    stream.metadata = {"axes": {"time": {"kind": "linear", "gain": np.float32(0.5), "offset": np.int64(2)}}}
    assert same(mirror.metadata["axes"]["time"], {"kind": "linear", "unit": "", "gain": 0.5, "offset": 2.0})


@pytest.mark.parametrize(
    "metadata, error, why",
    [
        ({"attrs": {"a": [object()]}}, TypeError, r"attrs.a\[0\] is of type object"),
        ({"attrs": {"a": {1: 2}}}, TypeError, "attrs.a has the name 1"),
        ({"attrs": {"a": np.array([None])}}, TypeError, "an array of type object"),
        ({"attrs": {"a": np.zeros(1, [("x", "g")])}}, TypeError, "an array of type"),
        ({"other": 1}, OSError, "other"),
        ({"axes": {"ch": {"kind": "round"}}}, OSError, "axes.ch.kind"),
    ],
)
def test_metadata_that_cannot_be_is_refused(stream, mirror, metadata, error, why):
    with pytest.raises(error, match=why):
        stream.metadata = metadata
    assert stream.metadata is None
    assert mirror.metadata is None


def test_metadata_is_noticed(name):
    told = []
    with CircBuff(name, dtype="f4", rate=1, frames=10) as stream, Mirror(name, on_metadata=told.append) as mirror:
        for attrs in ({"a": 1}, {"a": 1}, {"a": 2}):
            stream.metadata = {"attrs": attrs}
            mirror.read()
            mirror.view()
        stream.metadata = None
        mirror.read()
        assert [one and one["attrs"] for one in told] == [{"a": 1}, {"a": 2}, None]
