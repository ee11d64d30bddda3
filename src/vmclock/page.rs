//! The page, as UAPI.13 "VMClock" and the kernel's `linux/vmclock-abi.h` lay it out.
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0x00 | u32 | magic, "VCLK" |
//! | 0x04 | u32 | size of the region |
//! | 0x08 | | [`Snapshot`], 0x68 bytes; a region of 104 bytes lacks the last field |
//!
//! Everything is little-endian, and so are the machines whose counters a page can name.
//!
//! Where the two sources differ, the kernel's header rules, as it does in hypervisors: flag bits 8 and 9, and the
//! generation counter at 0x68.

use static_assertions::{const_assert_eq, const_assert_ne};

use crate::shm::Plain;
use crate::sys::counter::{self, Counter};

/// counter_id: CNTVCT_EL0 of an ARM processor.
pub const VMCLOCK_COUNTER_ARM_VCNT: u8 = 0;
/// counter_id: the time stamp counter of an x86 processor.
pub const VMCLOCK_COUNTER_X86_TSC: u8 = 1;
/// counter_id: no counter goes with this page, so it gives no time.
pub const VMCLOCK_COUNTER_INVALID: u8 = 0xff;

/// time_type: seconds of UTC since 1970, leap seconds not counted.
pub const VMCLOCK_TIME_UTC: u8 = 0;
/// time_type: seconds of TAI since 1970.
pub const VMCLOCK_TIME_TAI: u8 = 1;
/// time_type: seconds since an unknown moment.
pub const VMCLOCK_TIME_MONOTONIC: u8 = 2;
/// time_type: smeared, which a page must not be; it gives no time.
pub const VMCLOCK_TIME_INVALID_SMEARED: u8 = 3;
/// time_type: possibly smeared, which a page must not be; it gives no time.
pub const VMCLOCK_TIME_INVALID_MAYBE_SMEARED: u8 = 4;

/// flags: tai_offset_sec is valid.
pub const VMCLOCK_FLAG_TAI_OFFSET_VALID: u64 = 1 << 0;
/// flags: a disruption is expected within a day or so.
pub const VMCLOCK_FLAG_DISRUPTION_SOON: u64 = 1 << 1;
/// flags: a disruption is expected within an hour or so.
pub const VMCLOCK_FLAG_DISRUPTION_IMMINENT: u64 = 1 << 2;
/// flags: counter_period_esterror_rate_frac_sec is valid.
pub const VMCLOCK_FLAG_PERIOD_ESTERROR_VALID: u64 = 1 << 3;
/// flags: counter_period_maxerror_rate_frac_sec is valid.
pub const VMCLOCK_FLAG_PERIOD_MAXERROR_VALID: u64 = 1 << 4;
/// flags: time_esterror_nanosec is valid.
pub const VMCLOCK_FLAG_TIME_ESTERROR_VALID: u64 = 1 << 5;
/// flags: time_maxerror_nanosec is valid.
pub const VMCLOCK_FLAG_TIME_MAXERROR_VALID: u64 = 1 << 6;
/// flags: an update never makes the time step back.
pub const VMCLOCK_FLAG_TIME_MONOTONIC: u64 = 1 << 7;
/// flags: vm_generation_counter is there.
pub const VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT: u64 = 1 << 8;
/// flags: the device notifies of each update.
pub const VMCLOCK_FLAG_NOTIFICATION_PRESENT: u64 = 1 << 9;

/// clock_status: unknown; the page gives no time.
pub const VMCLOCK_STATUS_UNKNOWN: u8 = 0;
/// clock_status: not synchronized yet; the page gives no time.
pub const VMCLOCK_STATUS_INITIALIZING: u8 = 1;
/// clock_status: synchronized.
pub const VMCLOCK_STATUS_SYNCHRONIZED: u8 = 2;
/// clock_status: was synchronized, and runs on by itself; its error bounds hold.
pub const VMCLOCK_STATUS_FREERUNNING: u8 = 3;
/// clock_status: broken; the page gives no time.
pub const VMCLOCK_STATUS_UNRELIABLE: u8 = 4;

/// leap_second_smearing_hint: whoever smears UTC nearby, does not.
pub const VMCLOCK_SMEARING_STRICT: u8 = 0;
/// leap_second_smearing_hint: linearly from noon to noon.
pub const VMCLOCK_SMEARING_NOON_LINEAR: u8 = 1;
/// leap_second_smearing_hint: UTC-SLS, over the last 1000 seconds.
pub const VMCLOCK_SMEARING_UTC_SLS: u8 = 2;

/// leap_indicator: no leap second is near.
pub const VMCLOCK_LEAP_NONE: u8 = 0x00;
/// leap_indicator: this month ends with a leap second, 23:59:60.
pub const VMCLOCK_LEAP_PRE_POS: u8 = 0x01;
/// leap_indicator: this month ends without its last second, 23:59:59.
pub const VMCLOCK_LEAP_PRE_NEG: u8 = 0x02;
/// leap_indicator: it is 23:59:60.
pub const VMCLOCK_LEAP_POS: u8 = 0x03;
/// leap_indicator: the last month ended with a leap second.
pub const VMCLOCK_LEAP_POST_POS: u8 = 0x04;
/// leap_indicator: the last month ended without its last second.
pub const VMCLOCK_LEAP_POST_NEG: u8 = 0x05;

