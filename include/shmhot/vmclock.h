/*
 * shmhot/vmclock.h: the hypervisor's clock page, and time with an error bound.
 *
 * The page is that of UAPI.13 and of the kernel's linux/vmclock-abi.h, which may be included beside this header.
 * docs/vmclock.md is the guide, this header the contract.
 *
 * Generated from src/abi/vmclock.rs, src/vmclock/page.rs, src/vmclock/time.rs by `make headers`.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef SHMHOT_VMCLOCK_H
#define SHMHOT_VMCLOCK_H

#include <stddef.h>
#include <stdint.h>
#include "status.h"

/**
 * Flag of a handle: reads the file by system calls instead of a mapping, so that a file which somebody cuts is an
 * error and not a SIGBUS. Costs three system calls a reading.
 */
#define VMCLOCK_CHECKED 1

/** timeout_ms: no limit. */
#define VMCLOCK_NO_TIMEOUT 0xffffffffu

/** counter_id: CNTVCT_EL0 of an ARM processor. */
#define VMCLOCK_COUNTER_ARM_VCNT 0

/** counter_id: the time stamp counter of an x86 processor. */
#define VMCLOCK_COUNTER_X86_TSC 1

/** counter_id: no counter goes with this page, so it gives no time. */
#define VMCLOCK_COUNTER_INVALID 0xff

/** time_type: seconds of UTC since 1970, leap seconds not counted. */
#define VMCLOCK_TIME_UTC 0

/** time_type: seconds of TAI since 1970. */
#define VMCLOCK_TIME_TAI 1

/** time_type: seconds since an unknown moment. */
#define VMCLOCK_TIME_MONOTONIC 2

/** time_type: smeared, which a page must not be; it gives no time. */
#define VMCLOCK_TIME_INVALID_SMEARED 3

/** time_type: possibly smeared, which a page must not be; it gives no time. */
#define VMCLOCK_TIME_INVALID_MAYBE_SMEARED 4

/** flags: tai_offset_sec is valid. */
#define VMCLOCK_FLAG_TAI_OFFSET_VALID (1 << 0)

/** flags: a disruption is expected within a day or so. */
#define VMCLOCK_FLAG_DISRUPTION_SOON (1 << 1)

/** flags: a disruption is expected within an hour or so. */
#define VMCLOCK_FLAG_DISRUPTION_IMMINENT (1 << 2)

/** flags: counter_period_esterror_rate_frac_sec is valid. */
#define VMCLOCK_FLAG_PERIOD_ESTERROR_VALID (1 << 3)

/** flags: counter_period_maxerror_rate_frac_sec is valid. */
#define VMCLOCK_FLAG_PERIOD_MAXERROR_VALID (1 << 4)

/** flags: time_esterror_nanosec is valid. */
#define VMCLOCK_FLAG_TIME_ESTERROR_VALID (1 << 5)

/** flags: time_maxerror_nanosec is valid. */
#define VMCLOCK_FLAG_TIME_MAXERROR_VALID (1 << 6)

/** flags: an update never makes the time step back. */
#define VMCLOCK_FLAG_TIME_MONOTONIC (1 << 7)

/** flags: vm_generation_counter is there. */
#define VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT (1 << 8)

/** flags: the device notifies of each update. */
#define VMCLOCK_FLAG_NOTIFICATION_PRESENT (1 << 9)

/** clock_status: unknown; the page gives no time. */
#define VMCLOCK_STATUS_UNKNOWN 0

/** clock_status: not synchronized yet; the page gives no time. */
#define VMCLOCK_STATUS_INITIALIZING 1

/** clock_status: synchronized. */
#define VMCLOCK_STATUS_SYNCHRONIZED 2

/** clock_status: was synchronized, and runs on by itself; its error bounds hold. */
#define VMCLOCK_STATUS_FREERUNNING 3

/** clock_status: broken; the page gives no time. */
#define VMCLOCK_STATUS_UNRELIABLE 4

/** leap_second_smearing_hint: whoever smears UTC nearby, does not. */
#define VMCLOCK_SMEARING_STRICT 0

/** leap_second_smearing_hint: linearly from noon to noon. */
#define VMCLOCK_SMEARING_NOON_LINEAR 1

/** leap_second_smearing_hint: UTC-SLS, over the last 1000 seconds. */
#define VMCLOCK_SMEARING_UTC_SLS 2

/** leap_indicator: no leap second is near. */
#define VMCLOCK_LEAP_NONE 0x00

/** leap_indicator: this month ends with a leap second, 23:59:60. */
#define VMCLOCK_LEAP_PRE_POS 0x01

