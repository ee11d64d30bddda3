//! The C calls where there is no Linux: they are there, and say so.
//!
//! In C the caller clears its arguments away, so these need not name them.

use std::fmt;

use super::{fail, guard};
use crate::status::Failure;

/// Why nothing works here.
struct Absent;

impl Failure for Absent {
    fn status(&self) -> i32 {
        -libc::ENOSYS
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this system needs Linux")
    }
}

macro_rules! absent {
    ($($name:ident,)*) => {
        $(#[doc = "-ENOSYS"] #[unsafe(no_mangle)] pub extern "C" fn $name() -> i32 { guard(|| Err(Absent)) })*
    };
}

macro_rules! absent_pointers {
    ($($name:ident,)*) => {
        $(#[doc = "NULL"] #[unsafe(no_mangle)] pub extern "C" fn $name() -> *const u8 {
            fail(&Absent);
            std::ptr::null()
        })*
    };
}

absent_pointers! {
    hotpath_feature_name,
    hotpath_ring_new,
    hotpath_ring_new_with,
    observer_type_name,
}

absent! {
    circbuf_short_name,
    circbuf_create,
    circbuf_configure,
    circbuf_write,
    circbuf_write_strided,
    circbuf_reserve,
    circbuf_commit,
    circbuf_set_metadata,
    circbuf_info,
    circbuf_ring,
    circbuf_close,
    circbuf_detach,
    circbuf_mirror_open,
    circbuf_mirror_close,
    circbuf_mirror_format,
    circbuf_mirror_read,
    circbuf_mirror_read_time,
    circbuf_mirror_view,
    circbuf_mirror_view_is_intact,
    circbuf_mirror_seek,
    circbuf_mirror_wait,
    circbuf_mirror_metadata,
    circbuf_mirror_info,
    circbuf_mirror_ring,
    circbuf_ring_memory,
    circbuf_ring_free,
    hotpath_probe,
    hotpath_ring_free,
    hotpath_submit_accept,
    hotpath_submit_recv,
    hotpath_submit_send,
    hotpath_send,
    hotpath_send_buffer,
    hotpath_submit_close,
    hotpath_submit_close_within,
    hotpath_submit_shutdown,
    hotpath_submit_connect,
    hotpath_submit_timeout,
    hotpath_cancel_timeout,
    hotpath_cancel,
    hotpath_pause_recv,
    hotpath_resume_recv,
    hotpath_set_idle_timeout,
    hotpath_forget,
    hotpath_drain,
    hotpath_wait,
    hotpath_flush,
    hotpath_turn,
    hotpath_buffer,
    hotpath_buffers,
    hotpath_copy_buffer,
    hotpath_release_buf,
    hotpath_release_bufs,
    hotpath_wake,
    hotpath_event_fd,
    hotpath_stats,
    hotpath_is_healthy,
    hotpath_force_unhealthy,
    hotpath_backend,
    observer_type,
    observer_schema_new,
    observer_schema_add,
    observer_schema_count,
    observer_schema_size,
    observer_schema_index,
    observer_schema_field,
    observer_schema_free,
    observer_open,
    observer_close,
    observer_index,
    observer_set,
    observer_set_u64,
    observer_set_i64,
    observer_set_f64,
    observer_add_u64,
    observer_add_i64,
    observer_add_f64,
    observer_get,
    observer_slot,
    observer_store_create,
    observer_store_open,
    observer_store_close,
    observer_store_reopen,
    observer_store_segment_size,
    observer_store_count,
    observer_store_allocate,
    observer_store_describe,
    observer_store_free,
    observer_store_grow,
    observer_store_reap,
    observer_store_next,
    observer_store_worker,
    observer_store_schema,
    observer_store_read,
    observer_store_read_many,
    observer_store_sum,
    observer_store_exposition,
    vmclock_open,
    vmclock_open_with,
    vmclock_close,
    vmclock_snapshot,
    vmclock_now,
    vmclock_time_at,
    vmclock_wait,
    vmclock_wait_until_past,
    vmclock_writer_create,
    vmclock_writer_write,
    vmclock_writer_close,
    vmclock_writer_remove,
    vmclock_calibrator_create,
    vmclock_calibrator_measure,
    vmclock_calibrator_close,
}

/// 0.
#[unsafe(no_mangle)]
pub extern "C" fn hotpath_supported() -> i32 {
    0
}
