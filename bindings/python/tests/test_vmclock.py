"""Clock pages: what is read, how sure it is, and waiting for it."""

import os
import threading
import time

import numpy as np
import pytest
from conftest import in_child, interrupted

from shmhot import VMClock
from shmhot.vmclock import Calibrator, Counter, Flag, Leap, Snapshot, Status, TimeType, Writer

COUNTER = Counter.ARM_VCNT if os.uname().machine == "aarch64" else Counter.X86_TSC
HZ = 1 << 30  # counts in a second of PAGE
PAGE = Snapshot(
    counter_id=COUNTER,
    time_type=TimeType.UTC,
    clock_status=Status.SYNCHRONIZED,
    counter_value=HZ,
    counter_period_frac_sec=(1 << 64) // HZ,
    time_sec=1000,
)
BOUNDED = Flag.PERIOD_MAXERROR_VALID | Flag.TIME_MAXERROR_VALID
ESTIMATED = Flag.PERIOD_ESTERROR_VALID | Flag.TIME_ESTERROR_VALID


@pytest.fixture
def path(tmp_path):
    return tmp_path / "page"


@pytest.fixture
def writer(path):
    with Writer(path) as writer:
        yield writer


@pytest.fixture
def clock(path, writer):
    writer.write(PAGE)
    with VMClock(path) as clock:
        yield clock


def live(maxerror_ns=1_000_000):
    """The time of this host, with a bound that is small, and not the kernel's."""
    with Calibrator() as calibrator:
        page = calibrator.measure().page
    return page._replace(time_maxerror_nanosec=maxerror_ns, counter_period_maxerror_rate_frac_sec=0)


def test_reads_what_was_written(clock, writer):
    fields = {name: number for number, name in enumerate(Snapshot._fields, 1)}
    page = Snapshot(**{**fields, "version": 1, "flags": Flag.VM_GEN_COUNTER_PRESENT})
    writer.write(page)
    seen = clock.snapshot()
    assert seen == page._replace(seq_count=seen.seq_count)
    assert seen.seq_count % 2 == 0


def test_time_follows_from_page_and_counter():
    time = PAGE.time_at(3 * HZ)
    assert (time.time_ns, time.utc_ns, time.counter_value) == (1002 * 10**9, 1002 * 10**9, 3 * HZ)
    assert time.utc == np.datetime64("1970-01-01T00:16:42.000000000")
    assert time.status is Status.SYNCHRONIZED
    assert PAGE.time_at(0).time_ns == 999 * 10**9


def test_what_is_unknown_is_none():
    time = PAGE.time_at(HZ)
    assert (time.tai_ns, time.earliest_ns, time.latest_ns, time.maxerror_ns, time.esterror_ns) == (None,) * 5
    time = PAGE._replace(flags=BOUNDED, time_maxerror_nanosec=5).time_at(HZ)
    assert (time.earliest_ns, time.latest_ns, time.maxerror_ns, time.esterror_ns) == (10**12 - 5, 10**12 + 5, 5, None)
    page = PAGE._replace(flags=ESTIMATED | Flag.TAI_OFFSET_VALID, tai_offset_sec=37, time_esterror_nanosec=3)
    time = page.time_at(HZ)
    assert (time.tai_ns, time.esterror_ns, time.maxerror_ns) == (1037 * 10**9, 3, None)
    time = PAGE._replace(time_type=TimeType.MONOTONIC).time_at(HZ)
    assert (time.utc_ns, time.utc) == (None, None)


def test_leap_seconds_are_told():
    page = PAGE._replace(time_sec=1483228799, leap_indicator=Leap.PRE_POS)
    assert not page.time_at(HZ).is_leap_second
    assert page.time_at(2 * HZ).is_leap_second


