"""The hypervisor's clock page, consistently read, and time with a bound on its error.

    with VMClock() as clock:
        time = clock.now()
        print(time.utc, time.maxerror_ns, time.status)
        clock.wait_until_past(time.latest_ns)  # it is later now, whichever clock one asks

The meaning of fields and constants is documented in include/shmhot/vmclock.h.
"""

from __future__ import annotations

import enum
import os
import threading
from typing import Any, NamedTuple, Union

import numpy as np

from ._handle import NULL, Handle, packing, path_bytes, wait_for
from ._native import ffi, lib
from .errors import check

Path = Union[str, bytes, "os.PathLike[str]"]


class Counter(enum.IntEnum):
    """counter_id: what the page relates to time."""

    ARM_VCNT = lib.VMCLOCK_COUNTER_ARM_VCNT
    X86_TSC = lib.VMCLOCK_COUNTER_X86_TSC
    INVALID = lib.VMCLOCK_COUNTER_INVALID


class TimeType(enum.IntEnum):
    """time_type."""

    UTC = lib.VMCLOCK_TIME_UTC
    TAI = lib.VMCLOCK_TIME_TAI
    MONOTONIC = lib.VMCLOCK_TIME_MONOTONIC
    INVALID_SMEARED = lib.VMCLOCK_TIME_INVALID_SMEARED
    INVALID_MAYBE_SMEARED = lib.VMCLOCK_TIME_INVALID_MAYBE_SMEARED


class Flag(enum.IntFlag):
    """flags."""

    TAI_OFFSET_VALID = lib.VMCLOCK_FLAG_TAI_OFFSET_VALID
    DISRUPTION_SOON = lib.VMCLOCK_FLAG_DISRUPTION_SOON
    DISRUPTION_IMMINENT = lib.VMCLOCK_FLAG_DISRUPTION_IMMINENT
    PERIOD_ESTERROR_VALID = lib.VMCLOCK_FLAG_PERIOD_ESTERROR_VALID
    PERIOD_MAXERROR_VALID = lib.VMCLOCK_FLAG_PERIOD_MAXERROR_VALID
    TIME_ESTERROR_VALID = lib.VMCLOCK_FLAG_TIME_ESTERROR_VALID
    TIME_MAXERROR_VALID = lib.VMCLOCK_FLAG_TIME_MAXERROR_VALID
    TIME_MONOTONIC = lib.VMCLOCK_FLAG_TIME_MONOTONIC
    VM_GEN_COUNTER_PRESENT = lib.VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT
    NOTIFICATION_PRESENT = lib.VMCLOCK_FLAG_NOTIFICATION_PRESENT


class Status(enum.IntEnum):
    """clock_status."""

    UNKNOWN = lib.VMCLOCK_STATUS_UNKNOWN
    INITIALIZING = lib.VMCLOCK_STATUS_INITIALIZING
    SYNCHRONIZED = lib.VMCLOCK_STATUS_SYNCHRONIZED
    FREERUNNING = lib.VMCLOCK_STATUS_FREERUNNING
    UNRELIABLE = lib.VMCLOCK_STATUS_UNRELIABLE


class Smearing(enum.IntEnum):
    """leap_second_smearing_hint."""

    STRICT = lib.VMCLOCK_SMEARING_STRICT
    NOON_LINEAR = lib.VMCLOCK_SMEARING_NOON_LINEAR
    UTC_SLS = lib.VMCLOCK_SMEARING_UTC_SLS


class Leap(enum.IntEnum):
    """leap_indicator."""

    NONE = lib.VMCLOCK_LEAP_NONE
    PRE_POS = lib.VMCLOCK_LEAP_PRE_POS
    PRE_NEG = lib.VMCLOCK_LEAP_PRE_NEG
    POS = lib.VMCLOCK_LEAP_POS
    POST_POS = lib.VMCLOCK_LEAP_POST_POS
    POST_NEG = lib.VMCLOCK_LEAP_POST_NEG


