//! `Time::at` against integers that have no end: another way to the same numbers.

use num_bigint::{BigInt, Sign};
use shmhot::status::Failure;
use shmhot::vmclock::*;

use crate::common::Random;

/// Small and large ones alike.
fn any_size(random: &mut Random) -> u64 {
    random.next() >> random.below(64)
}

fn page(random: &mut Random) -> Snapshot {
    let flags = VMCLOCK_FLAG_TIME_ESTERROR_VALID
        | VMCLOCK_FLAG_PERIOD_ESTERROR_VALID
        | VMCLOCK_FLAG_TIME_MAXERROR_VALID
        | VMCLOCK_FLAG_PERIOD_MAXERROR_VALID
        | VMCLOCK_FLAG_TAI_OFFSET_VALID;
    Snapshot {
        version: 1,
        counter_id: VMCLOCK_COUNTER_X86_TSC,
        time_type: [VMCLOCK_TIME_UTC, VMCLOCK_TIME_TAI, VMCLOCK_TIME_MONOTONIC][random.below(3) as usize],
        flags: if random.below(4) == 0 { random.next() } else { flags },
        clock_status: VMCLOCK_STATUS_SYNCHRONIZED + random.below(2) as u8,
        tai_offset_sec: (random.below(80) as i16) - 40,
        counter_period_shift: random.below(64) as u8,
        counter_value: any_size(random),
        counter_period_frac_sec: any_size(random).max(1),
        counter_period_esterror_rate_frac_sec: any_size(random),
        counter_period_maxerror_rate_frac_sec: any_size(random),
        time_sec: random.below(12_000_000_000), // some are too late for 64 bits of nanoseconds
        time_frac_sec: random.next(),
        time_esterror_nanosec: any_size(random),
        time_maxerror_nanosec: any_size(random),
        ..Snapshot::default()
    }
}

fn floor(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let quotient = numerator / denominator;
    if numerator.sign() == Sign::Minus && &quotient * denominator != *numerator { quotient - 1 } else { quotient }
}

fn ceil(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    -floor(&-numerator, denominator)
}

/// Ticks from the reference to the counter, before it or after it, whichever is nearer.
fn ticks(page: &Snapshot, counter: u64) -> BigInt {
    let cycle = BigInt::from(1) << 64;
    let ticks = BigInt::from(counter) - page.counter_value;
    let half = &cycle / 2;
    match ticks {
        ticks if ticks >= half => ticks - cycle,
        ticks if ticks < -&half => ticks + cycle,
        ticks => ticks,
    }
}

/// What `Time::at` should say; `None` when that does not fit.
struct Expected {
    time_ns: BigInt,
    /// The same in units of 2^-(64 + shift) nanoseconds.
    exact: BigInt,
    esterror_ns: BigInt,
    maxerror_ns: BigInt,
}

fn expected(page: &Snapshot, counter: u64) -> Option<Expected> {
    let ticks = ticks(page, counter);
    let (one, shift) = (BigInt::from(1), u32::from(page.counter_period_shift));
    let second = BigInt::from(1_000_000_000);
    // The fixed point of UAPI.13: first to 2^-64 seconds, then to nanoseconds.
    let reference = (BigInt::from(page.time_sec) << 64) + page.time_frac_sec;
    let elapsed = &ticks * page.counter_period_frac_sec;
    let time = &reference + floor(&elapsed, &(&one << shift));
    let (low, high) = (BigInt::from(0), BigInt::from(i64::MAX));
    let time_ns = floor(&(&time * &second), &(&one << 64));
    let later_ns = ceil(&((&reference + ceil(&elapsed, &(&one << shift))) * &second), &(&one << 64));
    if time < low || time_ns > high || later_ns > high {
        return None;
    }
    let error = |rate: u64, time_error: u64| {
        let drift = BigInt::from(ticks.magnitude().clone()) * rate;
        let drift = ceil(&drift, &(&one << shift));
        let error = ceil(&(drift * &second), &(&one << 64)) + time_error;
        if error > BigInt::from(i64::MAX) { BigInt::from(u64::MAX) } else { error }
    };
    Some(Expected {
        exact: ((reference << shift) + elapsed) * &second,
        time_ns,
        esterror_ns: error(page.counter_period_esterror_rate_frac_sec, page.time_esterror_nanosec),
        maxerror_ns: error(page.counter_period_maxerror_rate_frac_sec, page.time_maxerror_nanosec),
    })
}

