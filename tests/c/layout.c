/* The public structs, as a C compiler lays them out; src/ asserts the same of Rust's. */
#include <assert.h>
#include <stddef.h>

/* Not on every machine. Comes first, so that a constant which differs from ours is warned of in our header. */
#if defined(__has_include)
#if __has_include(<linux/vmclock-abi.h>)
#include <linux/vmclock-abi.h>
#define KERNEL_VMCLOCK
#endif
#endif

#include <shmhot.h>

#define FIELD(type, field, offset, size)                                            \
    static_assert(offsetof(type, field) == (offset), #type "." #field " moved");    \
    static_assert(sizeof(((type *)0)->field) == (size), #type "." #field " changed its size")

static_assert(sizeof(hotpath_completion_t) == 24, "hotpath_completion_t");
FIELD(hotpath_completion_t, op_kind, 0, 1);
FIELD(hotpath_completion_t, fd, 4, 4);
FIELD(hotpath_completion_t, result, 8, 8);
FIELD(hotpath_completion_t, buf_id, 16, 4);
FIELD(hotpath_completion_t, flags, 20, 4);

static_assert(sizeof(hotpath_command_t) == 32, "hotpath_command_t");
FIELD(hotpath_command_t, op, 0, 1);
FIELD(hotpath_command_t, flags, 1, 1);
FIELD(hotpath_command_t, reserved, 2, 2);
FIELD(hotpath_command_t, fd, 4, 4);
FIELD(hotpath_command_t, data, 8, 8);
FIELD(hotpath_command_t, len, 16, 4);
FIELD(hotpath_command_t, buf_id, 20, 4);
FIELD(hotpath_command_t, status, 24, 4);
FIELD(hotpath_command_t, reserved2, 28, 4);

static_assert(sizeof(vmclock_snapshot_t) == 104, "vmclock_snapshot_t");
FIELD(vmclock_snapshot_t, version, 0, 2);
FIELD(vmclock_snapshot_t, counter_id, 2, 1);
FIELD(vmclock_snapshot_t, time_type, 3, 1);
FIELD(vmclock_snapshot_t, seq_count, 4, 4);
FIELD(vmclock_snapshot_t, disruption_marker, 8, 8);
FIELD(vmclock_snapshot_t, flags, 16, 8);
FIELD(vmclock_snapshot_t, padding, 24, 2);
FIELD(vmclock_snapshot_t, clock_status, 26, 1);
FIELD(vmclock_snapshot_t, leap_second_smearing_hint, 27, 1);
FIELD(vmclock_snapshot_t, tai_offset_sec, 28, 2);
FIELD(vmclock_snapshot_t, leap_indicator, 30, 1);
FIELD(vmclock_snapshot_t, counter_period_shift, 31, 1);
FIELD(vmclock_snapshot_t, counter_value, 32, 8);
FIELD(vmclock_snapshot_t, counter_period_frac_sec, 40, 8);
FIELD(vmclock_snapshot_t, counter_period_esterror_rate_frac_sec, 48, 8);
FIELD(vmclock_snapshot_t, counter_period_maxerror_rate_frac_sec, 56, 8);
FIELD(vmclock_snapshot_t, time_sec, 64, 8);
FIELD(vmclock_snapshot_t, time_frac_sec, 72, 8);
FIELD(vmclock_snapshot_t, time_esterror_nanosec, 80, 8);
FIELD(vmclock_snapshot_t, time_maxerror_nanosec, 88, 8);
FIELD(vmclock_snapshot_t, vm_generation_counter, 96, 8);

#ifdef KERNEL_VMCLOCK
/* A snapshot is the kernel's struct from its version on. */
#define AS_KERNEL(ours, theirs)                                                                             \
    static_assert(offsetof(vmclock_snapshot_t, ours) + 8 == offsetof(struct vmclock_abi, theirs) &&         \
                      sizeof(((vmclock_snapshot_t *)0)->ours) == sizeof(((struct vmclock_abi *)0)->theirs), \
                  #ours " is not where the kernel has it")

static_assert(sizeof(vmclock_snapshot_t) + 8 == sizeof(struct vmclock_abi), "struct vmclock_abi");
AS_KERNEL(version, version);
AS_KERNEL(counter_id, counter_id);
AS_KERNEL(time_type, time_type);
AS_KERNEL(seq_count, seq_count);
AS_KERNEL(disruption_marker, disruption_marker);
AS_KERNEL(flags, flags);
AS_KERNEL(padding, pad);
AS_KERNEL(clock_status, clock_status);
AS_KERNEL(leap_second_smearing_hint, leap_second_smearing_hint);
AS_KERNEL(tai_offset_sec, tai_offset_sec);
AS_KERNEL(leap_indicator, leap_indicator);
AS_KERNEL(counter_period_shift, counter_period_shift);
AS_KERNEL(counter_value, counter_value);
AS_KERNEL(counter_period_frac_sec, counter_period_frac_sec);
AS_KERNEL(counter_period_esterror_rate_frac_sec, counter_period_esterror_rate_frac_sec);
AS_KERNEL(counter_period_maxerror_rate_frac_sec, counter_period_maxerror_rate_frac_sec);
AS_KERNEL(time_sec, time_sec);
AS_KERNEL(time_frac_sec, time_frac_sec);
AS_KERNEL(time_esterror_nanosec, time_esterror_nanosec);
AS_KERNEL(time_maxerror_nanosec, time_maxerror_nanosec);
AS_KERNEL(vm_generation_counter, vm_generation_counter);
#endif

static_assert(sizeof(vmclock_time_t) == 104, "vmclock_time_t");
FIELD(vmclock_time_t, time_ns, 0, 8);
FIELD(vmclock_time_t, earliest_ns, 8, 8);
FIELD(vmclock_time_t, latest_ns, 16, 8);
FIELD(vmclock_time_t, tai_ns, 24, 8);
FIELD(vmclock_time_t, utc_ns, 32, 8);
FIELD(vmclock_time_t, esterror_ns, 40, 8);
FIELD(vmclock_time_t, maxerror_ns, 48, 8);
FIELD(vmclock_time_t, counter_value, 56, 8);
FIELD(vmclock_time_t, disruption_marker, 64, 8);
FIELD(vmclock_time_t, vm_generation_counter, 72, 8);
FIELD(vmclock_time_t, flags, 80, 8);
FIELD(vmclock_time_t, seq_count, 88, 4);
FIELD(vmclock_time_t, valid, 92, 4);
FIELD(vmclock_time_t, time_type, 96, 1);
FIELD(vmclock_time_t, clock_status, 97, 1);
FIELD(vmclock_time_t, leap_indicator, 98, 1);
FIELD(vmclock_time_t, reserved, 99, 5);

static_assert(sizeof(observer_number_t) == 8, "observer_number_t");
FIELD(observer_number_t, as_u64, 0, 8);
FIELD(observer_number_t, as_i64, 0, 8);
FIELD(observer_number_t, as_f64, 0, 8);

static_assert(sizeof(observer_value_t) == 16, "observer_value_t");
FIELD(observer_value_t, type, 0, 4);
FIELD(observer_value_t, reserved, 4, 4);
FIELD(observer_value_t, number, 8, 8);

/* Of the page: whoever writes it knows these numbers too. */
#define VALUE(name, value) static_assert((name) == (value), #name " changed its value")

VALUE(VMCLOCK_COUNTER_ARM_VCNT, 0);
VALUE(VMCLOCK_COUNTER_X86_TSC, 1);
VALUE(VMCLOCK_COUNTER_INVALID, 255);
VALUE(VMCLOCK_TIME_UTC, 0);
VALUE(VMCLOCK_TIME_TAI, 1);
VALUE(VMCLOCK_TIME_MONOTONIC, 2);
VALUE(VMCLOCK_TIME_INVALID_SMEARED, 3);
VALUE(VMCLOCK_TIME_INVALID_MAYBE_SMEARED, 4);
VALUE(VMCLOCK_FLAG_TAI_OFFSET_VALID, 0x001);
VALUE(VMCLOCK_FLAG_DISRUPTION_SOON, 0x002);
VALUE(VMCLOCK_FLAG_DISRUPTION_IMMINENT, 0x004);
VALUE(VMCLOCK_FLAG_PERIOD_ESTERROR_VALID, 0x008);
VALUE(VMCLOCK_FLAG_PERIOD_MAXERROR_VALID, 0x010);
VALUE(VMCLOCK_FLAG_TIME_ESTERROR_VALID, 0x020);
VALUE(VMCLOCK_FLAG_TIME_MAXERROR_VALID, 0x040);
VALUE(VMCLOCK_FLAG_TIME_MONOTONIC, 0x080);
VALUE(VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT, 0x100);
VALUE(VMCLOCK_FLAG_NOTIFICATION_PRESENT, 0x200);
VALUE(VMCLOCK_STATUS_UNKNOWN, 0);
VALUE(VMCLOCK_STATUS_INITIALIZING, 1);
VALUE(VMCLOCK_STATUS_SYNCHRONIZED, 2);
VALUE(VMCLOCK_STATUS_FREERUNNING, 3);
VALUE(VMCLOCK_STATUS_UNRELIABLE, 4);
VALUE(VMCLOCK_SMEARING_STRICT, 0);
VALUE(VMCLOCK_SMEARING_NOON_LINEAR, 1);
VALUE(VMCLOCK_SMEARING_UTC_SLS, 2);
VALUE(VMCLOCK_LEAP_NONE, 0);
VALUE(VMCLOCK_LEAP_PRE_POS, 1);
VALUE(VMCLOCK_LEAP_PRE_NEG, 2);
VALUE(VMCLOCK_LEAP_POS, 3);
VALUE(VMCLOCK_LEAP_POST_POS, 4);
VALUE(VMCLOCK_LEAP_POST_NEG, 5);

#if UINTPTR_MAX == UINT64_MAX

static_assert(sizeof(hotpath_options_t) == 40, "hotpath_options_t");
FIELD(hotpath_options_t, size, 0, 8);
FIELD(hotpath_options_t, queue_depth, 8, 4);
FIELD(hotpath_options_t, n_bufs, 12, 4);
FIELD(hotpath_options_t, buf_size, 16, 4);
FIELD(hotpath_options_t, flags, 20, 4);
FIELD(hotpath_options_t, max_queued_bytes, 24, 8);
FIELD(hotpath_options_t, max_queued_total, 32, 8);

static_assert(sizeof(hotpath_probe_t) == 184, "hotpath_probe_t");
FIELD(hotpath_probe_t, size, 0, 8);
FIELD(hotpath_probe_t, status, 8, 4);
FIELD(hotpath_probe_t, reserved, 12, 4);
FIELD(hotpath_probe_t, features, 16, 8);
FIELD(hotpath_probe_t, detail, 24, 160);

static_assert(sizeof(hotpath_buffers_t) == 16, "hotpath_buffers_t");
FIELD(hotpath_buffers_t, base, 0, 8);
FIELD(hotpath_buffers_t, buf_size, 8, 4);
FIELD(hotpath_buffers_t, n_bufs, 12, 4);

static_assert(sizeof(hotpath_stats_t) == 14 * 8, "hotpath_stats_t");
FIELD(hotpath_stats_t, size, 0, 8);
FIELD(hotpath_stats_t, syscalls, 8, 8);
FIELD(hotpath_stats_t, submissions, 16, 8);
FIELD(hotpath_stats_t, completions, 24, 8);
FIELD(hotpath_stats_t, rearms, 32, 8);
FIELD(hotpath_stats_t, starvations, 40, 8);
FIELD(hotpath_stats_t, stale_dropped, 48, 8);
FIELD(hotpath_stats_t, short_sends, 56, 8);
FIELD(hotpath_stats_t, queue_full_flushes, 64, 8);
FIELD(hotpath_stats_t, cq_overflows, 72, 8);
FIELD(hotpath_stats_t, sends_refused, 80, 8);
FIELD(hotpath_stats_t, buffers_held, 88, 8);
FIELD(hotpath_stats_t, connections, 96, 8);
FIELD(hotpath_stats_t, in_flight, 104, 8);

static_assert(sizeof(vmclock_options_t) == 16, "vmclock_options_t");
FIELD(vmclock_options_t, size, 0, 8);
FIELD(vmclock_options_t, flags, 8, 4);
FIELD(vmclock_options_t, interval_us, 12, 4);

static_assert(sizeof(observer_field_t) == 40, "observer_field_t");
FIELD(observer_field_t, size, 0, 8);
FIELD(observer_field_t, name, 8, 8);
FIELD(observer_field_t, help, 16, 8);
FIELD(observer_field_t, unit, 24, 8);
FIELD(observer_field_t, type, 32, 1);
FIELD(observer_field_t, kind, 33, 1);
FIELD(observer_field_t, reserved, 34, 2);
FIELD(observer_field_t, offset, 36, 4);

static_assert(sizeof(observer_options_t) == 16, "observer_options_t");
FIELD(observer_options_t, size, 0, 8);
FIELD(observer_options_t, flags, 8, 4);
FIELD(observer_options_t, reserved, 12, 4);

static_assert(sizeof(observer_slot_t) == 16, "observer_slot_t");
FIELD(observer_slot_t, address, 0, 8);
FIELD(observer_slot_t, length, 8, 4);
FIELD(observer_slot_t, type, 12, 1);
FIELD(observer_slot_t, reserved, 13, 3);

static_assert(sizeof(observer_store_options_t) == 24, "observer_store_options_t");
FIELD(observer_store_options_t, size, 0, 8);
FIELD(observer_store_options_t, flags, 8, 4);
FIELD(observer_store_options_t, mode, 12, 4);
FIELD(observer_store_options_t, segment_size, 16, 4);
FIELD(observer_store_options_t, segments, 20, 4);

static_assert(sizeof(observer_worker_t) == 168, "observer_worker_t");
FIELD(observer_worker_t, size, 0, 8);
FIELD(observer_worker_t, since_ns, 8, 8);
FIELD(observer_worker_t, offset, 16, 8);
FIELD(observer_worker_t, pid, 24, 4);
FIELD(observer_worker_t, state, 28, 4);
FIELD(observer_worker_t, fields, 32, 4);
FIELD(observer_worker_t, reserved, 36, 4);
FIELD(observer_worker_t, service, 40, 128);

static_assert(sizeof(circbuf_format_t) == 1344, "circbuf_format_t");
FIELD(circbuf_format_t, size, 0, 8);
FIELD(circbuf_format_t, rate, 8, 8);
FIELD(circbuf_format_t, seconds, 16, 8);
FIELD(circbuf_format_t, frames, 24, 8);
FIELD(circbuf_format_t, start, 32, 8);
FIELD(circbuf_format_t, ndim, 40, 4);
FIELD(circbuf_format_t, shape, 44, 252);
FIELD(circbuf_format_t, key, 296, 1028);
FIELD(circbuf_format_t, dtype, 1324, 1);
FIELD(circbuf_format_t, reserved, 1325, 11);
FIELD(circbuf_format_t, frame_size, 1336, 8);

static_assert(sizeof(circbuf_options_t) == 32, "circbuf_options_t");
FIELD(circbuf_options_t, size, 0, 8);
FIELD(circbuf_options_t, name, 8, 8);
FIELD(circbuf_options_t, format, 16, 8);
FIELD(circbuf_options_t, flags, 24, 4);
FIELD(circbuf_options_t, mode, 28, 4);

static_assert(sizeof(circbuf_reservation_t) == 72, "circbuf_reservation_t");
FIELD(circbuf_reservation_t, size, 0, 8);
FIELD(circbuf_reservation_t, first, 8, 8);
FIELD(circbuf_reservation_t, index, 16, 8);
FIELD(circbuf_reservation_t, counts, 24, 16);
FIELD(circbuf_reservation_t, frames, 40, 16);
FIELD(circbuf_reservation_t, timestamps, 56, 16);

static_assert(sizeof(circbuf_info_t) == 80, "circbuf_info_t");
FIELD(circbuf_info_t, size, 0, 8);
FIELD(circbuf_info_t, begin, 8, 8);
FIELD(circbuf_info_t, oldest, 16, 8);
FIELD(circbuf_info_t, written, 24, 8);
FIELD(circbuf_info_t, position, 32, 8);
FIELD(circbuf_info_t, lost, 40, 8);
FIELD(circbuf_info_t, last_write_ns, 48, 8);
FIELD(circbuf_info_t, state, 56, 4);
FIELD(circbuf_info_t, layout, 60, 4);
FIELD(circbuf_info_t, pid, 64, 4);
FIELD(circbuf_info_t, generation, 68, 4);
FIELD(circbuf_info_t, metadata_generation, 72, 4);
FIELD(circbuf_info_t, is_ours, 76, 4);

static_assert(sizeof(circbuf_mirror_options_t) == 16, "circbuf_mirror_options_t");
FIELD(circbuf_mirror_options_t, size, 0, 8);
FIELD(circbuf_mirror_options_t, flags, 8, 4);
FIELD(circbuf_mirror_options_t, reserved, 12, 4);

static_assert(sizeof(circbuf_span_t) == 48, "circbuf_span_t");
FIELD(circbuf_span_t, size, 0, 8);
FIELD(circbuf_span_t, first, 8, 8);
FIELD(circbuf_span_t, count, 16, 8);
FIELD(circbuf_span_t, lost, 24, 8);
FIELD(circbuf_span_t, ring, 32, 8);
FIELD(circbuf_span_t, metadata_generation, 40, 4);
FIELD(circbuf_span_t, reserved, 44, 4);

static_assert(sizeof(circbuf_view_t) == 104, "circbuf_view_t");
FIELD(circbuf_view_t, size, 0, 8);
FIELD(circbuf_view_t, first, 8, 8);
FIELD(circbuf_view_t, count, 16, 8);
FIELD(circbuf_view_t, lost, 24, 8);
FIELD(circbuf_view_t, ring, 32, 8);
FIELD(circbuf_view_t, index, 40, 8);
FIELD(circbuf_view_t, counts, 48, 16);
FIELD(circbuf_view_t, frames, 64, 16);
FIELD(circbuf_view_t, timestamps, 80, 16);
FIELD(circbuf_view_t, metadata_generation, 96, 4);
FIELD(circbuf_view_t, reserved, 100, 4);

static_assert(sizeof(circbuf_memory_t) == 48, "circbuf_memory_t");
FIELD(circbuf_memory_t, size, 0, 8);
FIELD(circbuf_memory_t, frames, 8, 8);
FIELD(circbuf_memory_t, timestamps, 16, 8);
FIELD(circbuf_memory_t, count, 24, 8);
FIELD(circbuf_memory_t, frame_size, 32, 8);
FIELD(circbuf_memory_t, ring, 40, 8);

#endif

int main(void)
{
    /* The library that is loaded is the one that these headers belong to. */
    return shmhot_abi_version() == SHMHOT_ABI_VERSION ? 0 : 1;
}