/** leap_indicator: this month ends without its last second, 23:59:59. */
#define VMCLOCK_LEAP_PRE_NEG 0x02

/** leap_indicator: it is 23:59:60. */
#define VMCLOCK_LEAP_POS 0x03

/** leap_indicator: the last month ended with a leap second. */
#define VMCLOCK_LEAP_POST_POS 0x04

/** leap_indicator: the last month ended without its last second. */
#define VMCLOCK_LEAP_POST_NEG 0x05

/** valid: tai_ns is known. */
#define VMCLOCK_HAS_TAI 1

/** valid: utc_ns is known. */
#define VMCLOCK_HAS_UTC 2

/** valid: esterror_ns is known. */
#define VMCLOCK_HAS_ESTERROR 4

/** valid: maxerror_ns is known, and with it earliest_ns and latest_ns. */
#define VMCLOCK_HAS_MAXERROR 8

/** Makes pages from this host's counter and its kernel's clock. */
typedef struct vmclock_calibrator_t vmclock_calibrator_t;

/** A page that is open for reading. */
typedef struct vmclock_clock_t vmclock_clock_t;

/** The writer of a page. */
typedef struct vmclock_writer_t vmclock_writer_t;

/** How a page is opened. Zero means the default; set size, zero the rest, then set what matters. */
typedef struct {
    /** sizeof(vmclock_options_t). */
    size_t size;
    /** VMCLOCK_CHECKED. */
    uint32_t flags;
    /** How often vmclock_wait looks at a page whose device does not notify, in microseconds; default 1000. */
    uint32_t interval_us;
} vmclock_options_t;

/**
 * A page as it was between two updates, from its version on.
 *
 * Fields with a name in `_frac_sec` count 2^-64 seconds, those with `counter_period` before it 2^-(64 +
 * counter_period_shift) seconds.
 */
typedef struct {
    /** Version of the layout: 1. */
    uint16_t version;
    /** VMCLOCK_COUNTER_*. */
    uint8_t counter_id;
    /** VMCLOCK_TIME_*. */
    uint8_t time_type;
    /** Grows by two with each update, and is even. A writer sets it by itself. */
    uint32_t seq_count;
    /** Changes when the relation of counter and time was disturbed, as by a live migration. */
    uint64_t disruption_marker;
    /** VMCLOCK_FLAG_*; unknown ones may be set. */
    uint64_t flags;
    /** Means nothing. */
    uint8_t padding[2];
    /** VMCLOCK_STATUS_*. */
    uint8_t clock_status;
    /** VMCLOCK_SMEARING_*. */
    uint8_t leap_second_smearing_hint;
    /** Seconds between TAI and UTC. Writers disagree on its sign; its absolute value is TAI - UTC. */
    int16_t tai_offset_sec;
    /** VMCLOCK_LEAP_*, at the reference time. */
    uint8_t leap_indicator;
    /** Of the unit of the three fields that begin with counter_period. */
    uint8_t counter_period_shift;
    /** The counter at the reference time. */
    uint64_t counter_value;
    /** Time from one count to the next. */
    uint64_t counter_period_frac_sec;
    /** Estimated error of the period. */
    uint64_t counter_period_esterror_rate_frac_sec;
    /** Maximum error of the period. */
    uint64_t counter_period_maxerror_rate_frac_sec;
    /** The reference time: whole seconds. */
    uint64_t time_sec;
    /** The reference time: the rest. */
    uint64_t time_frac_sec;
    /** Estimated error of the reference time, in nanoseconds. */
    uint64_t time_esterror_nanosec;
    /** Maximum error of the reference time, in nanoseconds. */
    uint64_t time_maxerror_nanosec;
    /** Changes when the machine is cloned or taken back to an earlier state. Zero if the page has none. */
    uint64_t vm_generation_counter;
} vmclock_snapshot_t;

