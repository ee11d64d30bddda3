//! From a page and a counter to time with a bound: integers only, rounded outwards.

use static_assertions::const_assert_eq;

use super::SECOND;
use super::error::{Error, Result};
use super::leap;
use super::page::{
    Snapshot, VERSION, VMCLOCK_COUNTER_INVALID, VMCLOCK_FLAG_PERIOD_ESTERROR_VALID, VMCLOCK_FLAG_PERIOD_MAXERROR_VALID,
    VMCLOCK_FLAG_TAI_OFFSET_VALID, VMCLOCK_FLAG_TIME_ESTERROR_VALID, VMCLOCK_FLAG_TIME_MAXERROR_VALID,
    VMCLOCK_STATUS_FREERUNNING, VMCLOCK_STATUS_INITIALIZING, VMCLOCK_STATUS_SYNCHRONIZED, VMCLOCK_STATUS_UNKNOWN,
    VMCLOCK_STATUS_UNRELIABLE, VMCLOCK_TIME_INVALID_MAYBE_SMEARED, VMCLOCK_TIME_INVALID_SMEARED,
    VMCLOCK_TIME_MONOTONIC, VMCLOCK_TIME_TAI, VMCLOCK_TIME_UTC,
};

/// valid: tai_ns is known.
pub const VMCLOCK_HAS_TAI: u32 = 1;
/// valid: utc_ns is known.
pub const VMCLOCK_HAS_UTC: u32 = 2;
/// valid: esterror_ns is known.
pub const VMCLOCK_HAS_ESTERROR: u32 = 4;
/// valid: maxerror_ns is known, and with it earliest_ns and latest_ns.
pub const VMCLOCK_HAS_MAXERROR: u32 = 8;

/// A time, and how sure it is. Nanoseconds since the epoch, 1970 for TAI and UTC.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// The time, of time_type.
    pub time_ns: i64,
    /// The earliest that it can be; INT64_MIN when the page bounds no error.
    pub earliest_ns: i64,
    /// The latest that it can be; INT64_MAX when the page bounds no error.
    pub latest_ns: i64,
    /// The same in TAI; INT64_MIN when unknown.
    pub tai_ns: i64,
    /// The same in UTC; INT64_MIN when unknown. In a leap second, which leap_indicator tells, 23:59:59 goes by again.
    pub utc_ns: i64,
    /// Estimated error; UINT64_MAX when unknown.
    pub esterror_ns: u64,
    /// Maximum error; UINT64_MAX when unknown.
    pub maxerror_ns: u64,
    /// The counter that all this was computed from.
    pub counter_value: u64,
    /// Of the page: changes when the relation of counter and time was disturbed.
    pub disruption_marker: u64,
    /// Of the page: changes when the machine is cloned or taken back. Zero if the page has none.
    pub vm_generation_counter: u64,
    /// Of the page: VMCLOCK_FLAG_*.
    pub flags: u64,
    /// Of the page.
    pub seq_count: u32,
    /// VMCLOCK_HAS_*.
    pub valid: u32,
    /// VMCLOCK_TIME_UTC, VMCLOCK_TIME_TAI or VMCLOCK_TIME_MONOTONIC.
    pub time_type: u8,
    /// VMCLOCK_STATUS_SYNCHRONIZED or VMCLOCK_STATUS_FREERUNNING.
    pub clock_status: u8,
    /// VMCLOCK_LEAP_*, now.
    pub leap_indicator: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

const_assert_eq!(size_of::<Time>(), 104);

impl Time {
    /// The time at which the counter that `page` names had a value, which may lie before the reference time.
    ///
    /// [`Error::NoTime`], [`Error::Version`], or [`Error::Range`].
    pub fn at(page: &Snapshot, counter_value: u64) -> Result<Self> {
        let mut time = Self::default();
        time.set(page, counter_value)?;
        Ok(time)
    }