_new = ffi.new
_buffer = ffi.buffer
_snapshot = lib.vmclock_snapshot
_now = lib.vmclock_now
_PAGE = ffi.typeof("vmclock_snapshot_t *")
_TIME = ffi.typeof("vmclock_time_t *")
_PAGE_FIELDS, _PAGE_PACKING = packing("vmclock_snapshot_t")
_TIME_FIELDS, _TIME_PACKING = packing("vmclock_time_t")
_unpack_page = _PAGE_PACKING.unpack_from
_unpack_time = _TIME_PACKING.unpack_from


class Time(NamedTuple):
    """A time, and how sure it is. What the page leaves unknown is None."""

    time_ns: int
    earliest_ns: int | None
    latest_ns: int | None
    tai_ns: int | None
    utc_ns: int | None
    esterror_ns: int | None
    maxerror_ns: int | None
    counter_value: int
    disruption_marker: int
    vm_generation_counter: int
    flags: int
    seq_count: int
    time_type: int
    clock_status: int
    leap_indicator: int

    @property
    def utc(self) -> np.datetime64 | None:
        """utc_ns as a datetime64. In a leap second 23:59:59 goes by again, since it has no 23:59:60."""
        return None if self.utc_ns is None else np.datetime64(self.utc_ns, "ns")

    @property
    def status(self) -> Status:
        return Status(self.clock_status)

    @property
    def is_leap_second(self) -> bool:
        """Whether it is 23:59:60."""
        return self.leap_indicator == Leap.POS


# What is unknown without a bit of `valid`, which says no more than that.
_VALID_AT = _TIME_FIELDS.index("valid")
_DEPENDENT = [
    (bit, [Time._fields.index(name) for name in names])
    for bit, names in [
        (lib.VMCLOCK_HAS_TAI, ["tai_ns"]),
        (lib.VMCLOCK_HAS_UTC, ["utc_ns"]),
        (lib.VMCLOCK_HAS_ESTERROR, ["esterror_ns"]),
        (lib.VMCLOCK_HAS_MAXERROR, ["maxerror_ns", "earliest_ns", "latest_ns"]),
    ]
]
_HAS_ALL = sum(bit for bit, _ in _DEPENDENT)


def _time(out: Any) -> Time:
    values: list[Any] = list(_unpack_time(_buffer(out)))
    valid = values.pop(_VALID_AT)
    if valid & _HAS_ALL != _HAS_ALL:
        for bit, places in _DEPENDENT:
            if not valid & bit:
                for place in places:
                    values[place] = None
    return Time._make(values)


class Snapshot(NamedTuple):
    """A page as it was between two updates."""

    version: int = 1
    counter_id: int = 0
    time_type: int = 0
    seq_count: int = 0
    disruption_marker: int = 0
    flags: int = 0
    clock_status: int = 0
    leap_second_smearing_hint: int = 0
    tai_offset_sec: int = 0
    leap_indicator: int = 0
    counter_period_shift: int = 0
    counter_value: int = 0
    counter_period_frac_sec: int = 0
    counter_period_esterror_rate_frac_sec: int = 0
    counter_period_maxerror_rate_frac_sec: int = 0
    time_sec: int = 0
    time_frac_sec: int = 0
    time_esterror_nanosec: int = 0
    time_maxerror_nanosec: int = 0
    vm_generation_counter: int = 0

    @property
    def status(self) -> Status | None:
        """clock_status by name; None for a number that has none."""
        return Status(self.clock_status) if self.clock_status in Status._value2member_map_ else None

    def time_at(self, counter_value: int) -> Time:
        """The time at which the counter had a value."""
        out = _new(_TIME)
        check(lib.vmclock_time_at(self._pack(), counter_value, out))
        return _time(out)

    def _pack(self) -> Any:
        return _new(_PAGE, self._asdict())


