//! Pages that are cut, lie, or are noise: an error that says so, or a time; never a crash, never a wait without end.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use shmhot::status::Failure;
use shmhot::vmclock::*;

use crate::support::*;

/// A file with a sound page, and the file itself to corrupt it.
fn sound_file(path: &Path) -> File {
    fs::write(path, raw(&sound(), 4096, 4096)).unwrap();
    OpenOptions::new().write(true).open(path).unwrap()
}

/// The counter that pages of this machine are about.
fn native(page: Snapshot) -> Snapshot {
    let counter_id = if cfg!(target_arch = "aarch64") { VMCLOCK_COUNTER_ARM_VCNT } else { VMCLOCK_COUNTER_X86_TSC };
    Snapshot { counter_id, ..page }
}

#[test]
fn every_length() {
    let folder = Folder::new("length");
    let path = folder.join("page");
    for checked in BOTH {
        for len in 0..=112 {
            // It claims what a whole page has.
            fs::write(&path, &raw(&sound(), 112, 112)[..len]).unwrap();
            match len {
                112 => assert_eq!(open(&path, checked).unwrap().snapshot().unwrap(), sound()),
                _ => expect(open(&path, checked), libc::EPROTO),
            }
            // It claims what it has.
            fs::write(&path, &raw(&sound(), 112, len as u32)[..len]).unwrap();
            match len {
                0..104 => expect(open(&path, checked), libc::EPROTO),
                104..112 => {
                    let page = Snapshot { vm_generation_counter: 0, ..sound() };
                    assert_eq!(open(&path, checked).unwrap().snapshot().unwrap(), page);
                }
                _ => assert_eq!(open(&path, checked).unwrap().snapshot().unwrap(), sound()),
            }
        }
    }
}

#[test]
fn every_claimed_size() {
    let folder = Folder::new("size");
    let path = folder.join("page");
    for checked in BOTH {
        for len in [104, 111, 112, 4096, 10_000u32] {
            let around = |size: u32| [size.saturating_sub(1), size, size.saturating_add(1)];
            let sizes = [0, 16, 104, 112, 4096, len, 65_536, 1 << 31, u32::MAX];
            for size in sizes.into_iter().flat_map(around) {
                fs::write(&path, &raw(&sound(), 10_000, size)[..len as usize]).unwrap();
                match size {
                    size if size < 104 || size > len => expect(open(&path, checked), libc::EPROTO),
                    _ => assert_eq!(open(&path, checked).unwrap().snapshot().unwrap().time_sec, sound().time_sec),
                }
            }
        }
    }
}

#[test]
fn magic_and_version() {
    let folder = Folder::new("magic");
    let path = folder.join("page");
    let file = sound_file(&path);
    for checked in BOTH {
        for bit in 0..32 {
            let magic = u32::from_le_bytes(*b"VCLK") ^ 1 << bit;
            poke(&file, 0, &magic.to_le_bytes());
            expect(open(&path, checked), libc::EPROTO);
        }
        poke(&file, 0, b"VCLK");
        let clock = open(&path, checked).unwrap();
        for version in (0..16).map(|bit| 1 ^ 1 << bit).chain([0, 2, u16::MAX]) {
            poke(&file, VERSION, &version.to_le_bytes());
            expect(open(&path, checked), libc::EPROTO);
            // It may also change under a reader.
            expect(clock.snapshot(), libc::EPROTO);
            expect(clock.now(), libc::EPROTO);
            expect(clock.wait(u32::MAX, Some(Duration::ZERO)), libc::EPROTO);
            expect(Time::at(&Snapshot { version, ..sound() }, 0), libc::EPROTO);
        }
        poke(&file, VERSION, &1u16.to_le_bytes());
        assert_eq!(clock.snapshot().unwrap(), sound());
    }
}