    /// The same, into memory of the caller's, which is left alone on failure.
    #[inline(always)]
    pub fn set(&mut self, page: &Snapshot, counter_value: u64) -> Result<()> {
        if !gives_time(page) {
            return Err(why_not(page));
        }
        // As a signed number: two processors' counters may differ a little, and a reading from just before the
        // reference must not become one from an age later.
        let ticks = counter_value.wrapping_sub(page.counter_value).cast_signed();
        let reference = u128::from(page.time_sec) << 64 | u128::from(page.time_frac_sec);
        let elapsed = Fraction::product(ticks.unsigned_abs(), page.counter_period_frac_sec, page.counter_period_shift);
        let time = match ticks {
            0.. => reference.checked_add(elapsed.whole),
            _ => reference.checked_sub(elapsed.up()),
        };
        let time = Fraction { whole: time.ok_or(Error::Range)?, rest: elapsed.rest };
        let (time_ns, later_ns) = time.nanoseconds().ok_or(Error::Range)?;

        let error = |time_valid, time_error_ns: u64, period_valid, period_error| {
            let known = page.flags & (time_valid | period_valid) == time_valid | period_valid;
            known.then(|| {
                let drift = Fraction::product(ticks.unsigned_abs(), period_error, page.counter_period_shift);
                let drift_ns = drift.nanoseconds().map_or(u64::MAX, |(_, up)| up.cast_unsigned());
                time_error_ns.saturating_add(drift_ns)
            })
        };
        let esterror_ns = error(
            VMCLOCK_FLAG_TIME_ESTERROR_VALID,
            page.time_esterror_nanosec,
            VMCLOCK_FLAG_PERIOD_ESTERROR_VALID,
            page.counter_period_esterror_rate_frac_sec,
        );
        let maxerror_ns = error(
            VMCLOCK_FLAG_TIME_MAXERROR_VALID,
            page.time_maxerror_nanosec,
            VMCLOCK_FLAG_PERIOD_MAXERROR_VALID,
            page.counter_period_maxerror_rate_frac_sec,
        );
        let Civil { tai_ns, utc_ns, leap_indicator } = Civil::of(page, time_ns);
        let has = |known, bit| if known { bit } else { 0 };
        *self = Self {
            time_ns,
            earliest_ns: maxerror_ns.map_or(i64::MIN, |error| time_ns.saturating_sub_unsigned(error)),
            latest_ns: maxerror_ns.map_or(i64::MAX, |error| later_ns.saturating_add_unsigned(error)),
            tai_ns: tai_ns.unwrap_or(i64::MIN),
            utc_ns: utc_ns.unwrap_or(i64::MIN),
            esterror_ns: esterror_ns.unwrap_or(u64::MAX),
            maxerror_ns: maxerror_ns.unwrap_or(u64::MAX),
            counter_value,
            disruption_marker: page.disruption_marker,
            vm_generation_counter: page.vm_generation_counter,
            flags: page.flags,
            seq_count: page.seq_count,
            valid: has(tai_ns.is_some(), VMCLOCK_HAS_TAI)
                | has(utc_ns.is_some(), VMCLOCK_HAS_UTC)
                | has(esterror_ns.is_some(), VMCLOCK_HAS_ESTERROR)
                | has(maxerror_ns.is_some(), VMCLOCK_HAS_MAXERROR),
            time_type: page.time_type,
            clock_status: page.clock_status,
            leap_indicator,
            reserved: [0; 5],
        };
        Ok(())
    }
}

#[inline]
fn gives_time(page: &Snapshot) -> bool {
    page.version == VERSION
        && page.counter_id != VMCLOCK_COUNTER_INVALID
        && page.counter_period_frac_sec != 0
        && matches!(page.time_type, VMCLOCK_TIME_UTC | VMCLOCK_TIME_TAI | VMCLOCK_TIME_MONOTONIC)
        && matches!(page.clock_status, VMCLOCK_STATUS_SYNCHRONIZED | VMCLOCK_STATUS_FREERUNNING)
}