fn compare(page: &Snapshot, counter: u64) -> bool {
    let told = Time::at(page, counter);
    let Some(expected) = expected(page, counter) else {
        assert_eq!(told.expect_err("no room for it").status(), -libc::EOVERFLOW, "{page:?} at {counter}");
        return false;
    };
    let told = told.unwrap_or_else(|error| panic!("{error}: {page:?} at {counter}"));
    assert_eq!(BigInt::from(told.time_ns), expected.time_ns, "{page:?} at {counter}");

    let knows = |flags: u64| page.flags & flags == flags;
    let error = |flags, told: u64, expected: &BigInt| {
        let expected = if knows(flags) { expected.clone() } else { u64::MAX.into() };
        // Errors of more than 292 years need not be exact.
        let is_huge = |error: &BigInt| *error > BigInt::from(i64::MAX);
        assert!(BigInt::from(told) == expected || is_huge(&told.into()) && is_huge(&expected), "{page:?} at {counter}");
    };
    error(
        VMCLOCK_FLAG_TIME_ESTERROR_VALID | VMCLOCK_FLAG_PERIOD_ESTERROR_VALID,
        told.esterror_ns,
        &expected.esterror_ns,
    );
    error(
        VMCLOCK_FLAG_TIME_MAXERROR_VALID | VMCLOCK_FLAG_PERIOD_MAXERROR_VALID,
        told.maxerror_ns,
        &expected.maxerror_ns,
    );

    // The truth, without any rounding, lies within.
    let unit = BigInt::from(1) << (64 + u32::from(page.counter_period_shift));
    let slack = if told.valid & VMCLOCK_HAS_MAXERROR != 0 { told.maxerror_ns } else { u64::MAX };
    assert!(told.earliest_ns == i64::MIN || BigInt::from(told.earliest_ns) * &unit <= &expected.exact - &unit * slack);
    assert!(told.latest_ns == i64::MAX || BigInt::from(told.latest_ns) * &unit >= &expected.exact + &unit * slack);

    let offset = i64::from(page.tai_offset_sec).abs() * 1_000_000_000;
    let (tai, utc) = match (page.time_type, knows(VMCLOCK_FLAG_TAI_OFFSET_VALID)) {
        (VMCLOCK_TIME_TAI, true) => (Some(told.time_ns), told.time_ns.checked_sub(offset)),
        (VMCLOCK_TIME_TAI, false) => (Some(told.time_ns), None),
        (VMCLOCK_TIME_UTC, true) => (told.time_ns.checked_add(offset), Some(told.time_ns)),
        (VMCLOCK_TIME_UTC, false) => (None, Some(told.time_ns)),
        _ => (None, None),
    };
    assert_eq!((told.tai_ns, told.utc_ns), (tai.unwrap_or(i64::MIN), utc.unwrap_or(i64::MIN)), "{page:?}");
    assert_eq!(told.valid & VMCLOCK_HAS_TAI != 0, tai.is_some());
    assert_eq!(told.valid & VMCLOCK_HAS_UTC != 0, utc.is_some());
    true
}

#[test]
fn a_million_pages_and_counters() {
    let mut random = Random(1);
    let (mut fit, mut before) = (0, 0);
    for _ in 0..1_000_000 {
        let page = page(&mut random);
        let distance = any_size(&mut random);
        let is_before = random.below(2) == 1;
        let counter = match is_before {
            true => page.counter_value.wrapping_sub(distance),
            false => page.counter_value.wrapping_add(distance),
        };
        if compare(&page, counter) {
            fit += 1;
            before += u32::from(is_before);
        }
    }
    println!("{fit} times fit, {before} of them before the reference");
    assert!(fit > 200_000 && before > 100_000, "the pages were not random enough: {fit}, {before}");
}

#[test]
fn edges() {
    let mut random = Random(2);
    let edges = [0, 1, 2, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];
    for shift in 0..64 {
        for distance in edges {
            for period in edges {
                let page = Snapshot {
                    counter_period_shift: shift,
                    counter_period_frac_sec: period.max(1),
                    counter_period_maxerror_rate_frac_sec: period,
                    time_frac_sec: edges[random.below(7) as usize],
                    ..page(&mut random)
                };
                compare(&page, page.counter_value.wrapping_add(distance));
                compare(&page, page.counter_value.wrapping_sub(distance));
            }
        }
    }
}

