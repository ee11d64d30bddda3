"""Segments and stores: what is written is read, by whoever reads it."""

import gc
import math
import os
import struct
import threading

import numpy as np
import pytest
from conftest import eventually, in_child

from shmhot.observer import Field, Observer, Schema, SegmentStore, State, numbers, numpy_type

INTEGERS = {
    name: (0, 2**bits - 1) if name[0] in "uU" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for name in ([f"U{bits}", f"S{bits}"] if bits == 8 else [f"{letter}{bits}" for letter in "uUsS"])
}
FLOATS = ["f32", "F32", "f64", "F64"]
OFFSET = 4001  # a multiple of nothing
SCHEMA = Schema(
    {
        "requests_total": Field("u64", "counter", "Requests that were answered."),
        "sent_bytes": Field("u64", "counter", unit="bytes"),
        "requests_active": Field("u32", "gauge"),
        "load": "f64",
    }
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "segments"
    path.write_bytes(bytes(8192))
    return path


@pytest.fixture
def store(tmp_path):
    with SegmentStore.create(tmp_path / "store") as store:
        yield store


# Schemas


def test_a_schema_tells_its_fields():
    assert list(SCHEMA) == ["requests_total", "sent_bytes", "requests_active", "load"]
    assert SCHEMA["sent_bytes"] == Field("u64", "counter", None, "bytes", "sent_bytes", 8)
    assert SCHEMA["load"].offset == 20
    assert (SCHEMA.size, SCHEMA.dtype.itemsize, SCHEMA.dtype.fields["load"][1]) == (28, 28, 20)
    aligned = Schema(SCHEMA, aligned=True)
    assert [field.offset for field in aligned.values()] == [0, 8, 16, 24]
    assert "nothing" not in SCHEMA


@pytest.mark.parametrize(
    "given, name",
    [("i64", "s64"), ("F32", "F32"), (np.uint8, "U8"), (np.int16, "s16"), (np.dtype(">u4"), "U32"), (float, "f64")],
)
def test_types_are_names_or_numpys(given, name):
    field = Schema({"n": given})["n"]
    assert field.type == name
    if not isinstance(given, str):
        assert numpy_type(name) == np.dtype(given)


@pytest.mark.parametrize("given", ["u4", "", np.complex64, np.float16, bool, "f16"])
def test_other_types_are_refused(given):
    with pytest.raises(ValueError, match="is no type of a field"):
        Schema({"n": given})


def test_fields_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match='must be "counter", "gauge" or None'):
        Schema({"n": Field("u64", "histogram")})
    with pytest.raises(ValueError, match="NUL"):
        Schema({"a\0b": "u64"})
    with pytest.raises(OSError, match="name"):
        Schema({"n" * 128: "u64"})


# Observers


def test_each_type_holds_what_it_can_and_the_nearest_of_the_rest(path):
    with Observer(Schema({name: name for name in INTEGERS}), path, offset=OFFSET) as segment:
        for name, (lowest, highest) in INTEGERS.items():
            for given, stored in [
                (lowest, lowest),
                (highest, highest),
                (lowest - 1, lowest),
                (highest + 1, highest),
                (10**30, highest),
                (-(10**30), lowest),
                (7.9, 7),
                (-math.inf, lowest),
                (np.int8(5), 5),
                (np.float32(3.5), 3),
            ]:
                segment[name] = given
                assert segment[name] == stored, (name, given)
                assert segment.slot(name)[()] == stored


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_stored_as_they_are(path, name):
    with Observer(Schema({"n": name}), path) as segment:
        for number in (0.5, -math.inf, 2**53):
            segment["n"] = number
            assert segment["n"] == number
        segment["n"] = math.nan
        assert math.isnan(segment["n"])


def test_the_bytes_are_where_the_schema_says(path):
    with Observer(SCHEMA, path, 512, OFFSET) as segment:
        segment["requests_total"], segment["sent_bytes"] = 1, 2**63
        segment["requests_active"], segment["load"] = 3, 0.25
        assert struct.unpack_from("<QQId", path.read_bytes(), OFFSET) == (1, 2**63, 3, 0.25)
        assert segment.read() == {"requests_total": 1, "sent_bytes": 2**63, "requests_active": 3, "load": 0.25}
        assert np.frombuffer(path.read_bytes(), SCHEMA.dtype, 1, OFFSET).item() == (1, 2**63, 3, 0.25)


