/* The public structs, as a C compiler lays them out; src/ asserts the same of Rust's. */
#include <assert.h>
#include <stddef.h>

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

#endif

int main(void)
{
    /* The library that is loaded is the one that these headers belong to. */
    return shmhot_abi_version() == SHMHOT_ABI_VERSION ? 0 : 1;
}