/** A time, and how sure it is. Nanoseconds since the epoch, 1970 for TAI and UTC. */
typedef struct {
    /** The time, of time_type. */
    int64_t time_ns;
    /** The earliest that it can be; INT64_MIN when the page bounds no error. */
    int64_t earliest_ns;
    /** The latest that it can be; INT64_MAX when the page bounds no error. */
    int64_t latest_ns;
    /** The same in TAI; INT64_MIN when unknown. */
    int64_t tai_ns;
    /** The same in UTC; INT64_MIN when unknown. In a leap second, which leap_indicator tells, 23:59:59 goes by again. */
    int64_t utc_ns;
    /** Estimated error; UINT64_MAX when unknown. */
    uint64_t esterror_ns;
    /** Maximum error; UINT64_MAX when unknown. */
    uint64_t maxerror_ns;
    /** The counter that all this was computed from. */
    uint64_t counter_value;
    /** Of the page: changes when the relation of counter and time was disturbed. */
    uint64_t disruption_marker;
    /** Of the page: changes when the machine is cloned or taken back. Zero if the page has none. */
    uint64_t vm_generation_counter;
    /** Of the page: VMCLOCK_FLAG_*. */
    uint64_t flags;
    /** Of the page. */
    uint32_t seq_count;
    /** VMCLOCK_HAS_*. */
    uint32_t valid;
    /** VMCLOCK_TIME_UTC, VMCLOCK_TIME_TAI or VMCLOCK_TIME_MONOTONIC. */
    uint8_t time_type;
    /** VMCLOCK_STATUS_SYNCHRONIZED or VMCLOCK_STATUS_FREERUNNING. */
    uint8_t clock_status;
    /** VMCLOCK_LEAP_*, now. */
    uint8_t leap_indicator;
    /** Zero. */
    uint8_t reserved[5];
} vmclock_time_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Opens a page for reading: a device of the kernel, a file, or POSIX shared memory by its path below /dev/shm.
 *
 * Parameters: path, NULL for "/dev/vmclock0". clock receives the handle.
 *
 * Returns: 0; -ENOENT, -EACCES and whatever else opening a file can end with; -EPROTO when it holds no page, one that
 * is not initialized, of another version, or smaller than it says; -EINVAL for what cannot hold a page, a
 * directory or a FIFO.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: path is NULL or a C string; clock is valid for writes.
 */
int32_t vmclock_open(const char *path, vmclock_clock_t **clock);

/**
 * As vmclock_open, with options.
 *
 * Parameters: options, NULL for the defaults.
 *
 * Returns: as vmclock_open; -EINVAL for an unknown flag, -E2BIG for an option that this version does not know.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: path is NULL or a C string; options is NULL or valid for reads of its size; clock is valid for writes.
 */
int32_t vmclock_open_with(const char *path, const vmclock_options_t *options, vmclock_clock_t **clock);

/**
 * Closes a handle. NULL is nothing.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: clock is NULL or a handle, which is gone afterwards.
 */
int32_t vmclock_close(vmclock_clock_t *clock);

/**
 * Reads the page as it was between two updates.
 *
 * Returns: 0; -ETIMEDOUT when an update has not ended within 100 ms, as when its writer has died in it; -EPROTO when
 * the page is not of version 1 any more, or, of a handle with VMCLOCK_CHECKED, when the file was cut.
 *
 * Threads: any number at once, also after a fork. Blocking: 100 ms at most, and only beside an update.
 *
 * Safety: clock is NULL or a handle; out is valid for writes.
 */
int32_t vmclock_snapshot(const vmclock_clock_t *clock, vmclock_snapshot_t *out);

/**
 * The time, from the page and the counter of this processor.
 *
 * Returns: 0; -ENODATA when the page gives no time, for its clock status, its counter (absent, or another
 * architecture's), its time type or its period; -EOVERFLOW when the time is beyond the year 2262; and as
 * vmclock_snapshot.
 *
 * Threads: any number at once, also after a fork. Blocking: as vmclock_snapshot.
 *
 * Safety: clock is NULL or a handle; out is valid for writes.
 */
int32_t vmclock_now(const vmclock_clock_t *clock, vmclock_time_t *out);

/**
 * The time at which the counter had a value: for counters that were read before, and for pages that were kept.
 *
 * Parameters: snapshot, a page of any counter. counter_value: of the counter that the page names; values before
 * the reference time are fine.
 *
 * Returns: 0; -ENODATA, -EOVERFLOW as vmclock_now; -EPROTO when snapshot is not of version 1.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: snapshot is valid for reads, out for writes.
 */
int32_t vmclock_time_at(const vmclock_snapshot_t *snapshot, uint64_t counter_value, vmclock_time_t *out);

/**
 * Waits until the page is another one than that of last_seq.
 *
 * Parameters: last_seq, the seq_count of the page that the caller knows. timeout_ms: 0 only looks,
 * VMCLOCK_NO_TIMEOUT has no limit.
 *
 * Returns: 1 when it is; 0 when the time is over, also in an update that does not end, or a signal came; -EPROTO as
 * vmclock_snapshot.
 *
 * Threads: any number at once, also after a fork. Blocking: as asked: in poll on devices that notify, else looking at
 * intervals.
 *
 * Safety: clock is NULL or a handle.
 */
int32_t vmclock_wait(const vmclock_clock_t *clock, uint32_t last_seq, uint32_t timeout_ms);

