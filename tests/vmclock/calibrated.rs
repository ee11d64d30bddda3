//! A page that is calibrated from this machine's counter, against the kernel's clock that it was calibrated from.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shmhot::status::Failure;
use shmhot::vmclock::*;

use crate::support::*;

/// The kernel's clock of the page's type, in nanoseconds.
fn kernel_clock(time_type: u8) -> i64 {
    let clock = if time_type == VMCLOCK_TIME_TAI { libc::CLOCK_TAI } else { libc::CLOCK_REALTIME };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the time.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// How the kernel steers its clock at the moment, in parts per billion. A page extrapolates how it was steered before.
fn steering() -> i64 {
    // SAFETY: zeroes ask for nothing to be changed, and there is room for the answer.
    let timex = unsafe {
        let mut timex = std::mem::zeroed::<libc::timex>();
        assert_ne!(libc::adjtimex(&mut timex), -1);
        timex
    };
    let offset_ns = if timex.status & libc::STA_NANO == 0 { timex.offset * 1_000 } else { timex.offset };
    // In 2^-16 ppm, in microseconds of a hundredth of a second, and what is left, of which a quarter a second at most.
    timex.freq * 1_000 / 65_536 + (timex.tick - 10_000) * 100_000 + offset_ns / 4
}

/// How far a value lies outside of an interval.
fn outside(value: i64, from: i64, to: i64) -> i64 {
    (from - value).max(value - to).max(0)
}

/// Runs `test` beside a thread that calibrates the page every second. `bracket` tells how long the reading took that a
/// page was made from.
fn beside_a_calibrator(name: &str, test: impl FnOnce(&Clock, &dyn Fn(u32) -> i64)) {
    let calibrator = match Calibrator::new() {
        Ok(calibrator) => calibrator,
        Err(error) if error.status() == -libc::EOPNOTSUPP => {
            println!("SKIP {name}: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let folder = Folder::new(name);
    let path = folder.join("page");
    let writer = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
    // Of the update with sequence 2, 4 and so on.
    let brackets = Mutex::new(Vec::new());
    let refresh = || {
        let Measurement { page, bracket_ns } = until("a measurement", || match calibrator.measure() {
            Err(error) if error.status() == -libc::EAGAIN => None,
            measurement => Some(measurement.unwrap()),
        });
        brackets.lock().unwrap().push(i64::try_from(bracket_ns).unwrap());
        writer.write(&page).unwrap();
    };
    refresh();
    let clock = open(&path, false).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_secs(1));
                refresh();
            }
        });
        // Also when the test panics, or the scope would wait forever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test(&clock, &|sequence| brackets.lock().unwrap()[sequence as usize / 2 - 1]);
        }));
        over.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Whatever keeps this thread from its processor between the three readings, the kernel's clock was between the outer two
/// when the counter was read: a long bracket says less, and nothing wrong.
#[test]
fn now_is_the_kernels_time() {
    let readings = soak(100_000, 10_000);
    let length = Duration::from_secs(soak(60, 5));
    beside_a_calibrator("calibrated", |clock, bracket| {
        let (mut done, mut exact, mut worst, mut widest) = (0, 0, 0, 0);
        let (mut steered, mut steady_since) = (steering(), 0);
        let begin = Instant::now();
        while done < readings || begin.elapsed() < length {
            let page = clock.snapshot().unwrap();
            let before = kernel_clock(page.time_type);
            let now = clock.now().unwrap();
            let after = kernel_clock(page.time_type);
            assert_eq!(now.time_type, page.time_type);
            assert_ne!(now.valid & VMCLOCK_HAS_MAXERROR, 0);
            assert!(now.earliest_ns <= after && before <= now.latest_ns, "{before} to {after}: {now:?}");
            done += 1;

            // Beyond the kernel's own error there is only the measurement, if the page is as fresh as it is meant to be,
            // and the kernel steers as it did while the page was measured.
            if (steering() - steered).abs() > 100 {
                (steered, steady_since) = (steering(), page.seq_count + 2 * 10);
            }
            let age = now.time_ns - Time::at(&page, page.counter_value).unwrap().time_ns;
            if now.seq_count == page.seq_count && age < 1_200_000_000 && page.seq_count >= steady_since {
                let (error, bracket) = (outside(now.time_ns, before, after), bracket(now.seq_count));
                assert!(error <= bracket + 1_000, "{error} ns off, but measured within {bracket} ns: {now:?}");
                (exact, worst, widest) = (exact + 1, worst.max(error), widest.max(bracket));
            }
            std::thread::sleep(length / readings as u32);
        }
        println!("{exact} of {done} readings compared exactly: {worst} ns off at most, measured within {widest} ns");
        match steady_since {
            0 => assert!(exact > done / 2, "only {exact} of {done} readings were of a fresh page"),
            _ => println!("SKIP a part of the exact comparisons: something steers this machine's clock"),
        }
    });
}

#[test]
fn pages_follow_each_other() {
    beside_a_calibrator("refreshed", |clock, _| {
        let first = clock.snapshot().unwrap();
        assert!(!clock.wait(first.seq_count, Some(Duration::ZERO)).unwrap());
        assert!(clock.wait(first.seq_count.wrapping_sub(2), Some(Duration::ZERO)).unwrap());
        assert!(clock.wait(first.seq_count, Some(PATIENCE)).unwrap());
        let second = clock.snapshot().unwrap();
        assert_ne!(second.seq_count, first.seq_count);
        assert_eq!(second.disruption_marker, first.disruption_marker, "nothing has disturbed the clock");
        assert!(second.counter_value.wrapping_sub(first.counter_value).cast_signed() > 0);
        // What both say of one moment differs by less than what either admits.
        let [before, after] = [first, second].map(|page| Time::at(&page, second.counter_value).unwrap());
        assert!(before.earliest_ns <= after.latest_ns && after.earliest_ns <= before.latest_ns, "{before:?} {after:?}");
    });
}

#[test]
fn a_time_that_is_over() {
    beside_a_calibrator("over", |clock, _| {
        let time = clock.now().unwrap().earliest_ns + 50_000_000;
        assert!(!clock.wait_until_past(time, Some(Duration::ZERO)).unwrap());
        assert!(clock.wait_until_past(time, Some(PATIENCE)).unwrap());
        assert!(clock.now().unwrap().earliest_ns > time);
        let far = clock.now().unwrap().latest_ns + 3_600_000_000_000;
        assert!(!clock.wait_until_past(far, Some(Duration::from_millis(30))).unwrap());
    });
}