/// The example of UAPI.13: a gigahertz, written with all the digits there are.
#[test]
fn a_gigahertz_keeps_its_seconds_for_a_century() {
    let page = Snapshot {
        version: 1,
        counter_id: VMCLOCK_COUNTER_X86_TSC,
        time_type: VMCLOCK_TIME_TAI,
        clock_status: VMCLOCK_STATUS_SYNCHRONIZED,
        counter_period_shift: 29,
        counter_period_frac_sec: 0x8970_5f41_36b4_a598, // rounded up, or each second would begin a little late
        ..Snapshot::default()
    };
    for seconds in [0, 1, 86_400, 3_155_760_000] {
        let time = Time::at(&page, seconds * 1_000_000_000).expect("a time");
        assert_eq!(time.time_ns, seconds as i64 * 1_000_000_000);
    }
}

/// Both signs of the offset, on both sides of the leap second at the end of 2016, from pages of TAI and of UTC.
#[test]
fn leap_seconds() {
    const NEW_YEAR: u64 = 1_483_228_800;
    let second = 1_000_000_000;
    for sign in [1, -1] {
        for time_type in [VMCLOCK_TIME_TAI, VMCLOCK_TIME_UTC] {
            let tai_offset = 36; // before the leap second
            let page = Snapshot {
                version: 1,
                counter_id: VMCLOCK_COUNTER_X86_TSC,
                time_type,
                flags: VMCLOCK_FLAG_TAI_OFFSET_VALID,
                clock_status: VMCLOCK_STATUS_SYNCHRONIZED,
                tai_offset_sec: sign * tai_offset,
                leap_indicator: VMCLOCK_LEAP_PRE_POS,
                counter_period_frac_sec: 1 << 63, // two ticks a second
                time_sec: NEW_YEAR - 1 + if time_type == VMCLOCK_TIME_TAI { 36 } else { 0 },
                ..Snapshot::default()
            };
            let new_year = NEW_YEAR as i64 * second;
            let half = second / 2;
            let expected = [
                (0, new_year - second, VMCLOCK_LEAP_PRE_POS),
                (1, new_year - half, VMCLOCK_LEAP_PRE_POS),
                (2, new_year - second, VMCLOCK_LEAP_POS),
                (3, new_year - half, VMCLOCK_LEAP_POS),
                (4, new_year, VMCLOCK_LEAP_POST_POS),
                (7_200, new_year + 3_598 * second, VMCLOCK_LEAP_POST_POS),
            ];
            for (ticks, utc_ns, leap_indicator) in expected {
                let time = Time::at(&page, ticks).expect("a time");
                assert_eq!((time.utc_ns, time.leap_indicator), (utc_ns, leap_indicator), "tick {ticks}");
                assert_eq!(time.tai_ns, new_year + 35 * second + ticks as i64 * half, "tick {ticks}");
            }
        }
    }
}

#[test]
fn no_time_comes_with_a_reason() {
    let good = Snapshot {
        version: 1,
        counter_id: VMCLOCK_COUNTER_X86_TSC,
        time_type: VMCLOCK_TIME_TAI,
        clock_status: VMCLOCK_STATUS_FREERUNNING,
        counter_period_frac_sec: 1,
        ..Snapshot::default()
    };
    assert!(Time::at(&good, 5).is_ok());
    let refused = [
        (Snapshot { clock_status: VMCLOCK_STATUS_UNKNOWN, ..good }, "status is unknown"),
        (Snapshot { clock_status: VMCLOCK_STATUS_INITIALIZING, ..good }, "status is initializing"),
        (Snapshot { clock_status: VMCLOCK_STATUS_UNRELIABLE, ..good }, "status is unreliable"),
        (Snapshot { clock_status: 200, ..good }, "200"),
        (Snapshot { time_type: VMCLOCK_TIME_INVALID_SMEARED, ..good }, "smeared"),
        (Snapshot { time_type: VMCLOCK_TIME_INVALID_MAYBE_SMEARED, ..good }, "smeared"),
        (Snapshot { time_type: 77, ..good }, "77"),
        (Snapshot { counter_id: VMCLOCK_COUNTER_INVALID, ..good }, "no counter"),
        (Snapshot { counter_period_frac_sec: 0, ..good }, "period"),
    ];
    for (page, reason) in refused {
        let error = Time::at(&page, 5).expect_err(reason);
        assert_eq!(error.status(), -libc::ENODATA);
        assert!(error.to_string().contains(reason), "{error}");
    }
    for version in [0, 2, 65_535] {
        let error = Time::at(&Snapshot { version, ..good }, 5).expect_err("another version");
        assert_eq!(error.status(), -libc::EPROTO);
    }
}