#[cold]
fn why_not(page: &Snapshot) -> Error {
    if page.version != VERSION {
        return Error::Version(page.version);
    }
    Error::NoTime(match (page.clock_status, page.time_type) {
        (VMCLOCK_STATUS_UNKNOWN, _) => "its clock status is unknown".into(),
        (VMCLOCK_STATUS_INITIALIZING, _) => "its clock status is initializing: it is not synchronized yet".into(),
        (VMCLOCK_STATUS_UNRELIABLE, _) => "its clock status is unreliable: the clock is broken".into(),
        (status, _) if status > VMCLOCK_STATUS_UNRELIABLE => format!("its clock status, {status}, has no meaning"),
        (_, VMCLOCK_TIME_INVALID_SMEARED | VMCLOCK_TIME_INVALID_MAYBE_SMEARED) => "its time is smeared".into(),
        (_, time_type) if time_type > VMCLOCK_TIME_MONOTONIC => format!("its time type, {time_type}, has no meaning"),
        _ if page.counter_id == VMCLOCK_COUNTER_INVALID => "no counter goes with it".into(),
        _ => "its counter period is zero".into(),
    })
}

/// A time in 2^-64 seconds, and whether something smaller is left.
struct Fraction {
    whole: u128,
    rest: bool,
}

impl Fraction {
    /// Ticks times a period in 2^-(64 + shift) seconds.
    #[inline]
    fn product(ticks: u64, period: u64, shift: u8) -> Self {
        let product = u128::from(ticks) * u128::from(period);
        if shift < 64 {
            // By halves: a shift of 128 bits would be prepared for more.
            let (high, low) = ((product >> 64) as u64, product as u64);
            let low_part = (high << 1) << (63 - shift) | low >> shift;
            let whole = u128::from(high >> shift) << 64 | u128::from(low_part);
            return Self { whole, rest: low & ((1 << shift) - 1) != 0 };
        }
        let whole = product.checked_shr(shift.into()).unwrap_or(0);
        Self { whole, rest: whole.checked_shl(shift.into()).unwrap_or(0) != product }
    }

    #[inline]
    fn up(&self) -> u128 {
        self.whole + u128::from(self.rest) // at most 2^128 - 2^65, since a product has left it
    }

    /// In nanoseconds, rounded down and rounded up; `None` beyond 64 bits.
    #[inline]
    fn nanoseconds(&self) -> Option<(i64, i64)> {
        let seconds = i64::try_from(self.whole >> 64).ok()?.checked_mul(SECOND)?;
        let fraction = u128::from(self.whole as u64) * SECOND as u128;
        let below = u128::from(fraction as u64) + if self.rest { SECOND as u128 } else { 0 };
        let down = seconds.checked_add((fraction >> 64) as i64)?;
        Some((down, down.checked_add(below.div_ceil(1 << 64) as i64)?))
    }
}

/// What people call a time.
struct Civil {
    tai_ns: Option<i64>,
    utc_ns: Option<i64>,
    leap_indicator: u8,
}

impl Civil {
    #[inline(always)]
    fn of(page: &Snapshot, time_ns: i64) -> Self {
        // UAPI.13 writes TAI - UTC here, the kernel's driver reads UTC - TAI. Since 1972 TAI has been ahead.
        let offset = i64::from(page.tai_offset_sec.unsigned_abs());
        let offset = (page.flags & VMCLOCK_FLAG_TAI_OFFSET_VALID != 0).then_some(offset);
        let reference = i64::try_from(page.time_sec).unwrap_or(i64::MAX);
        // What a clock of UTC that knows of no leap second since the reference shows.
        let (tai_ns, shown) = match page.time_type {
            VMCLOCK_TIME_TAI => (
                Some(time_ns),
                offset.and_then(|offset| Some((time_ns.checked_sub(offset * SECOND)?, reference - offset))),
            ),
            VMCLOCK_TIME_UTC => {
                (offset.and_then(|offset| time_ns.checked_add(offset * SECOND)), Some((time_ns, reference)))
            }
            _ => (None, None),
        };
        match shown {
            Some((shown, reference)) => {
                let (utc_ns, leap_indicator) = leap::utc(shown, page.leap_indicator, reference);
                Self { tai_ns, utc_ns: Some(utc_ns), leap_indicator }
            }
            None => Self { tai_ns, utc_ns: None, leap_indicator: page.leap_indicator },
        }
    }
}
