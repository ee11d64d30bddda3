//! Pages from this host's counter and its kernel's clock, for hosts whose hypervisor provides none.
//!
//! A reading of the kernel's clock between two readings of the counter, a bracket, tells what time it was at one count, to
//! half of the bracket. Two readings give the period, the better the further they lie apart.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::SECOND;
use super::error::{Error, Result};
use super::leap;
use super::page::{
    Snapshot, VERSION, VMCLOCK_FLAG_PERIOD_ESTERROR_VALID, VMCLOCK_FLAG_PERIOD_MAXERROR_VALID,
    VMCLOCK_FLAG_TAI_OFFSET_VALID, VMCLOCK_FLAG_TIME_ESTERROR_VALID, VMCLOCK_FLAG_TIME_MAXERROR_VALID,
    VMCLOCK_LEAP_NONE, VMCLOCK_LEAP_POS, VMCLOCK_LEAP_PRE_NEG, VMCLOCK_LEAP_PRE_POS, VMCLOCK_STATUS_FREERUNNING,
    VMCLOCK_STATUS_SYNCHRONIZED, VMCLOCK_TIME_TAI, VMCLOCK_TIME_UTC, counter_id,
};
use crate::sys::counter;
use crate::sys::{Discipline, KernelClock, KernelLeap, ProcessEpoch};

/// Makes pages of measurements; its threads take turns.
#[derive(Debug)]
pub struct Calibrator {
    counter_id: u8,
    state: Mutex<State>,
    epoch: ProcessEpoch,
}

/// A page, and how well it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The page, to be given to a writer.
    pub page: Snapshot,
    /// How long the best reading of the kernel's clock took: the measurement itself is not further off.
    pub bracket_ns: u64,
}

#[derive(Debug)]
struct State {
    /// The oldest one first, on a line as straight as the kernel steers.
    readings: VecDeque<Reading>,
    /// TAI - UTC of the kernel's clocks.
    tai_offset: i64,
    /// The type of the first page, and so of all: whoever waits for a time waits for one of that.
    time_type: Option<u8>,
    disruption_marker: u64,
}

/// The kernel's clock at a count.
#[derive(Clone, Copy, Debug)]
struct Reading {
    counter: u64,
    /// Nanoseconds of CLOCK_TAI, which leap seconds do not disturb.
    tai_ns: i64,
    /// CLOCK_TAI - CLOCK_MONOTONIC: another number after a step, a suspension, or a new TAI offset, and at no other time.
    since_boot_ns: i64,
    /// Counts that the reading took; that of `tai_ns` is at most half of them from `counter`.
    bracket: u64,
}

/// Attempts at a reading, of which the shortest counts.
const READINGS: u32 = 32;
/// Attempts to have the kernel's opinion stay the same around a reading.
const ATTEMPTS: u32 = 8;
/// The shortest time that a period is measured over.
const FIRST_NS: i64 = 100_000_000;
/// The longest: the kernel steers meanwhile.
const WINDOW_NS: i64 = 8_000_000_000;
/// Readings that are kept lie this far apart.
const SPACING_NS: i64 = 500_000_000;
/// How far two clocks of the kernel that were read one after the other may seem to have moved against each other.
const JITTER_NS: u64 = 5_000;
/// What the kernel steers in a second at most, twice: the counter has jumped when it is further off.
const STEERING_NS: i64 = 1_000_000;
/// TAI has been further ahead of UTC since leap seconds exist. A smaller offset is one that nobody has told the kernel.
const FIRST_TAI_OFFSET: i64 = 10;

impl Calibrator {
    /// Prepares to measure.
    ///
    /// [`Error::Counter`] when the counter's rate is not constant.
    pub fn new() -> Result<Self> {
        let counter_id = counter_id().filter(|_| counter::is_constant()).ok_or(Error::Counter)?;
        let state = State {
            readings: VecDeque::new(),
            tai_offset: 0,
            time_type: None,
            // What happened before is unknown, so every calibrator begins with a disruption.
            disruption_marker: KernelClock::Tai.now().cast_unsigned(),
        };
        Ok(Self { counter_id, state: Mutex::new(state), epoch: ProcessEpoch::current() })
    }

