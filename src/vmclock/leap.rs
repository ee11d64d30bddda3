//! Leap seconds: what a clock that knows of none shows, and what UTC is then.
//!
//! A page says that its month ends, or the last one ended, with a leap second, and how far TAI is from UTC at the
//! reference time. From both follows UTC on either side of the leap second, whichever side the reference is on.

use super::SECOND;
use super::page::{
    VMCLOCK_LEAP_POS, VMCLOCK_LEAP_POST_NEG, VMCLOCK_LEAP_POST_POS, VMCLOCK_LEAP_PRE_NEG, VMCLOCK_LEAP_PRE_POS,
};

const DAY: i64 = 86_400;

/// A leap second that a page tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leap {
    /// The first second of the month after it.
    month: i64,
    /// 23:59:60 is inserted; otherwise 23:59:59 is left out.
    inserted: bool,
    /// The page counts as after the leap second.
    counted: bool,
}

impl Leap {
    /// What `indicator` says of a page whose reference time, shown without leap seconds, is `second`.
    #[inline]
    fn told(indicator: u8, second: i64) -> Option<Self> {
        let (month, inserted, counted) = match indicator {
            VMCLOCK_LEAP_PRE_POS => (end_of_month(second), true, false),
            VMCLOCK_LEAP_PRE_NEG => (end_of_month(second), false, false),
            VMCLOCK_LEAP_POST_POS => (start_of_month(second), true, true),
            VMCLOCK_LEAP_POST_NEG => (start_of_month(second), false, true),
            // During 23:59:60 a page shows 00:00:00 if it has not counted it yet, else 23:59:59 again.
            VMCLOCK_LEAP_POS if second == start_of_month(second) => (second, true, false),
            VMCLOCK_LEAP_POS => (end_of_month(second), true, true),
            _ => return None,
        };
        Some(Self { month, inserted, counted })
    }
}

/// UTC in nanoseconds, and the leap indicator at that time.
///
/// `shown` is the time less the offset of the page, in nanoseconds; `reference` the same of the reference time, in
/// seconds.
#[inline]
pub(super) fn utc(shown: i64, indicator: u8, reference: i64) -> (i64, u8) {
    let reference = reference.clamp(i64::MIN / SECOND, i64::MAX / SECOND); // of any time that is told
    let Some(leap) = Leap::told(indicator, reference) else { return (shown, indicator) };
    let step = if leap.inserted { SECOND } else { -SECOND };
    let uncounted = if leap.counted { shown.saturating_add(step) } else { shown };
    let month = leap.month.saturating_mul(SECOND);
    let (before, after, begins) = match leap.inserted {
        true => (VMCLOCK_LEAP_PRE_POS, VMCLOCK_LEAP_POST_POS, month),
        false => (VMCLOCK_LEAP_PRE_NEG, VMCLOCK_LEAP_POST_NEG, month.saturating_sub(SECOND)),
    };
    if uncounted < begins {
        return (uncounted, before);
    }
    let utc = uncounted.saturating_sub(step);
    (utc, if leap.inserted && utc < month { VMCLOCK_LEAP_POS } else { after })
}

/// Whether a second of UTC since 1970 is in the last day of its month.
pub(super) fn is_last_day(second: i64) -> bool {
    end_of_month(second) - second <= DAY
}

/// The first second of the month that a second of UTC since 1970 is in.
#[cold]
fn start_of_month(second: i64) -> i64 {
    let (year, month) = year_and_month(second.div_euclid(DAY));
    days_until(year, month) * DAY
}

#[cold]
fn end_of_month(second: i64) -> i64 {
    let (year, month) = year_and_month(second.div_euclid(DAY));
    days_until(year, month + 1) * DAY
}

/// Days from 1970-01-01 to the first of a month of the Gregorian calendar. Month 13 is the next January.
///
/// Years are counted from March, so that the leap day is the last one.
const fn days_until(year: i64, month: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 - 719_468
}