/// "VCLK", the first word of a page.
pub(super) const MAGIC: u32 = 0x4B4C_4356;
/// The layout that this library reads and writes. 0 is a page that nobody has finished yet.
pub(super) const VERSION: u16 = 1;
/// Bytes of a page that ends before the generation counter.
pub(super) const MIN_SIZE: usize = 0x68;
/// Bytes of a page with all fields.
pub(super) const FULL_SIZE: usize = 0x70;
/// Where a [`Snapshot`] begins.
pub(super) const BODY: usize = 0x08;
/// The same in words.
pub(super) const BLOCK: usize = BODY / 8;

/// A page as it was between two updates, from its version on.
///
/// Fields with a name in `_frac_sec` count 2^-64 seconds, those with `counter_period` before it 2^-(64 +
/// counter_period_shift) seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Version of the layout: 1.
    pub version: u16,
    /// VMCLOCK_COUNTER_*.
    pub counter_id: u8,
    /// VMCLOCK_TIME_*.
    pub time_type: u8,
    /// Grows by two with each update, and is even. A writer sets it by itself.
    pub seq_count: u32,
    /// Changes when the relation of counter and time was disturbed, as by a live migration.
    pub disruption_marker: u64,
    /// VMCLOCK_FLAG_*; unknown ones may be set.
    pub flags: u64,
    /// Means nothing.
    pub padding: [u8; 2],
    /// VMCLOCK_STATUS_*.
    pub clock_status: u8,
    /// VMCLOCK_SMEARING_*.
    pub leap_second_smearing_hint: u8,
    /// Seconds between TAI and UTC. Writers disagree on its sign; its absolute value is TAI - UTC.
    pub tai_offset_sec: i16,
    /// VMCLOCK_LEAP_*, at the reference time.
    pub leap_indicator: u8,
    /// Of the unit of the three fields that begin with counter_period.
    pub counter_period_shift: u8,
    /// The counter at the reference time.
    pub counter_value: u64,
    /// Time from one count to the next.
    pub counter_period_frac_sec: u64,
    /// Estimated error of the period.
    pub counter_period_esterror_rate_frac_sec: u64,
    /// Maximum error of the period.
    pub counter_period_maxerror_rate_frac_sec: u64,
    /// The reference time: whole seconds.
    pub time_sec: u64,
    /// The reference time: the rest.
    pub time_frac_sec: u64,
    /// Estimated error of the reference time, in nanoseconds.
    pub time_esterror_nanosec: u64,
    /// Maximum error of the reference time, in nanoseconds.
    pub time_maxerror_nanosec: u64,
    /// Changes when the machine is cloned or taken back to an earlier state. Zero if the page has none.
    pub vm_generation_counter: u64,
}

/// The counter_id of this processor's counter.
pub(super) const fn counter_id() -> Option<u8> {
    match counter::COUNTER {
        Some(Counter::X86Tsc) => Some(VMCLOCK_COUNTER_X86_TSC),
        Some(Counter::ArmVcnt) => Some(VMCLOCK_COUNTER_ARM_VCNT),
        None => None,
    }
}

/// Words of a [`Snapshot`]. The first one holds the sequence number in its upper half.
pub(super) const WORDS: usize = (FULL_SIZE - BODY) / 8;
/// Words of a [`Snapshot`] from a page of [`MIN_SIZE`].
pub(super) const MIN_WORDS: usize = (MIN_SIZE - BODY) / 8;

const_assert_eq!(size_of::<Snapshot>(), WORDS * 8);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, seq_count), 0x0c);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, disruption_marker), 0x10);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, flags), 0x18);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, clock_status), 0x22);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, tai_offset_sec), 0x24);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, counter_period_shift), 0x27);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, counter_value), 0x28);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, time_sec), 0x48);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, time_maxerror_nanosec), 0x60);
const_assert_eq!(BODY + std::mem::offset_of!(Snapshot, vm_generation_counter), 0x68);
const_assert_ne!(cfg!(target_endian = "little"), false);

#[allow(unsafe_code)]
// SAFETY: repr(C), integers only, without gaps, as the assertions above show.
unsafe impl Plain<WORDS> for Snapshot {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_fields() {
        let words: [u64; WORDS] = std::array::from_fn(|i| 0x0706_0504_0302_0100 + 0x0808_0808_0808_0808 * i as u64);
        let mut page = Snapshot::default();
        *page.words_mut() = words;
        assert_eq!((page.version, page.counter_id, page.time_type, page.seq_count), (0x0100, 2, 3, 0x0706_0504));
        assert_eq!((page.clock_status, page.tai_offset_sec, page.counter_period_shift), (0x1a, 0x1d1c, 0x1f));
        assert_eq!(page.vm_generation_counter, 0x6766_6564_6362_6160);
        assert_eq!(page.to_words(), words);
    }
}
