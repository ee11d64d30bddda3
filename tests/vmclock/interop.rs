//! Our reader and writer beside those of the crate clock-bound-vmclock, in separate processes.

use std::path::Path;
use std::time::{Duration, Instant};

use clock_bound_vmclock::shm::{VMClockClockStatus, VMClockShmBody};
use clock_bound_vmclock::shm_reader::VMClockShmReader;
use clock_bound_vmclock::shm_writer::{VMClockShmWrite, VMClockShmWriter};
use shmhot::status::Failure;
use shmhot::vmclock::{Clock, VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT, Writer};

use crate::support::*;

/// The peer's words for a numbered page.
fn body(number: u64) -> VMClockShmBody {
    let page = numbered(number);
    VMClockShmBody {
        disruption_marker: page.disruption_marker,
        flags: page.flags,
        _padding: page.padding,
        clock_status: match page.clock_status {
            0 => VMClockClockStatus::Unknown,
            1 => VMClockClockStatus::Initializing,
            2 => VMClockClockStatus::Synchronized,
            3 => VMClockClockStatus::FreeRunning,
            _ => VMClockClockStatus::Unreliable,
        },
        leap_second_smearing_hint: page.leap_second_smearing_hint,
        tai_offset_sec: page.tai_offset_sec,
        leap_indicator: page.leap_indicator,
        counter_period_shift: page.counter_period_shift,
        counter_value: page.counter_value,
        counter_period_frac_sec: page.counter_period_frac_sec,
        counter_period_esterror_rate_frac_sec: page.counter_period_esterror_rate_frac_sec,
        counter_period_maxerror_rate_frac_sec: page.counter_period_maxerror_rate_frac_sec,
        time_sec: page.time_sec,
        time_frac_sec: page.time_frac_sec,
        time_esterror_nanosec: page.time_esterror_nanosec,
        time_maxerror_nanosec: page.time_maxerror_nanosec,
    }
}

#[test]
#[ignore = "the writer of other tests: ours, without a pause"]
fn our_writer_child() {
    let Some(path) = page_of_child() else { return };
    let writer = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
    for number in 1.. {
        writer.write(&numbered(number)).unwrap();
    }
}

#[test]
#[ignore = "the writer of other tests: ours, with pauses"]
fn our_pausing_writer_child() {
    let Some(path) = page_of_child() else { return };
    let writer = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
    for number in 1.. {
        writer.write(&numbered(number)).unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
#[ignore = "the writer of other tests: the peer's, without a pause"]
fn their_writer_child() {
    let Some(path) = page_of_child() else { return };
    let mut writer = VMClockShmWriter::new(&path).unwrap();
    for number in 1.. {
        writer.write(&body(number));
    }
}

/// Our reader, as soon as the page has been written.
fn reader(path: &Path, checked: bool) -> Clock {
    let clock = until("a page", || open(path, checked).ok());
    until("the first update", || (patiently(&clock).disruption_marker > 0).then_some(()));
    clock
}

/// Takes at least `count` snapshots, whose numbers must not fall, and must rise now and then.
fn follow(count: u64, mut number: impl FnMut() -> u64) {
    let begin = Instant::now();
    let (mut done, mut updates, mut last) = (0, 0, 0);
    while done < count || updates < 10 {
        let number = number();
        assert!(number >= last, "update {number} after {last}");
        (done, updates, last) = (done + 1, updates + u64::from(number > last), number);
        assert!(done < count || begin.elapsed() < 10 * PATIENCE, "the writer has written {updates} times only");
    }
}

/// Takes snapshots, each of which has to be of one update.
///
/// `generation`: the page has a generation counter.
fn check_snapshots(clock: &Clock, count: u64, generation: bool) {
    follow(count, || {
        let page = patiently(clock);
        let mut expected = numbered(page.disruption_marker);
        expected.seq_count = (2 * page.disruption_marker) as u32; // both writers begin with 0
        if !generation {
            expected.vm_generation_counter = 0;
        }
        assert_eq!(page, expected);
        page.disruption_marker
    });
}

#[test]
fn our_reader_beside_their_writer() {
    let folder = Folder::new("their-writer");
    let path = folder.join("page");
    let _writer = WriterProcess::start("interop::their_writer_child", &path);
    check_snapshots(&reader(&path, false), soak(10_000_000, 500_000), false);
}

#[test]
fn our_reader_beside_our_writer() {
    let folder = Folder::new("our-writer");
    let path = folder.join("page");
    let _writer = WriterProcess::start("interop::our_writer_child", &path);
    check_snapshots(&reader(&path, false), soak(10_000_000, 5_000_000), true);
}

#[test]
fn a_checked_reader_beside_our_writer() {
    let folder = Folder::new("checked");
    let path = folder.join("page");
    let _writer = WriterProcess::start("interop::our_pausing_writer_child", &path);
    check_snapshots(&reader(&path, true), soak(1_000_000, 100_000), true);
}

#[test]
fn threads_share_a_handle() {
    let folder = Folder::new("threads");
    let path = folder.join("page");
    let _writer = WriterProcess::start("interop::our_writer_child", &path);
    let clock = reader(&path, false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| check_snapshots(&clock, soak(2_500_000, 250_000), true));
        }
    });
}