def test_a_page_without_a_time_says_why(clock, writer):
    writer.write(PAGE._replace(clock_status=Status.UNRELIABLE))
    with pytest.raises(OSError, match="unreliable"):
        clock.now()
    assert clock.snapshot().status is Status.UNRELIABLE
    writer.write(PAGE._replace(clock_status=99))
    assert clock.snapshot().status is None


def test_numbers_that_do_not_fit_are_refused(writer):
    with pytest.raises(OverflowError):
        writer.write(PAGE._replace(clock_status=256))


def test_the_host_agrees(clock, writer):
    with Calibrator() as calibrator:
        measured = calibrator.measure()
    assert measured.bracket_ns > 0
    writer.write(measured.page)
    before = time.time_ns()
    now = clock.now()
    after = time.time_ns()
    assert now.earliest_ns <= after and before <= now.latest_ns
    assert before - 10**6 <= now.utc_ns <= after + 10**6


def test_waits_for_another_page(clock, writer):
    seen = clock.snapshot().seq_count
    assert not clock.wait(seen, 0)
    began = time.monotonic()
    assert not clock.wait(seen, 0.05)
    assert time.monotonic() - began >= 0.05
    timer = threading.Timer(0.1, writer.write, [PAGE])
    timer.start()
    assert clock.wait(seen)
    timer.join()
    assert clock.wait(seen, 0)


def test_waits_until_a_time_is_certainly_over(clock, writer):
    writer.write(live())
    latest = clock.now().latest_ns
    assert clock.wait_until_past(latest, 20)
    assert clock.now().earliest_ns > latest
    assert not clock.wait_until_past(clock.now().latest_ns + 10**12, 0.02)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_is_a_time(clock, timeout):
    with pytest.raises(ValueError, match="must not be negative"):
        clock.wait(0, timeout)


def test_an_interrupt_ends_a_wait(clock):
    with interrupted():
        clock.wait(clock.snapshot().seq_count)


def test_closing_ends_the_waits_of_others(clock):
    ended = []

    def wait():
        with pytest.raises(ValueError, match="this VMClock is closed"):
            clock.wait(2)
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    clock.close()
    thread.join(20)
    assert ended == [True]


def test_a_cut_file_is_an_error_of_a_checked_clock(path, writer):
    writer.write(PAGE)
    with VMClock(path, checked=True) as clock:
        clock.now()
        os.truncate(path, 50)
        with pytest.raises(OSError, match="page"):
            clock.now()


def test_a_page_has_one_writer(path, writer):
    with pytest.raises(OSError, match="another writer"):
        Writer(path)
    writer.close()
    assert path.exists()
    with Writer(path) as next_one:
        next_one.remove()
        assert next_one.closed
        with pytest.raises(ValueError, match="this Writer is closed"):
            next_one.write(PAGE)
        with pytest.raises(ValueError, match="this Writer is closed"):
            next_one.remove()
    assert not path.exists()


def test_follows_a_writer_in_another_process(path, process):
    program = """
import sys
from shmhot.vmclock import Calibrator, Writer
with Writer(sys.argv[1]) as writer, Calibrator() as calibrator:
    for line in sys.stdin:
        writer.write(calibrator.measure().page)
        print("written", flush=True)
"""
    other = process(program, path)
    for _ in range(3):
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "written\n"
        with VMClock(path) as clock:
            assert clock.now().status in (Status.SYNCHRONIZED, Status.FREERUNNING)
    other.kill()
    other.wait()
    with VMClock(path) as clock:
        assert clock.now().maxerror_ns > 0
    Writer(path).remove()


def test_a_child_reads_and_does_not_write(clock, writer):
    assert in_child(lambda: clock.snapshot().time_sec) == "1000"
    assert in_child(lambda: writer.write(PAGE)).startswith("ForkError: ")


@pytest.mark.parametrize("interval", [0, -1, 5000])
def test_an_interval_is_a_time(path, interval):
    with pytest.raises(ValueError, match="interval"):
        VMClock(path, interval=interval)
