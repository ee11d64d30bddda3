"""The sink and the mirror of shmhot.ezmsg beside those of ezmsg-tools, each with each."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from multiprocessing import Pipe, resource_tracker

import numpy as np
import pytest
from conftest import eventually

from shmhot import CircBuff, Mirror
from shmhot.circbuf import StreamEnded, short_name
from shmhot.ezmsg import shmem_mirror as ours

SINKS = ["shmhot.ezmsg.shmem", "ezmsg.tools.shmem.shmem"]
MIRRORS = ["shmhot.ezmsg.shmem_mirror", "ezmsg.tools.shmem.shmem_mirror"]


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    """Python would remove streams that ezmsg-tools has opened, when this process ends."""
    monkeypatch.setattr(resource_tracker, "register", lambda name, kind: None)
    monkeypatch.setattr(resource_tracker, "unregister", lambda name, kind: None)


@pytest.fixture
def name():
    name = f"shmhot-test-{uuid.uuid4()}"
    yield name
    assert not os.path.exists("/dev/shm/" + short_name(name))
    for generation in range(5):  # what ezmsg-tools leaves when the format changes
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/dev/shm/" + short_name(f"{name}/buffer{generation}"))


@pytest.fixture(params=MIRRORS)
def mirror(request, name):
    module = pytest.importorskip(request.param, reason="ezmsg-tools is not installed")
    mirror = module.EZShmMirror(name)
    yield mirror
    mirror.disconnect()


@pytest.fixture(params=SINKS)
def sink(request, name):
    pytest.importorskip("ezmsg.core", reason="ezmsg is not installed")
    module = pytest.importorskip(request.param, reason="ezmsg-tools is not installed")
    return started(module, name, 0.5)


def started(module, name, buf_dur, **settings):
    sink = module.ShMemCircBuff(module.ShMemCircBuffSettings(name, buf_dur, **settings))
    sink._instantiate_state()  # as ezmsg does
    asyncio.run(sink.initialize())
    return sink


def message(first, n, dtype="f4", gain=0.01, labels=("a", "b", "c"), **rest):
    """Of three channels, with samples that tell where they belong."""
    from ezmsg.util.messages.axisarray import AxisArray, CoordinateAxis, LinearAxis

    data = np.arange(first, first + n) + np.array([[0.25], [0.5], [0.75]])
    axes = {
        "ch": CoordinateAxis(unit="", dims=["ch"], data=np.array(labels)),
        "time": LinearAxis(unit="s", gain=gain, offset=first * gain),
    }
    return AxisArray(
        (data * 4).astype(dtype), dims=["ch", "time"], axes=axes, **{"attrs": {"a": 1}, "key": "k", **rest}
    )


def rows(first, n, dtype="f4"):
    return message(first, n, dtype).data.T


def send(sink, *messages):
    for one in messages:
        asyncio.run(sink.on_message(one))


def view_of(mirror, n=None):
    """What there is once the mirror is connected: ezmsg-tools tries that every half second."""
    found = []

    def is_there():
        found[:] = mirror.timed_view(n)
        return len(found[0]) > 0 and found[0].size > 0

    eventually(is_there)
    return found


def test_each_sink_with_each_mirror(sink, mirror):
    calls = []
    mirror.register_change_callback(lambda: calls.append("buffer"))
    mirror.register_metadata_callback(lambda: calls.append("metadata"))
    frames, is_overflow = mirror.auto_view()
    assert (frames.shape, frames.dtype, is_overflow) == ((1, 0), np.float64, False)
    assert (mirror.connected, mirror.axes, mirror.metadata_available) == (False, None, False)

    send(sink, message(0, 10), message(10, 10))
    frames, times, is_overflow = view_of(mirror)
    assert np.array_equal(frames, rows(0, 20))
    assert frames.dtype == np.float32
    assert np.allclose(times, np.arange(20) * 0.01)
    assert not is_overflow
    assert sorted(calls) == ["buffer", "metadata"]
    assert (mirror.connected, mirror.buffer.shape, mirror.write_index) == (True, (50, 3), 20)
    meta = mirror.meta
    assert (meta.dtype, meta.srate, meta.ndim, tuple(meta.shape[:2])) == (b"f", 100, 2, (50, 3))
    assert (meta.key, meta.bvalid, meta.wrap_counter, meta.buffer_generation) == ("k", True, 0, 0)

    assert mirror.dims == ["time", "ch"]
    assert mirror.attrs == {"a": 1}
    assert (mirror.buffered_axis, mirror.stream_dim) == ("time", None)
    assert mirror.axes["time"] == {"kind": "linear", "unit": "s", "gain": 0.01}
    assert mirror.axes["ch"].pop("data").tolist() == ["a", "b", "c"]

    frames, is_overflow = mirror.auto_view()
    assert (frames.shape, frames.dtype, is_overflow) == ((0, 3), np.float32, False)
    send(sink, message(20, 7))
    assert mirror.auto_view(8)[0].shape == (0, 3)
    assert np.array_equal(mirror.auto_view(5)[0], rows(20, 5))
    assert np.array_equal(mirror.auto_view(2)[0], rows(25, 2))

    send(sink, *(message(first, 10) for first in range(27, 97, 10)))
    frames, is_overflow = mirror.auto_view()
    assert is_overflow
    assert np.array_equal(frames, rows(97 - len(frames), len(frames)))
    assert mirror.auto_view()[1] is False
    asyncio.run(sink.shutdown())


def test_callbacks_may_come_after_the_stream(sink, name):
    send(sink, message(0, 10))
    for module in MIRRORS:
        calls = []
        mirror = pytest.importorskip(module, reason="ezmsg-tools is not installed").EZShmMirror(name)
        mirror.register_change_callback(lambda calls=calls: calls.append("buffer"))
        mirror.register_metadata_callback(lambda calls=calls: calls.append("metadata"))
        assert len(mirror.auto_view()[0]) == 10
        assert sorted(calls) == ["buffer", "metadata"]
        mirror.disconnect()
    asyncio.run(sink.shutdown())


def test_follows_what_changes(sink, mirror):
    calls = []
    send(sink, message(0, 10))
    view_of(mirror)
    mirror.register_change_callback(lambda: calls.append("buffer"))
    mirror.register_metadata_callback(lambda: calls.append("metadata"))
    send(sink, message(10, 10, "i2"))
    assert np.array_equal(mirror.auto_view()[0], rows(10, 10, "i2"))
    assert calls == ["buffer"]
    send(sink, message(20, 10, "i2", labels=("x", "y", "z")))
    assert np.array_equal(mirror.auto_view()[0], rows(20, 10, "i2"))
    assert calls == ["buffer", "metadata"]
    assert mirror.axes["ch"]["data"].tolist() == ["x", "y", "z"]
    mirror.unregister_change_callback()
    mirror.unregister_metadata_callback()
    send(sink, message(30, 10, gain=0.02, attrs={"a": np.arange(2), "b": object()}))
    assert np.array_equal(mirror.auto_view()[0], rows(30, 10))
    assert mirror.meta.srate == 50
    assert mirror.attrs["a"].tolist() == [0, 1]
    assert mirror.attrs.keys() == {"a"}
    assert len(calls) == 2
    asyncio.run(sink.shutdown())


def test_is_renamed(sink, mirror, name):
    send(sink, message(0, 10))
    view_of(mirror)
    other = name + "-other"
    settings = type(sink.SETTINGS)(other, 1.0)
    renamed = sink.on_settings(settings)
    if renamed is not None:
        asyncio.run(renamed)
    mirror.connect(other)
    assert not mirror.connected
    send(sink, message(10, 10))
    assert np.array_equal(view_of(mirror)[0], rows(10, 10))
    assert mirror.buffer.shape == (100, 3)
    mirror.disconnect()
    assert (mirror.connected, mirror.meta) == (False, None)
    mirror.connect(None)
    assert mirror.auto_view()[0].shape == (1, 0)
    asyncio.run(sink.shutdown())


# What ezmsg-tools does not do


@pytest.fixture
def our_sink(name):
    pytest.importorskip("ezmsg.core", reason="ezmsg is not installed")
    from shmhot.ezmsg import shmem

    sink = started(shmem, name, 20.0)
    yield sink
    asyncio.run(sink.shutdown())


@pytest.fixture
def stream(name):
    """Single numbers, a ring of ten."""
    with CircBuff(name, dtype="i4", rate=1, frames=10) as stream:
        yield stream


@pytest.fixture
def our_mirror(name):
    mirror = ours.EZShmMirror(name)
    yield mirror
    mirror.disconnect()


def test_irregular_samples_stay_in_their_ring(our_sink, our_mirror):
    from ezmsg.util.messages.axisarray import AxisArray, CoordinateAxis

    for first, spacing in ((0, 1.0), (10, 0.5), (20, 0.3)):
        axes = {"time": CoordinateAxis(unit="s", dims=["time"], data=first + spacing * np.arange(10))}
        samples = np.arange(first, first + 10)[:, np.newaxis]
        send(our_sink, AxisArray(samples, dims=["time", "ch"], axes=axes))
        frames, times, _ = our_mirror.timed_view()
        assert np.array_equal(frames, samples)
        assert np.array_equal(times, axes["time"].data)
    assert (our_mirror.meta.buffer_generation, our_mirror.meta.srate, our_mirror.buffer.shape) == (0, 0, (20, 1))
    assert our_mirror.axes["time"] == {"kind": "coord", "unit": "s", "dims": ["time"]}


def test_follows_the_stream_dim_unless_told_otherwise(our_sink, name):
    from ezmsg.util.messages.axisarray import AxisArray, LinearAxis

    axes = {"win": LinearAxis(gain=0.5), "time": LinearAxis(gain=0.01)}
    windows = AxisArray(np.zeros((2, 5)), dims=["time", "win"], axes=axes)
    if not hasattr(windows, "stream_dim"):
        pytest.skip("this ezmsg knows no stream_dim")
    windows.stream_dim = "win"
    send(our_sink, windows)
    with Mirror(name) as mirror:
        assert mirror.read().frames.shape == (5, 2)
        assert mirror.metadata["dims"] == ["win", "time"]
        settings = type(our_sink.SETTINGS)(name, 20.0, axis="time")
        asyncio.run(our_sink.on_settings(settings))
        send(our_sink, windows)
        assert mirror.read().frames.shape == (2, 5)
        assert mirror.metadata["buffered_axis"] == "time"
        send(our_sink, AxisArray(np.zeros(3), dims=["freq"]), "no message")
        assert len(mirror.read()) == 0


def test_metadata_is_published_when_it_changes(our_sink, name):
    with Mirror(name) as mirror:
        for first in range(0, 50, 10):
            send(our_sink, message(first, 10, attrs={"made": np.arange(2)}))
        assert mirror.info.metadata_generation == 1
        send(our_sink, message(50, 10, attrs={"made": np.arange(3)}))
        assert mirror.info.metadata_generation == 2


def test_labels_may_be_objects(our_sink, our_mirror):
    send(our_sink, message(0, 10, labels=np.array(["a", "b", "c"], object)))
    assert our_mirror.axes["ch"]["data"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "rest",
    [
        {"labels": np.array(["a", None, "c"], object)},
        {"attrs": {"text": "\ud800"}},
        {"attrs": {"much": np.zeros(3 << 20)}},
    ],
    ids=["labels", "text", "size"],
)
def test_frames_go_on_without_metadata_that_cannot_be(our_sink, our_mirror, caplog, rest):
    send(our_sink, message(0, 10))
    assert our_mirror.attrs == {"a": 1}
    send(our_sink, message(10, 10, **rest), message(20, 10, **rest))
    assert np.array_equal(our_mirror.auto_view()[0], rows(0, 30))
    assert (our_mirror.attrs, our_mirror.metadata_available) == (None, False)
    assert caplog.text.count("does not publish metadata") == 1
    send(our_sink, message(30, 10))
    assert our_mirror.attrs == {"a": 1}


def test_metadata_that_cannot_be_read_is_none(name, our_mirror):
    theirs = pytest.importorskip("ezmsg.tools.shmem.shmem", reason="ezmsg-tools is not installed")
    sink = started(theirs, name, 1.0)
    send(sink, message(0, 10))
    assert our_mirror.auto_view()[0].shape == (10, 3)
    assert our_mirror.attrs == {"a": 1}
    send(sink, message(10, 10, labels=np.array(["a", None, "c"], object)))
    assert our_mirror.auto_view()[0].shape == (10, 3)
    assert (our_mirror.axes, our_mirror.metadata_available) == (None, False)
    asyncio.run(sink.shutdown())


def test_the_sink_tells_and_is_told(name):
    ez = pytest.importorskip("ezmsg.core", reason="ezmsg is not installed")
    from shmhot.ezmsg import shmem

    here, there = Pipe()
    sink = started(shmem, None, 1.0, conn=there)
    send(sink, message(0, 3))
    here.send("something else")
    here.send("quit")
    with pytest.raises(ez.NormalTermination):
        asyncio.run(sink.check_continue())
    with Mirror(sink.SETTINGS.shmem_name) as mirror:
        assert np.array_equal(mirror.read().frames, rows(0, 3))
    asyncio.run(sink.shutdown())
    told = []
    while here.poll():
        try:
            told.append(here.recv())
        except EOFError:
            break
    begin = ["meta reset", "begin update", "meta updated", "buffer reset", "aux updated"]
    assert told == [*begin, "buffer cleanup", "meta cleanup", "close"]


def test_single_frames_and_exact_fills_come_once(stream, our_mirror):
    first = 0
    for n in [1, 10, 3, 10, 1]:
        stream.write(np.arange(first, first + n))
        frames, is_overflow = our_mirror.auto_view()
        assert np.array_equal(frames, np.arange(first, first + n))
        assert not is_overflow
        assert our_mirror.auto_view()[0].shape == (0,)
        first += n
        meta = our_mirror.meta
        assert meta.wrap_counter * 10 + meta.write_index == first
        assert 1 <= meta.write_index == our_mirror.write_index <= 10


def test_what_was_returned_stays(stream, our_mirror):
    stream.write(np.arange(5))
    frames, times, _ = our_mirror.timed_view()
    stream.write(np.arange(5, 25))
    assert np.array_equal(frames, np.arange(5))
    assert np.array_equal(times, np.arange(5))
    assert our_mirror.metadata_available is False  # it has looked, and has not taken the overflow for itself
    frames, is_overflow = our_mirror.auto_view(4)
    assert (frames.tolist(), is_overflow) == ([15, 16, 17, 18], True)


def test_what_is_no_stream_is_told(name):
    path = "/dev/shm/" + short_name(name)
    with open(path, "wb") as file:
        file.write(bytes(2000))
    try:
        mirror = ours.EZShmMirror(name)
        with pytest.raises(ours.ShmemVersionError, match=short_name(name)):
            eventually(lambda: mirror.auto_view() is None)
    finally:
        os.unlink(path)


def test_names():
    assert ours.shorten_shmem_name("demo") == short_name("demo")
    assert ours.shorten_shmem_name(None) is None


GRAPH = """
import asyncio, sys
import ezmsg.core as ez
import numpy as np
from ezmsg.util.messages.axisarray import AxisArray, LinearAxis
from shmhot.ezmsg.shmem import ShMemCircBuff, ShMemCircBuffSettings