def test_refuses_what_does_not_fit_when_asked_to(path):
    with Observer(Schema({"n": "U8"}), path, refuse=True) as segment:
        segment["n"] = 255
        for refused in (256, -1, 1e9, 10**30):
            with pytest.raises(OSError, match="n"):
                segment["n"] = refused
        with pytest.raises(OSError):
            segment.add("n")
        assert segment["n"] == 255


def test_what_is_not_a_number_is_refused(path):
    with Observer(SCHEMA, path) as segment:
        with pytest.raises(OSError):
            segment["requests_total"] = math.nan
        with pytest.raises((TypeError, ValueError)):
            segment["requests_total"] = "many"
        with pytest.raises(KeyError):
            segment["nothing"] = 1


def test_reads_only_when_asked_to(path):
    with Observer(SCHEMA, path, read_only=True) as segment:
        assert segment["load"] == 0
        with pytest.raises(PermissionError):
            segment["load"] = 1
        with pytest.raises((ValueError, PermissionError)):
            segment.slot("load")[()] = 1


def test_threads_add_exactly(path):
    with Observer(SCHEMA, path) as segment:

        def count():
            for _ in range(5000):
                segment.add("requests_total")

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert segment["requests_total"] == 20000


def test_processes_add_exactly_to_an_aligned_segment(path, process):
    program = """
import sys
from shmhot.observer import Observer, Schema
with Observer(Schema({"small": "U8", "n": "u64", "x": "f64"}, aligned=True), sys.argv[1]) as segment:
    sys.stdin.readline()
    for _ in range(20000):
        segment.add("n", 3)
        segment.add("x", -0.5)
"""
    others = [process(program, path) for _ in range(3)]
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
    for other in others:
        assert other.wait(60) == 0
    with Observer(Schema({"small": "U8", "n": "u64", "x": "f64"}, aligned=True), path) as segment:
        assert segment.read() == {"small": 0, "n": 180000, "x": -30000}


def test_a_segment_lies_in_its_file(path):
    with pytest.raises(OSError, match="segments"):
        Observer(SCHEMA, path, 512, 8000)
    with pytest.raises(OSError, match=r"28"):
        Observer(SCHEMA, path, 27)


def test_a_child_reads_and_does_not_write(path):
    with Observer(SCHEMA, path) as segment:
        segment["load"] = 0.5
        assert in_child(lambda: segment["load"]) == "0.5"
        assert in_child(lambda: segment.set("load", 1)).startswith("ForkError: ")


# Stores


def test_a_store_says_what_it_holds(store):
    segment = store.allocate(SCHEMA, "wéb")
    with Observer(SCHEMA, store.path, store.segment_size, segment * store.segment_size) as worker:
        worker.add("requests_total", 5)
    with SegmentStore(store.path, read_only=True, checked=True) as reader:
        (worker,) = reader
        assert (worker.segment, worker.service, worker.pid, worker.fields) == (segment, "wéb", os.getpid(), 4)
        assert worker.state is State.ALIVE
        assert abs(worker.since - np.datetime64("now")) < np.timedelta64(60, "s")
        assert reader.schema(segment) == SCHEMA
        assert reader.read(segment) == {"requests_total": 5, "sent_bytes": 0, "requests_active": 0, "load": 0}
        with pytest.raises(PermissionError):
            reader.free(segment)


def test_a_worker_takes_and_gives_back(store):
    with store.observer(SCHEMA, "web") as worker:
        worker.add("load", 1.5)
        assert store.sum("load") == 1.5
    assert list(store) == []
    with pytest.raises(FileNotFoundError):
        store.read(0)
    forgotten = store.observer(SCHEMA)
    assert len(list(store)) == 1
    del forgotten
    gc.collect()
    assert list(store) == []


def test_a_worker_that_ends_gives_back(store, process):
    program = """
import sys
from shmhot.observer import Schema, SegmentStore
worker = SegmentStore(sys.argv[1]).observer(Schema({"n": "u64"}))
print(flush=True)
sys.stdin.readline()
"""
    worker = process(program, store.path)
    worker.stdout.readline()
    assert [one.pid for one in store] == [worker.pid]
    worker.stdin.write("\n")
    worker.stdin.flush()
    assert worker.wait(20) == 0
    assert list(store) == []


def test_a_worker_that_is_told_later(store):
    segment = store.allocate()
    assert store.worker(segment).state is State.UNDESCRIBED
    with pytest.raises(OSError, match="segment"):
        store.read(segment)
    store.describe(segment, SCHEMA, "late")
    assert store.worker(segment).service == "late"
    store.free(segment)