    /// Measures and makes a page: of TAI when the kernel knows its offset at the first time, else of UTC.
    ///
    /// [`Error::Disturbed`], [`Error::System`], or [`Error::Forked`].
    pub fn measure(&self) -> Result<Measurement> {
        if !self.epoch.is_current() {
            return Err(Error::Forked); // the lock may have been held by a thread that is not here
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (reading, discipline) = state.measure()?;
        let oldest = state.readings[0];
        let ticks = reading.counter.wrapping_sub(oldest.counter);
        let elapsed_ns = (reading.tai_ns - oldest.tai_ns).cast_unsigned();
        let (shift, period) = period(elapsed_ns, ticks).ok_or(Error::Disturbed)?;

        let bracket_ns = ticks_to_ns(reading.bracket, elapsed_ns, ticks);
        let reading_error_ns = bracket_ns.div_ceil(2) + 1;
        let period_error_ns = reading_error_ns + ticks_to_ns(oldest.bracket, elapsed_ns, ticks).div_ceil(2) + 1;
        let period_error = per_tick(period_error_ns, ticks, shift).ok_or(Error::Disturbed)? + 1;
        // The tolerance is in 2^-16 ppm.
        let steering = u128::from(period) * u128::from(discipline.tolerance) / (65_536 * 1_000_000) + 1;

        // The kernel adds up its maximum error once a second.
        let maxerror_ns =
            discipline.maxerror_us.saturating_mul(1_000).saturating_add(discipline.tolerance * 1_000 / 65_536);

        let tai_offset =
            i16::try_from(discipline.tai_offset).ok().filter(|&offset| i64::from(offset) >= FIRST_TAI_OFFSET);
        let first_type = if tai_offset.is_some() { VMCLOCK_TIME_TAI } else { VMCLOCK_TIME_UTC };
        let time_type = *state.time_type.get_or_insert(first_type);
        let utc_ns = reading.tai_ns - discipline.tai_offset * SECOND;
        let time_ns = if time_type == VMCLOCK_TIME_TAI { reading.tai_ns } else { utc_ns };
        let page = Snapshot {
            version: VERSION,
            counter_id: self.counter_id,
            time_type,
            disruption_marker: state.disruption_marker,
            flags: VMCLOCK_FLAG_PERIOD_ESTERROR_VALID
                | VMCLOCK_FLAG_PERIOD_MAXERROR_VALID
                | VMCLOCK_FLAG_TIME_ESTERROR_VALID
                | VMCLOCK_FLAG_TIME_MAXERROR_VALID
                | tai_offset.map_or(0, |_| VMCLOCK_FLAG_TAI_OFFSET_VALID),
            clock_status: if discipline.synchronized {
                VMCLOCK_STATUS_SYNCHRONIZED
            } else {
                VMCLOCK_STATUS_FREERUNNING
            },
            tai_offset_sec: tai_offset.unwrap_or(0),
            leap_indicator: leap_indicator(&discipline, utc_ns / SECOND),
            counter_period_shift: shift,
            counter_value: reading.counter,
            counter_period_frac_sec: period,
            counter_period_esterror_rate_frac_sec: period_error,
            counter_period_maxerror_rate_frac_sec: period_error.saturating_add(steering.try_into().unwrap_or(u64::MAX)),
            time_sec: (time_ns / SECOND).cast_unsigned(),
            // Rounded up, so that converting back rounds to the same nanosecond.
            time_frac_sec: (((time_ns % SECOND) as u128) << 64).div_ceil(SECOND as u128) as u64,
            time_esterror_nanosec: discipline.esterror_us.saturating_mul(1_000).saturating_add(reading_error_ns),
            time_maxerror_nanosec: maxerror_ns.saturating_add(reading_error_ns),
            ..Snapshot::default()
        };
        Ok(Measurement { page, bracket_ns })
    }
}

impl State {
    /// A reading that continues the line of those before, which begin at least [`FIRST_NS`] earlier.
    fn measure(&mut self) -> Result<(Reading, Discipline)> {
        loop {
            let (reading, discipline) = read_both()?;
            if !self.continues(&reading, discipline.tai_offset) {
                self.disruption_marker = self.disruption_marker.wrapping_add(1);
                self.readings.clear();
            }
            self.tai_offset = discipline.tai_offset;
            let age = |earlier: &Reading| reading.tai_ns - earlier.tai_ns;
            let spacing = if self.readings.len() < 2 { FIRST_NS } else { SPACING_NS };
            if self.readings.back().is_none_or(|last| age(last) >= spacing) {
                self.readings.push_back(reading);
            }
            // The one before the last is kept however old it is.
            while self.readings.len() > 2 && age(&self.readings[0]) > WINDOW_NS {
                self.readings.pop_front();
            }
            let missing = FIRST_NS - age(&self.readings[0]);
            if missing <= 0 {
                return Ok((reading, discipline));
            }
            std::thread::sleep(Duration::from_nanos(missing.cast_unsigned()));
        }
    }

    /// Whether a reading goes on where those before end. A new TAI offset shifts them.
    fn continues(&mut self, reading: &Reading, tai_offset: i64) -> bool {
        let Some(last) = self.readings.back() else { return true };
        let moved = reading.since_boot_ns - last.since_boot_ns;
        let told = (tai_offset - self.tai_offset).saturating_mul(SECOND);
        if moved.abs_diff(told) <= JITTER_NS {
            for earlier in &mut self.readings {
                earlier.tai_ns += told;
                earlier.since_boot_ns += told;
            }
        } else if moved.unsigned_abs() > JITTER_NS {
            return false;
        }
        self.agrees(reading)
    }