class Source(ez.Unit):
    OUTPUT = ez.OutputStream(AxisArray)

    @ez.publisher(OUTPUT)
    async def produce(self):
        first = 0
        while True:
            data = np.arange(first, first + 5, dtype=float)[:, np.newaxis]
            axes = {"time": LinearAxis(unit="s", gain=0.001, offset=first / 1000)}
            yield self.OUTPUT, AxisArray(data, dims=["time", "ch"], axes=axes)
            first += 5
            await asyncio.sleep(0.005)

class Graph(ez.Collection):
    SOURCE = Source()
    SINK = ShMemCircBuff(ShMemCircBuffSettings(sys.argv[1], 2.0))

    def network(self):
        return ((self.SOURCE.OUTPUT, self.SINK.INPUT_SIGNAL),)

ez.run(GRAPH=Graph())
"""


def test_in_a_graph(name):
    pytest.importorskip("ezmsg.core", reason="ezmsg is not installed")
    graph = subprocess.Popen([sys.executable, "-c", GRAPH, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Mirror(name) as mirror:
            count = 0
            for chunk in mirror:
                assert np.array_equal(chunk.frames[:, 0], np.arange(chunk.first, chunk.first + len(chunk)))
                assert np.allclose(chunk.times, chunk.frames[:, 0] / 1000)
                count += len(chunk)
                if count > 200:
                    break
            graph.send_signal(signal.SIGINT)
            assert graph.wait(30) == 0
            with pytest.raises(StreamEnded):
                while True:
                    mirror.wait(timeout=20)
                    mirror.read()
    finally:
        graph.kill()
        graph.wait()