class VMClock(Handle):
    """A page that is open for reading, by any number of threads, and after a fork by the child too.

    path: of a device, a file, or whatever else holds a page; None is /dev/vmclock0.
    checked: reads by system calls instead of a mapping, so that a file which is cut meanwhile is an OSError (EPROTO),
        and not the end of the process.
    interval: how often the waits look at a page whose device does not notify, in seconds; 1 ms unless given.
    """

    def __init__(self, path: Path | None = None, *, checked: bool = False, interval: float = 0.001) -> None:
        microseconds = round(interval * 1e6)
        if not 1 <= microseconds <= 0xFFFFFFFF:
            raise ValueError(f"the interval is {interval} s, and must be a microsecond to {0xFFFFFFFF // 10**6} s")
        options = _new(
            "vmclock_options_t *",
            {
                "size": ffi.sizeof("vmclock_options_t"),
                "flags": lib.VMCLOCK_CHECKED if checked else 0,
                "interval_us": microseconds,
            },
        )
        name = NULL if path is None else path_bytes(path)
        self._take("vmclock_clock_t", lib.vmclock_close, lib.vmclock_open_with, name, options)

    def snapshot(self) -> Snapshot:
        """The page. Beside a writer that has died in an update it takes 100 ms to be a TimeoutError."""
        out = _new(_PAGE)
        status = _snapshot(self._handle, out)
        if status < 0:
            raise self._failure(status)
        return Snapshot._make(_unpack_page(_buffer(out)))

    def now(self) -> Time:
        """The time. An OSError (ENODATA) says why the page gives none."""
        out = _new(_TIME)
        status = _now(self._handle, out)
        if status < 0:
            raise self._failure(status)
        return _time(out)

    def wait(self, last_seq: int, timeout: float | None = None) -> bool:
        """Waits until the page is another one than that of last_seq, the seq_count of a Snapshot or Time.

        False when the timeout, in seconds, is over before; None is no limit, 0 only looks.
        """
        return wait_for(lambda ms: self._check(lib.vmclock_wait(self._handle, last_seq, ms)), timeout)

    def wait_until_past(self, time_ns: int, timeout: float | None = None) -> bool:
        """Waits until a time, of the page's type, is certainly over. False when the timeout is, as in wait()."""
        return wait_for(lambda ms: self._check(lib.vmclock_wait_until_past(self._handle, time_ns, ms)), timeout)


class Writer(Handle):
    """Makes a page, or goes on with one that a writer has left. A page has one writer at a time.

        with Writer("/dev/shm/vmclock0") as writer, Calibrator() as calibrator:
            while True:
                writer.write(calibrator.measure().page)
                time.sleep(1)

    Any thread may use it. A forked child gets a ForkError. close() leaves the page for the next writer.

    mode: permissions of a new file.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        # remove() frees at once, and cannot leave that to the last reference, as close() does.
        self._turn = threading.Lock()
        self._take("vmclock_writer_t", lib.vmclock_writer_close, lib.vmclock_writer_create, path_bytes(path), mode)

    def write(self, page: Snapshot) -> None:
        """Replaces the page. version and seq_count are the writer's own."""
        with self._turn:
            self._check(lib.vmclock_writer_write(self._handle, page._pack()))

    def remove(self) -> None:
        """Removes the page's file, if it is still the one that is written, and closes."""
        with self._turn:
            handle, self._handle = self._borrow(), NULL
            ffi.gc(handle, None)
            check(lib.vmclock_writer_remove(handle))


class Measurement(NamedTuple):
    """What a Calibrator has measured."""

    page: Snapshot
    """To be written."""
    bracket_ns: int
    """How long the reading took on which it rests, which bounds what the measurement adds to the error."""


class Calibrator(Handle):
    """Makes the content of pages from this host's counter and its kernel's clock. Any thread may use it."""

    def __init__(self) -> None:
        self._take("vmclock_calibrator_t", lib.vmclock_calibrator_close, lib.vmclock_calibrator_create)

    def measure(self) -> Measurement:
        """Measures; to be called about once a second. The first time takes 100 ms."""
        page, bracket = _new(_PAGE), _new("uint64_t *")
        self._check(lib.vmclock_calibrator_measure(self._handle, page, bracket))
        return Measurement(Snapshot._make(_unpack_page(_buffer(page))), bracket[0])