fn year_and_month(day: i64) -> (i64, i64) {
    // A year has 365.2425 days on average, so the first guess is at most one year off.
    let mut year = 1970 + (day as i128 * 400).div_euclid(146_097) as i64;
    year += i64::from(day >= days_until(year + 1, 1)) - i64::from(day < days_until(year, 1));
    let mut month = 1;
    while month < 12 && day >= days_until(year, month + 1) {
        month += 1;
    }
    (year, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2016-12-31 23:59:60, the last one so far.
    const NEW_YEAR: i64 = 1_483_228_800;

    #[test]
    fn months_begin_where_the_calendar_says() {
        let days = |year: i64, month: usize| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut day = 0;
        for year in 1970..2500 {
            for month in 1..=12 {
                let begin = day * DAY;
                day += days(year, month);
                for second in [begin, begin + 1, begin + 12 * DAY, day * DAY - 1] {
                    assert_eq!((start_of_month(second), end_of_month(second)), (begin, day * DAY), "{year}-{month}");
                }
            }
        }
        assert_eq!(start_of_month(NEW_YEAR), NEW_YEAR);
        assert_eq!((start_of_month(-1), end_of_month(-1)), (-31 * DAY, 0));
    }

    /// Walks over the end of the month by a clock that counts every second, from pages made before, during and after.
    fn walk(inserted: bool, indicator: u8, counted: bool, reference: i64) -> Vec<(i64, u8)> {
        (-3..=3)
            .map(|tick| {
                let shown = NEW_YEAR + tick - if counted { if inserted { 1 } else { -1 } } else { 0 };
                let (utc, now) = utc(shown * SECOND + 5, indicator, reference);
                assert_eq!(utc.rem_euclid(SECOND), 5);
                (utc.div_euclid(SECOND) - NEW_YEAR, now)
            })
            .collect()
    }

    #[test]
    fn an_inserted_second_goes_by_twice() {
        let expected = [
            (-3, VMCLOCK_LEAP_PRE_POS),
            (-2, VMCLOCK_LEAP_PRE_POS),
            (-1, VMCLOCK_LEAP_PRE_POS),
            (-1, VMCLOCK_LEAP_POS),
            (0, VMCLOCK_LEAP_POST_POS),
            (1, VMCLOCK_LEAP_POST_POS),
            (2, VMCLOCK_LEAP_POST_POS),
        ];
        for reference in [NEW_YEAR - 31 * DAY, NEW_YEAR - 1] {
            assert_eq!(walk(true, VMCLOCK_LEAP_PRE_POS, false, reference), expected);
        }
        assert_eq!(walk(true, VMCLOCK_LEAP_POS, false, NEW_YEAR), expected);
        assert_eq!(walk(true, VMCLOCK_LEAP_POS, true, NEW_YEAR - 1), expected);
        for reference in [NEW_YEAR, NEW_YEAR + 31 * DAY - 1] {
            assert_eq!(walk(true, VMCLOCK_LEAP_POST_POS, true, reference), expected);
        }
    }

    #[test]
    fn a_removed_second_is_left_out() {
        let expected = [
            (-3, VMCLOCK_LEAP_PRE_NEG),
            (-2, VMCLOCK_LEAP_PRE_NEG),
            (0, VMCLOCK_LEAP_POST_NEG),
            (1, VMCLOCK_LEAP_POST_NEG),
            (2, VMCLOCK_LEAP_POST_NEG),
            (3, VMCLOCK_LEAP_POST_NEG),
            (4, VMCLOCK_LEAP_POST_NEG),
        ];
        assert_eq!(walk(false, VMCLOCK_LEAP_PRE_NEG, false, NEW_YEAR - 2), expected);
        assert_eq!(walk(false, VMCLOCK_LEAP_POST_NEG, true, NEW_YEAR), expected);
    }

    #[test]
    fn any_numbers_are_survived() {
        for indicator in 0..=255 {
            for reference in [i64::MIN, -1, 0, i64::MAX / SECOND, i64::MAX] {
                for shown in [i64::MIN, 0, i64::MAX] {
                    utc(shown, indicator, reference);
                }
            }
        }
    }
}