    /// Whether the counter has gone on as the readings before make one expect.
    fn agrees(&self, reading: &Reading) -> bool {
        let (Some(first), Some(last)) = (self.readings.front(), self.readings.back()) else { return true };
        let ticks = |from: &Reading, to: &Reading| to.counter.wrapping_sub(from.counter);
        let elapsed = reading.tai_ns.saturating_sub(last.tai_ns);
        if self.readings.len() < 2 {
            return elapsed >= 0 && ticks(last, reading) < u64::MAX / 2; // no rate is known yet
        }
        let line_ns = (last.tai_ns - first.tai_ns).cast_unsigned();
        let expected = ticks_to_ns(ticks(last, reading), line_ns, ticks(first, last));
        let expected = i64::try_from(expected).unwrap_or(i64::MAX);
        let limit = expected / (SECOND / STEERING_NS) + STEERING_NS / 10;
        elapsed.abs_diff(expected) <= limit.cast_unsigned()
    }
}

/// A reading, and what the kernel thought of its clock then.
fn read_both() -> Result<(Reading, Discipline)> {
    for _ in 0..ATTEMPTS {
        let before = Discipline::read().map_err(Error::system("adjtimex"))?;
        let (_, _, set_before) = shortest(since_boot);
        let (counter, bracket, tai_ns) = shortest(tai_at_counter);
        let (_, _, since_boot_ns) = shortest(since_boot);
        let after = Discipline::read().map_err(Error::system("adjtimex"))?;
        if (before.leap, before.tai_offset) == (after.leap, after.tai_offset)
            && since_boot_ns.abs_diff(set_before) <= JITTER_NS
        {
            return Ok((Reading { counter, tai_ns, since_boot_ns, bracket }, after));
        }
    }
    Err(Error::Disturbed)
}

/// The attempt that took the shortest time, its second number.
fn shortest(attempt: impl Fn() -> (u64, u64, i64)) -> (u64, u64, i64) {
    (1..READINGS).map(|_| attempt()).fold(attempt(), |best, next| if next.1 < best.1 { next } else { best })
}

fn tai_at_counter() -> (u64, u64, i64) {
    let before = counter::read();
    let tai_ns = KernelClock::Tai.now();
    let bracket = counter::read().wrapping_sub(before);
    (before.wrapping_add(bracket / 2), bracket, tai_ns)
}

fn since_boot() -> (u64, u64, i64) {
    let before = KernelClock::Tai.now();
    let monotonic_ns = KernelClock::Monotonic.now();
    let bracket = KernelClock::Tai.now() - before;
    // If the clock was set back in between, nothing could be worse.
    (0, u64::try_from(bracket).unwrap_or(u64::MAX), before + bracket / 2 - monotonic_ns)
}

/// A page's leap indicator tells of the end of a month, the kernel's state of the end of a day.
fn leap_indicator(discipline: &Discipline, utc: i64) -> u8 {
    match discipline.leap {
        Some(KernelLeap::Inserts) if leap::is_last_day(utc) => VMCLOCK_LEAP_PRE_POS,
        Some(KernelLeap::Deletes) if leap::is_last_day(utc) => VMCLOCK_LEAP_PRE_NEG,
        Some(KernelLeap::Inside) => VMCLOCK_LEAP_POS,
        _ => VMCLOCK_LEAP_NONE,
    }
}

/// The period as a page has it: the shift, as large as it can be, and the fraction.
fn period(elapsed_ns: u64, ticks: u64) -> Option<(u8, u64)> {
    (0..64).rev().find_map(|shift| Some((shift, per_tick(elapsed_ns, ticks, shift).filter(|&period| period > 0)?)))
}

/// Nanoseconds by ticks, in 2^-(64 + shift) seconds; `None` when that is too much.
fn per_tick(ns: u64, ticks: u64, shift: u8) -> Option<u64> {
    let seconds = (u128::from(ns) << 64) / SECOND as u128;
    if seconds.leading_zeros() < u32::from(shift) {
        return None;
    }
    (seconds << shift).checked_div(ticks.into())?.try_into().ok()
}

/// Counts as nanoseconds by a rate, rounded up.
fn ticks_to_ns(counts: u64, elapsed_ns: u64, ticks: u64) -> u64 {
    let ns = u128::from(counts) * u128::from(elapsed_ns);
    ns.div_ceil(u128::from(ticks).max(1)).try_into().unwrap_or(u64::MAX)
}