/// Every value of a byte: a snapshot shows it as it is, and a time comes for those that permit one.
fn every_value(name: &str, offset: u64, set: fn(&mut Snapshot, u8), gives_time: fn(u8) -> bool) {
    let folder = Folder::new(name);
    let path = folder.join("page");
    fs::write(&path, raw(&native(sound()), 4096, 4096)).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for checked in BOTH {
        let early = open(&path, checked).unwrap();
        for value in 0..=u8::MAX {
            poke(&file, offset, &[value]);
            let mut page = native(sound());
            set(&mut page, value);
            for clock in [&early, &open(&path, checked).unwrap()] {
                assert_eq!(clock.snapshot().unwrap(), page);
                match clock.now() {
                    Ok(time) => {
                        assert!(gives_time(value), "{name} {value}: {time:?}");
                        assert!(time.earliest_ns <= time.time_ns && time.time_ns <= time.latest_ns, "{time:?}");
                    }
                    // This machine's counter is far from the page's reference, and a small shift takes it out of range.
                    Err(error) if error.status() == -libc::EOVERFLOW => assert!(gives_time(value), "{name} {value}"),
                    Err(error) => {
                        assert_eq!(error.status(), -libc::ENODATA, "{error}");
                        assert!(!gives_time(value), "{name} {value}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_counter() {
    let ours = |value| value == native(sound()).counter_id;
    every_value("counter", COUNTER_ID, |page, value| page.counter_id = value, ours);
}

#[test]
fn every_time_type() {
    every_value("time-type", TIME_TYPE, |page, value| page.time_type = value, |value| value <= VMCLOCK_TIME_MONOTONIC);
}

#[test]
fn every_status() {
    let good = |value| matches!(value, VMCLOCK_STATUS_SYNCHRONIZED | VMCLOCK_STATUS_FREERUNNING);
    every_value("status", CLOCK_STATUS, |page, value| page.clock_status = value, good);
}

#[test]
fn every_leap_indicator() {
    every_value("leap", LEAP_INDICATOR, |page, value| page.leap_indicator = value, |_| true);
}

#[test]
fn every_shift() {
    every_value("shift", SHIFT, |page, value| page.counter_period_shift = value, |_| true);
}

#[test]
fn a_period_of_nothing_gives_no_time() {
    expect(Time::at(&Snapshot { counter_period_frac_sec: 0, ..sound() }, 1), libc::ENODATA);
}

/// Numbers as a broken host might write them: noise, and the edges of their range.
fn noise(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => random.next() >> random.below(64),
        2 => u64::MAX - (random.next() >> random.below(64)),
        _ => [0, 1, i64::MAX as u64, 1 << 63, u64::MAX][random.below(5) as usize],
    }
}

fn noisy_page(random: &mut Random) -> Snapshot {
    let mut word = || noise(random);
    Snapshot {
        // Mostly values that pass the first looks, so that the rest is looked at as well.
        version: if word() % 16 == 0 { word() as u16 } else { 1 },
        counter_id: if word() % 16 == 0 { word() as u8 } else { native(sound()).counter_id },
        time_type: if word() % 16 == 0 { word() as u8 } else { (word() % 3) as u8 },
        seq_count: (word() as u32) & !1,
        disruption_marker: word(),
        flags: word(),
        padding: (word() as u16).to_le_bytes(),
        clock_status: if word() % 16 == 0 { word() as u8 } else { 2 + (word() % 2) as u8 },
        leap_second_smearing_hint: word() as u8,
        tai_offset_sec: word() as i16,
        leap_indicator: (word() % 7) as u8,
        counter_period_shift: if word() % 16 == 0 { word() as u8 } else { (word() % 64) as u8 },
        counter_value: word(),
        counter_period_frac_sec: word(),
        counter_period_esterror_rate_frac_sec: word(),
        counter_period_maxerror_rate_frac_sec: word(),
        time_sec: word() >> (word() % 64),
        time_frac_sec: word(),
        time_esterror_nanosec: word(),
        time_maxerror_nanosec: word(),
        vm_generation_counter: word(),
    }
}

/// What holds for every time, whatever page it comes from.
fn check_time(result: Result<Time>, page: &Snapshot) -> bool {
    let time = match result {
        Ok(time) => time,
        Err(error) => {
            let known = [-libc::EPROTO, -libc::ENODATA, -libc::EOVERFLOW];
            assert!(known.contains(&error.status()), "{error}: {page:?}");
            return false;
        }
    };
    let has = |bit| time.valid & bit != 0;
    assert!(time.earliest_ns <= time.time_ns && time.time_ns <= time.latest_ns, "{time:?} of {page:?}");
    if !has(VMCLOCK_HAS_MAXERROR) {
        assert_eq!((time.earliest_ns, time.latest_ns, time.maxerror_ns), (i64::MIN, i64::MAX, u64::MAX));
    }
    assert_eq!(has(VMCLOCK_HAS_TAI), time.tai_ns != i64::MIN, "{time:?} of {page:?}");
    assert_eq!(has(VMCLOCK_HAS_UTC), time.utc_ns != i64::MIN, "{time:?} of {page:?}");
    assert_eq!((time.disruption_marker, time.flags), (page.disruption_marker, page.flags));
    assert_eq!(time.reserved, [0; 5]);
    true
}

#[test]
fn noise_through_the_arithmetic() {
    let mut random = Random(1);
    let count = soak(10_000_000, 500_000);
    let mut times = 0;
    for _ in 0..count {
        let page = noisy_page(&mut random);
        times += u64::from(check_time(Time::at(&page, noise(&mut random)), &page));
    }
    assert!(times > count / 10, "{times} of {count} gave a time: the noise is too wild to test anything");
}

#[test]
fn noise_through_files() {
    let folder = Folder::new("noise");
    let path = folder.join("page");
    let file = sound_file(&path);
    let mut random = Random(2);
    for checked in BOTH {
        for _ in 0..soak(1_000_000, 50_000) {
            let page = noisy_page(&mut random);
            poke(&file, 0, &raw(&page, 112, 4096));
            let clock = match open(&path, checked) {
                Ok(clock) => clock,
                Err(error) => {
                    assert_eq!(error.status(), -libc::EPROTO, "{error}");
                    assert_ne!(page.version, 1, "{error}");
                    continue;
                }
            };
            let seen = clock.snapshot().unwrap();
            let generation =
                if page.flags & VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT == 0 { 0 } else { page.vm_generation_counter };
            assert_eq!(seen, Snapshot { vm_generation_counter: generation, ..page });
            check_time(clock.now(), &seen);
        }
    }
}

#[test]
fn bytes_without_any_meaning() {
    let folder = Folder::new("bytes");
    let path = folder.join("page");
    let mut random = Random(3);
    for checked in BOTH {
        for _ in 0..soak(200_000, 5_000) {
            let bytes: Vec<u8> = (0..random.below(256)).map(|_| random.next() as u8).collect();
            fs::write(&path, &bytes).unwrap();
            expect(open(&path, checked), libc::EPROTO);
        }
    }
}

#[test]
fn an_update_that_never_ends() {
    let folder = Folder::new("stuck");
    let path = folder.join("page");
    let file = sound_file(&path);
    for checked in BOTH {
        let clock = open(&path, checked).unwrap();
        poke(&file, SEQ_COUNT, &7u32.to_le_bytes());
        let late = open(&path, checked).expect("a page may be opened in the middle of an update");
        for clock in [&clock, &late] {
            let begin = Instant::now();
            expect(clock.snapshot(), libc::ETIMEDOUT);
            expect(clock.now(), libc::ETIMEDOUT);
            assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
            assert!(begin.elapsed() > Duration::from_millis(50), "gave up after {:?}", begin.elapsed());
        }
        poke(&file, SEQ_COUNT, &8u32.to_le_bytes());
        assert_eq!(clock.snapshot().unwrap().seq_count, 8);
        poke(&file, SEQ_COUNT, &0u32.to_le_bytes());
    }
}

#[test]
fn sequences_wrap_and_may_be_zero() {
    let folder = Folder::new("wrap");
    let path = folder.join("page");
    let file = sound_file(&path);
    let clock = open(&path, false).unwrap();
    assert_eq!(clock.snapshot().unwrap(), sound()); // a first sequence of 0 is a page like any other
    poke(&file, SEQ_COUNT, &(u32::MAX - 1).to_le_bytes());
    assert_eq!(clock.snapshot().unwrap().seq_count, u32::MAX - 1);
    let writer = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
    for expected in [0, 2] {
        writer.write(&sound()).unwrap();
        assert_eq!(clock.snapshot().unwrap().seq_count, expected);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_open() {
    let folder = Folder::new("cut");
    let path = folder.join("page");
    for len in [0, 50, 103] {
        let page = native(sound());
        fs::write(&path, raw(&page, 4096, 4096)).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let clock = open(&path, true).unwrap();
        assert_eq!(clock.snapshot().unwrap(), page);
        file.set_len(len).unwrap();
        expect(clock.snapshot(), libc::EPROTO);
        expect(clock.now(), libc::EPROTO);
        expect(clock.wait_until_past(0, Some(Duration::ZERO)), libc::EPROTO);
        if len < 0x10 {
            expect(clock.wait(u32::MAX, Some(Duration::ZERO)), libc::EPROTO);
        }
        poke(&file, 0, &raw(&page, 4096, 4096));
        assert_eq!(clock.snapshot().unwrap(), page, "a file that is whole again");
    }
}

#[test]
fn a_writer_leaves_what_it_does_not_know() {
    let folder = Folder::new("foreign");
    let path = folder.join("page");
    let of_version = |version| raw(&Snapshot { version, ..sound() }, 4096, 4096);
    for content in [
        of_version(2),
        of_version(u16::MAX),
        vec![],
        b"#!/bin/sh\n".to_vec(),
        vec![0; 4096],
        raw(&sound(), 103, 103),
        raw(&sound(), 112, 113),
        raw(&sound(), 4096, u32::MAX),
        raw(&sound(), 4096, 0),
    ] {
        fs::write(&path, &content).unwrap();
        expect(Writer::create(&path, Writer::DEFAULT_MODE), libc::EPROTO);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_writer_goes_on_where_another_has_died() {
    let folder = Folder::new("adopt");
    let path = folder.join("page");
    for (version, sequence, next) in [(1, 6, 8), (1, 7, 8), (1, u32::MAX, 0), (0, 0, 2), (0, 1, 2)] {
        fs::write(&path, raw(&Snapshot { version, seq_count: sequence, ..sound() }, 4096, 4096)).unwrap();
        let writer = Writer::create(&path, Writer::DEFAULT_MODE).unwrap();
        writer.write(&numbered(9)).unwrap();
        let page = open(&path, false).unwrap().snapshot().unwrap();
        assert_eq!(page, Snapshot { seq_count: next, ..numbered(9) });
        drop(writer);
        assert_eq!(&fs::read(&path).unwrap()[SIZE as usize..8], 4096u32.to_le_bytes());
    }
}