def test_sums_are_of_a_service_or_of_all(store):
    workers = [store.observer(SCHEMA, service) for service in ("a", "a", "b")]
    for number, worker in enumerate(workers, 1):
        worker["sent_bytes"] = number
    assert (store.sum("sent_bytes"), store.sum("sent_bytes", "a"), store.sum("sent_bytes", "c")) == (6, 3, 0)
    assert store.sum("load") == 0


def test_reads_many_at_once(store):
    segments = [store.allocate(SCHEMA) for _ in range(3)]
    for segment in segments:
        with Observer(SCHEMA, store.path, 512, segment * 512) as worker:
            worker["requests_total"], worker["load"] = 2**60 + segment, segment / 2
    store.free(segments[1])
    values, counts = store.read_many(fields=4)
    assert (len(values), len(counts)) == (store.count, store.count)
    assert counts[:3].tolist() == [4, -2, 4]
    assert values["as_u64"][segments[2], 0] == 2**60 + segments[2]
    assert numbers(values[segments[2]]).tolist() == [2.0**60, 0, 0, segments[2] / 2]
    values, counts = store.read_many(2, 1, fields=2)
    assert (values.shape, counts.tolist()) == ((1, 2), [4])
    with pytest.raises(ValueError):
        store.read_many(fields=-1)


def test_the_dead_are_seen_and_reaped(store, process):
    program = """
import sys
from shmhot.observer import Schema, SegmentStore
worker = SegmentStore(sys.argv[1]).observer(Schema({"n": "u64"}), "mortal")
worker["n"] = 42
print(flush=True)
sys.stdin.read()
"""
    worker = process(program, store.path)
    worker.stdout.readline()
    assert [one.state for one in store] == [State.ALIVE]
    assert store.reap() == 0
    worker.kill()
    worker.wait()
    eventually(lambda: [one.state for one in store] == [State.DEAD])
    assert store.read(0) == {"n": 42}
    assert store.reap() == 1
    assert list(store) == []


def test_grows_by_itself_and_on_request(store):
    assert store.count == 64
    for _ in range(65):
        store.allocate(SCHEMA)
    assert store.count == 128
    assert store.grow(300) == store.count >= 300


def test_reopens_what_was_made_anew(store):
    with SegmentStore(store.path) as reader:
        store.allocate(SCHEMA, "old")
        with SegmentStore.create(store.path, segment_size=1024, segments=4) as newer:
            newer.allocate(SCHEMA, "new")
            assert [worker.service for worker in reader] == ["old"]
            reader.reopen()
            assert [worker.service for worker in reader] == ["new"]
            assert (reader.segment_size, reader.count) == (1024, 4)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_prometheus_reads_it(store, openmetrics):
    with store.observer(SCHEMA, "web") as worker:
        worker.add("requests_total", 3)
        text = store.exposition(openmetrics=openmetrics)
    assert f'requests_total{{service="web",pid="{os.getpid()}",segment="0"}} 3\n' in text
    assert text.endswith("# EOF\n") == openmetrics


def test_an_exposition_of_any_length(store):
    long = Schema({f"n{i}": Field("U8", help="x" * 200) for i in range(15)})
    for _ in range(300):
        store.allocate(long, "s" * 100)
    text = store.exposition()
    assert len(text) > 1 << 17
    assert text.count("\nn7{") == 300


def test_a_closed_schema_is_not_no_schema(store):
    schema = Schema({"n": "u64"})
    schema.close()
    with pytest.raises(ValueError, match="this Schema is closed"):
        store.allocate(schema)
    with pytest.raises(ValueError, match="this Schema is closed"):
        Observer(schema, store.path, 8)


def test_a_child_opens_its_own(store):
    with store.observer(SCHEMA) as worker:
        assert in_child(store.allocate).startswith("ForkError: ")
        assert in_child(worker.close) == "None"
        assert in_child(lambda: SegmentStore(store.path).allocate()) == "1"
        assert store.read(0)["load"] == 0


@pytest.mark.parametrize("options", [{"segments": 0}, {"segment_size": -1}])
def test_sizes_are_positive(tmp_path, options):
    with pytest.raises(ValueError, match="must be positive"):
        SegmentStore.create(tmp_path / "store", **options)


def test_a_store_that_is_none(path):
    with pytest.raises(OSError, match="sidecar"):
        SegmentStore(path)