#[test]
fn their_reader_beside_our_writer() {
    let folder = Folder::new("their-reader");
    let path = folder.join("page");
    let _writer = WriterProcess::start("interop::our_writer_child", &path);
    drop(reader(&path, false)); // theirs takes a page with a sequence of 0 for zeros
    let mut theirs = VMClockShmReader::new(path.to_str().unwrap()).expect("our page, opened by the peer");
    follow(soak(10_000_000, 5_000_000), || {
        let page = theirs.snapshot().expect("our page, read by the peer");
        assert_eq!(*page, body(page.disruption_marker));
        page.disruption_marker
    });
}

#[test]
fn each_writer_goes_on_with_the_others_page() {
    let folder = Folder::new("take-turns");
    let path = folder.join("page");
    let name = path.to_str().unwrap();
    let mut theirs = VMClockShmWriter::new(&path).unwrap();
    theirs.write(&body(1));
    let clock = open(&path, false).unwrap();
    drop(theirs);

    // 104 bytes have no room for a generation counter.
    let ours = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
    expect(ours.write(&numbered(2)), libc::EINVAL);
    let mut page = numbered(2);
    page.flags &= !VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
    page.vm_generation_counter = 0;
    ours.write(&page).unwrap();
    page.seq_count = 4;
    assert_eq!(clock.snapshot().unwrap(), page);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 104);
    drop(ours);

    let mut theirs = VMClockShmWriter::new(&path).unwrap();
    theirs.write(&body(3));
    assert_eq!(clock.snapshot().unwrap().seq_count, 6);
    std::fs::remove_file(&path).unwrap();

    // Theirs leaves our longer file as it is, and what it does not know in it.
    let ours = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
    ours.write(&numbered(4)).unwrap();
    drop(ours);
    let clock = open(&path, false).unwrap();
    let mut theirs = VMClockShmWriter::new(&path).unwrap();
    theirs.write(&body(5));
    let page = clock.snapshot().unwrap();
    assert_eq!((page.seq_count, page.disruption_marker), (4, 5));
    assert_eq!(page.vm_generation_counter, numbered(4).vm_generation_counter);
    assert_eq!(*VMClockShmReader::new(name).unwrap().snapshot().unwrap(), body(5));
}

/// Kills a writer at a random moment, many times: a reader that was there before gets a whole page or is told in time,
/// the next writer goes on, and the reader sees what it writes.
fn kill_and_recover(name: &str, child: &str) {
    let folder = Folder::new(name);
    let path = folder.join("page");
    let mut random = Random(0x5eed);
    let rounds = soak(1_000, 40);
    let mut inside = 0;
    for round in 0..rounds {
        let process = WriterProcess::start(child, &path);
        let clock = reader(&path, false);
        std::thread::sleep(Duration::from_nanos(random.below(3_000_000)));
        process.kill();

        let begin = Instant::now();
        let died_inside = match clock.snapshot() {
            Ok(page) => {
                let number = page.disruption_marker;
                assert_eq!(page.seq_count, (2 * number) as u32);
                assert_eq!(page.time_maxerror_nanosec, numbered(number).time_maxerror_nanosec);
                false
            }
            Err(error) => {
                assert_eq!(error.status(), -libc::ETIMEDOUT, "{error}");
                true
            }
        };
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        inside += u64::from(died_inside);

        let writer = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
        let mut next = numbered(u64::MAX - round);
        next.flags &= !VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
        next.vm_generation_counter = 0;
        writer.write(&next).unwrap();
        let page = clock.snapshot().unwrap();
        next.seq_count = page.seq_count;
        assert_eq!(page, next);
        assert_eq!(page.seq_count % 2, 0);
        writer.remove().unwrap();
    }
    println!("{child}: {inside} of {rounds} killed in the middle of an update");
    assert!(inside > 0, "no writer was killed in the middle of an update, which this test is about");
}

#[test]
fn our_killed_writer() {
    kill_and_recover("our-killed", "interop::our_writer_child");
}

#[test]
fn their_killed_writer() {
    kill_and_recover("their-killed", "interop::their_writer_child");
}