/**
 * Waits until a time is certainly over: until the earliest that it can be is later than time_ns.
 *
 * Parameters: time_ns, of the page's type, such as the latest_ns of a vmclock_time_t. timeout_ms:
 * VMCLOCK_NO_TIMEOUT for no limit.
 *
 * Returns: 1 when it is over; 0 when timeout_ms is, or a signal came; -ENODATA as vmclock_now, and when the page bounds
 * no error; and as vmclock_now.
 *
 * Threads: any number at once, also after a fork. Blocking: as asked.
 *
 * Safety: clock is NULL or a handle.
 */
int32_t vmclock_wait_until_past(const vmclock_clock_t *clock, int64_t time_ns, uint32_t timeout_ms);

/**
 * Makes a page, or goes on with one that a writer has left, also in the middle of an update.
 *
 * A new page appears whole, and is of 4096 bytes; its clock status is unknown until the first write.
 *
 * Beside the page lies a file of the same name with a dot before it and .lock behind it, which keeps writers apart; it
 * goes when the writer is closed.
 *
 * Parameters: path: links are not followed. mode: permissions of a new file, 0 for 0644. writer receives the handle.
 *
 * Returns: 0; -EPROTO when the file is something else, or a page of another version: it is left as it is; -EPERM when
 * it belongs to another user; -EBUSY when another writer of this library, or a child that its process has forked, has
 * it; -ENOSPC, -EACCES, -ELOOP and whatever else making a file can end with.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: path is a C string; writer is valid for writes.
 */
int32_t vmclock_writer_create(const char *path, uint32_t mode, vmclock_writer_t **writer);

/**
 * Replaces the content of the page.
 *
 * Parameters: page: its version, seq_count and padding do not matter.
 *
 * Returns: 0; -EINVAL when it has a generation counter and the file, made by another program, has no room for one;
 * SHMHOT_EFORK in a child of the process that made the writer.
 *
 * Threads: any number; they take turns. Blocking: for another thread's write.
 *
 * Safety: writer is NULL or a handle; page is valid for reads.
 */
int32_t vmclock_writer_write(const vmclock_writer_t *writer, const vmclock_snapshot_t *page);

/**
 * Frees a writer and leaves its page for readers and for the next writer. NULL is nothing.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: writer is NULL or a handle, which is gone afterwards.
 */
int32_t vmclock_writer_close(vmclock_writer_t *writer);

/**
 * Removes the page's file, if it is still the one that this writer writes, and frees the writer. NULL is nothing.
 *
 * Readers that have it open keep the last page.
 *
 * Returns: 0; what removing a file can end with; SHMHOT_EFORK in a child. The writer is gone in any case.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: writer is NULL or a handle, which is gone afterwards.
 */
int32_t vmclock_writer_remove(vmclock_writer_t *writer);

/**
 * Prepares to make pages from this host's counter and its kernel's clock.
 *
 * Parameters: calibrator receives the handle.
 *
 * Returns: 0; -EOPNOTSUPP when this processor's counter does not run at a constant rate.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: calibrator is valid for writes.
 */
int32_t vmclock_calibrator_create(vmclock_calibrator_t **calibrator);

/**
 * Measures, and makes a page of it: of TAI when the kernel knows its offset at the first time, else of UTC. To be
 * called about once a second, the result to be given to vmclock_writer_write.
 *
 * The maximum error is the kernel's own (adjtimex) plus that of the measurement, and grows by the kernel's tolerance,
 * 500 ppm. A step of the kernel's clock, or of the counter, changes the disruption_marker, with which each calibrator
 * begins anew.
 *
 * Parameters: page receives the page. bracket_ns, unless NULL: how long the best reading of the kernel's clock took, which
 * bounds the error of the measurement itself.
 *
 * Returns: 0; -EAGAIN when the counter and the kernel's clock could not be read together: try again; -EPERM where a
 * sandbox refuses adjtimex; SHMHOT_EFORK in a child of the process that made the calibrator.
 *
 * Threads: any number; they take turns. Blocking: 100 ms the first time and after a disruption, else some microseconds.
 *
 * Safety: calibrator is NULL or a handle; page is valid for writes, bracket_ns NULL or so.
 */
int32_t vmclock_calibrator_measure(const vmclock_calibrator_t *calibrator,
                                   vmclock_snapshot_t *page,
                                   uint64_t *bracket_ns);

/**
 * Frees a calibrator. NULL is nothing.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: calibrator is NULL or a handle, which is gone afterwards.
 */
int32_t vmclock_calibrator_close(vmclock_calibrator_t *calibrator);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHMHOT_VMCLOCK_H */
