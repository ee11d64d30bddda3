"""Handles are given back once, when nothing uses them any more; failures have their exceptions."""

import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import shmhot
from shmhot import errors, vmclock
from shmhot._native import lib
from shmhot.observer import Observer, Schema, SegmentStore


@pytest.fixture
def segment(tmp_path):
    path = tmp_path / "segment"
    path.write_bytes(bytes(64))
    return Observer(Schema({"n": "u64"}), path)


def mapped(path):
    return str(path) in Path("/proc/self/maps").read_text()


def test_closing_twice_is_nothing(segment):
    segment.close()
    segment.close()
    assert segment.closed
    assert repr(segment) == "<shmhot.observer.Observer (closed)>"


@pytest.mark.parametrize(
    "use", [lambda s: s.get("n"), lambda s: s.set("n", 1), lambda s: s.add("n", -1.5), lambda s: s.slot("n")]
)
def test_a_closed_handle_says_so(segment, use):
    with segment:
        pass
    with pytest.raises(ValueError, match=r"^this Observer is closed$"):
        use(segment)


def test_a_constructor_that_fails_leaves_nothing_to_close():
    clock = shmhot.VMClock.__new__(shmhot.VMClock)
    with pytest.raises(FileNotFoundError):
        clock.__init__("/nowhere/page")
    assert clock.closed
    clock.close()


def test_what_nobody_holds_is_closed(tmp_path):
    path = tmp_path / "page"
    writer = vmclock.Writer(path)
    with pytest.raises(OSError, match="another writer"):
        vmclock.Writer(path)
    del writer
    gc.collect()
    vmclock.Writer(path).close()


def test_memory_outlives_its_handle_as_long_as_it_is_seen(segment, tmp_path):
    segment["n"] = 7
    slot = segment.slot("n")
    half = slot.reshape(1).view(np.uint32)[:1]
    segment.close()
    del slot
    gc.collect()
    assert mapped(tmp_path / "segment")
    assert half[0] == 7
    del half
    gc.collect()
    assert not mapped(tmp_path / "segment")


def test_one_may_close_what_others_use(tmp_path):
    path = tmp_path / "segment"
    path.write_bytes(bytes(64))
    schema = Schema({"n": "u64"})
    failures = []

    def use(segment):
        try:
            while True:
                segment.add("n")
                segment.get("n")
        except ValueError:
            pass
        except BaseException as failure:
            failures.append(failure)

    for _ in range(50):
        segment = Observer(schema, path)
        threads = [threading.Thread(target=use, args=(segment,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.005)
        segment.close()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert failures == []


@pytest.mark.parametrize(
    "status, kind",
    [
        (-2, FileNotFoundError),
        (-11, BlockingIOError),
        (-110, TimeoutError),
        (-13, PermissionError),
        (-71, OSError),
        (lib.SHMHOT_EPANIC, errors.PanicError),
        (lib.SHMHOT_ETHREAD, errors.WrongThreadError),
        (lib.SHMHOT_EFORK, errors.ForkError),
        (lib.SHMHOT_EUNHEALTHY, errors.UnhealthyError),
    ],
)
def test_each_status_has_its_exception(status, kind):
    failure = errors.error(status)
    assert type(failure) is kind
    if isinstance(failure, OSError):
        assert failure.errno == -status
        assert errors.strerror(status) == os.strerror(-status)
    with pytest.raises(kind):
        errors.check(status)
    assert errors.check(3) == 3


def test_the_sentence_is_the_librarys(tmp_path):
    (tmp_path / "page").write_bytes(bytes(100))
    with pytest.raises(OSError) as failure:
        shmhot.VMClock(tmp_path / "page")
    assert f"{tmp_path}/page: " in failure.value.strerror


def test_a_path_with_a_nul_is_refused():
    for make in shmhot.VMClock, SegmentStore, vmclock.Writer:
        with pytest.raises(ValueError, match="has a NUL"):
            make("/tmp/a\0b")
