//! Many processes on one store: those who write, read, let it grow, and are killed at any moment.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shmhot::observer::*;
use shmhot::status::Failure;

use crate::support::*;

/// Segment 0: what all processes of a test share.
fn shared_schema() -> Arc<Schema> {
    schema(Layout::Aligned, &["is_over U8", "increments u64"])
}

const IS_OVER: u32 = 0;
const INCREMENTS: u32 = 1;

fn new_store(path: &Path) -> (Store, Observer) {
    let store = create(path, 8);
    assert_eq!(store.allocate(Some(&shared_schema()), "shared", 0).unwrap(), 0);
    (store, observer(&shared_schema(), path, 0))
}

/// A segment in which every number tells whose it is and whether it is whole.
fn worker_schema() -> Arc<Schema> {
    schema(Layout::Aligned, &["owner u32", "halves u64", "own s64", "swapped U64", "narrow U32", "float f64"])
}

const OWNER: u32 = 0;
const HALVES: u32 = 1;
const OWN: u32 = 2;
const SWAPPED: u32 = 3;
const NARROW: u32 = 4;
const FLOAT: u32 = 5;

/// A number of the process, the same in each half. All of a process's numbers have its own in their upper part.
fn twice(pid: u32, number: u32, bits: u32) -> u64 {
    let half = u64::from(pid % 256) << (bits - 8) | u64::from(number) & ((1 << (bits - 8)) - 1);
    half << bits | half
}

/// That numbers that were read together are whole, and of one worker.
#[track_caller]
fn check(values: &[Value], pid: Option<u32>) {
    let bits: Vec<u64> = values
        .iter()
        .map(|value| match value {
            Value::Unsigned(value) => *value,
            Value::Signed(value) => value.cast_unsigned(),
            Value::Float(value) => *value as u64,
        })
        .collect();
    let owner = bits[OWNER as usize] as u32;
    let is_whole = |value: u64, bits: u32| value >> bits == value & ((1 << bits) - 1);
    // The float holds the halves of 24 bits, which it can.
    for (field, half) in [(HALVES, 32), (SWAPPED, 32), (NARROW, 16), (FLOAT, 24)] {
        let value = bits[field as usize];
        assert!(is_whole(value, half), "torn: field {field} is {value:#x}");
        let of = (value >> (2 * half - 8)) as u32;
        assert!(value == 0 || of == owner % 256, "field {field} is of {of}, and the owner {owner}: {values:?}");
    }
    if let Some(pid) = pid {
        assert!(owner == 0 || owner == pid, "the numbers of {owner} in the segment of {pid}");
    }
}

/// Changes the store, however long others keep it waiting.
fn patiently<T>(mut change: impl FnMut() -> Result<T>) -> T {
    let begin = Instant::now();
    loop {
        match change() {
            Ok(done) => return done,
            Err(error) if error.status() == -libc::EBUSY && begin.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
#[ignore = "a part of everybody_at_once"]
fn writing_child() {
    let Some(path) = store_of_child() else { return };
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let shared = observer(&shared_schema(), &path, 0);
    let segment = patiently(|| store.allocate(Some(&worker_schema()), "worker", 0));
    let worker = observer(&worker_schema(), &path, segment);
    for field in 0..6 {
        assert_eq!(worker.get(field).unwrap().to_f64(), 0.0, "a fresh segment has a number of somebody else");
    }
    let pid = std::process::id();
    worker.set(OWNER, Value::Unsigned(pid.into())).unwrap();
    say_ready(segment);
    let mut number = 0;
    while shared.get(IS_OVER).unwrap() == Value::Unsigned(0) {
        for _ in 0..1000 {
            number += 1;
            worker.set(HALVES, Value::Unsigned(twice(pid, number, 32))).unwrap();
            worker.set(SWAPPED, Value::Unsigned(twice(pid, !number, 32))).unwrap();
            worker.set(NARROW, Value::Unsigned(twice(pid, number, 16))).unwrap();
            worker.set(FLOAT, Value::Float(twice(pid, number, 24) as f64)).unwrap();
            shared.add(INCREMENTS, Value::Unsigned(1)).unwrap();
            worker.add(OWN, Value::Signed(1)).unwrap();
        }
    }
    assert_eq!(worker.get(OWN).unwrap(), Value::Signed(number.into()), "an increment was lost");
}

#[test]
#[ignore = "a part of everybody_at_once"]
fn mapped_reading_child() {
    read_until_it_is_over(false);
}

#[test]
#[ignore = "a part of everybody_at_once"]
fn checked_reading_child() {
    read_until_it_is_over(true);
}

/// It is free, the grower's, or its worker was killed while taking it.
#[track_caller]
fn refused_for_a_reason(error: Error) {
    assert!([-libc::ENOENT, -libc::ENODATA, -libc::ETIMEDOUT].contains(&error.status()), "{error}");
}

fn read_until_it_is_over(checked: bool) {
    let Some(path) = store_of_child() else { return };
    let store = reader(&path, checked).unwrap();
    let shared = schema(Layout::Aligned, &["is_over U8"]);
    let shared = Observer::open(shared, &path, SEGMENT, 0, Options { read_only: true, ..Options::default() }).unwrap();
    let (mut reads, mut last) = (0u64, 0.0);
    say_ready("");
    while shared.get(IS_OVER).unwrap() == Value::Unsigned(0) {
        let mut from = 1;
        while let Some(segment) = store.next(from).unwrap() {
            from = segment + 1;
            let before = store.worker(segment);
            match values(&store, segment) {
                Ok(values) if values.len() == 6 => {
                    // Whose they are is known when nobody else has taken the segment around the reading.
                    let after = store.worker(segment).ok();
                    let pid = before.ok().filter(|before| after.as_ref() == Some(before)).map(|worker| worker.pid);
                    check(&values, pid);
                    reads += 1;
                }
                Ok(values) => panic!("{values:?}"),
                Err(error) => refused_for_a_reason(error),
            }
        }
        for values in values_of_many(&store, 1, 64, 6) {
            match values {
                Ok(values) => check(&values, None),
                Err(error) => refused_for_a_reason(error),
            }
        }
        let (sum, _) = store.sum(Some("shared"), "increments").unwrap();
        assert!(sum.to_f64() >= last, "a counter goes back from {last} to {sum:?}");
        last = sum.to_f64();
        store.sum(Some("worker"), "own").unwrap();
        let text = store.exposition(Format::Prometheus).unwrap();
        assert!(text.contains("shmhot_worker_up{service=\"shared\""), "{text}");
        store.reopen().unwrap();
    }
    assert!(reads > 0, "nothing was read");
}

#[test]
#[ignore = "a part of everybody_at_once"]
fn growing_child() {
    let Some(path) = store_of_child() else { return };
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let shared = observer(&shared_schema(), &path, 0);
    let mut random = Random(7);
    let mut held = Vec::new();
    say_ready("");
    while shared.get(IS_OVER).unwrap() == Value::Unsigned(0) {
        held.push(patiently(|| store.allocate(None, "", 0)));
        if held.len() > 1000 {
            for _ in 0..500 {
                let segment = held.swap_remove(random.below(held.len() as u64) as usize);
                patiently(|| store.free(segment));
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    held.into_iter().for_each(|segment| patiently(|| store.free(segment)));
}

#[test]
fn everybody_at_once() {
    let folder = Folder::new("race");
    let path = folder.join("metrics.shm");
    let (store, shared) = new_store(&path);
    let writer = || {
        let mut process = Process::start("race::writing_child", &path);
        let segment: u32 = process.ready().parse().unwrap();
        (process, segment)
    };
    let own = |segment| match values(&store, segment).unwrap()[OWN as usize] {
        Value::Signed(own) => own.cast_unsigned(),
        other => panic!("{other:?}"),
    };
    let readers = ["race::mapped_reading_child", "race::checked_reading_child"];
    let mut others: Vec<_> = readers.iter().cycle().take(4).map(|test| Process::start(test, &path)).collect();
    others.push(Process::start("race::growing_child", &path));
    others.iter_mut().for_each(|process| drop(process.ready()));
    let mut writers: Vec<_> = (0..8).map(|_| writer()).collect();

    let (mut random, mut killed, mut increments) = (Random(3), 0, 0);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(soak(60, 2)) {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let (process, segment) = writers.swap_remove(random.below(8) as usize);
        let pid = process.id();
        process.kill();
        let worker = store.worker(segment).unwrap();
        assert_eq!((worker.state, worker.pid), (WorkerState::Dead, pid));
        check(&values(&store, segment).unwrap(), Some(pid));
        killed += 1;
        increments += own(segment);
        if random.below(2) == 0 {
            patiently(|| store.reap());
        } else {
            patiently(|| store.free(segment));
        }
        writers.push(writer());
    }
    shared.set(IS_OVER, Value::Unsigned(1)).unwrap();
    let segments: Vec<_> = writers.iter().map(|(_, segment)| *segment).collect();
    writers.into_iter().for_each(|(process, _)| process.finish());
    others.into_iter().for_each(Process::finish);
    increments += segments.into_iter().map(own).sum::<u64>();
    let Value::Unsigned(counted) = shared.get(INCREMENTS).unwrap() else { panic!("another type") };
    // Between the two increments of a round a writer may be killed.
    assert!((increments..=increments + killed).contains(&counted), "{counted}, not {increments} and up to {killed}");
    patiently(|| store.reap());
    assert_eq!(taken(&store).unwrap(), [0]);
    println!("{killed} writers killed, {counted} increments, {} segments", store.count().unwrap());
}

#[test]
#[ignore = "a part of killed_in_the_middle_of_a_change"]
fn changing_child() {
    let Some(path) = store_of_child() else { return };
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    say_ready("");
    loop {
        let segment = patiently(|| store.allocate(Some(&worker_schema()), "changing", 0));
        if segment.is_multiple_of(3) {
            patiently(|| store.describe(segment, &shared_schema(), "changing", 0));
        }
        patiently(|| store.free(segment));
    }
}

#[test]
fn killed_in_the_middle_of_a_change() {
    let folder = Folder::new("middle");
    let path = folder.join("metrics.shm");
    let (store, shared) = new_store(&path);
    let early = reader(&path, false).unwrap();
    let mut random = Random(5);
    let mut live = Vec::new();
    shared.set(INCREMENTS, Value::Unsigned(77)).unwrap();
    for _ in 0..soak(4000, 60) {
        let mut processes = [(); 2].map(|()| Process::start("race::changing_child", &path));
        processes.iter_mut().for_each(|process| drop(process.ready()));
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
        processes.into_iter().for_each(Process::kill);

        // Nobody is kept waiting, and whoever lives keeps what it has.
        let segment = store.allocate(Some(&worker_schema()), "live", 0).unwrap();
        let worker = observer(&worker_schema(), &path, segment);
        assert_eq!(worker.get(OWN).unwrap(), Value::Signed(0));
        worker.set(OWN, Value::Signed(segment.into())).unwrap();
        live.push(segment);
        if live.len() > 20 {
            store.free(live.remove(random.below(20) as usize)).unwrap();
        }
        store.reap().unwrap();
        for segment in &live {
            assert_eq!(early.worker(*segment).unwrap().service, "live");
            assert_eq!(values(&early, *segment).unwrap()[OWN as usize], Value::Signed((*segment).into()));
        }
        assert_eq!(values(&early, 0).unwrap()[1], Value::Unsigned(77));
    }
    // What the killed had is taken back, but for those few that died in the very moment of saying what they have.
    for segment in taken(&store).unwrap() {
        match store.worker(segment) {
            Ok(worker) => assert_eq!(worker.state, WorkerState::Alive),
            Err(error) => {
                assert_eq!(error.status(), -libc::ETIMEDOUT, "{error}");
                assert!(!live.contains(&segment) && segment != 0);
                store.free(segment).unwrap();
            }
        }
    }
    live.push(0);
    live.sort();
    assert_eq!(taken(&store).unwrap(), live);
}

/// Two ways to describe the same bytes, in both of which "last" is another one.
fn long_and_short() -> [(Arc<Schema>, &'static str); 2] {
    let fields = ["last u64", "b u64", "c u64", "d u64"];
    [
        (schema(Layout::Aligned, &["a u64", "b u64", "c u64", "last u64"]), "long"),
        (schema(Layout::Aligned, &fields[..1]), "short"),
    ]
}

#[test]
#[ignore = "a part of descriptions_change"]
fn describing_child() {
    let Some(path) = store_of_child() else { return };
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    say_ready("");
    for (schema, service) in long_and_short().iter().cycle() {
        patiently(|| store.describe(0, schema, service, 0));
    }
}

/// Numbers are told under the names that belong to them, however often these change.
#[test]
fn descriptions_change() {
    let folder = Folder::new("describe");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let [(long, _), _] = long_and_short();
    assert_eq!(store.allocate(Some(&long), "long", 0).unwrap(), 0);
    let worker = observer(&long, &path, 0);
    worker.set(0, Value::Unsigned(9)).unwrap();
    worker.set(3, Value::Unsigned(7)).unwrap();
    let mut process = Process::start("race::describing_child", &path);
    process.ready();

    let readers = BOTH.map(|checked| reader(&path, checked).unwrap());
    let begin = Instant::now();
    let mut seen = [0; 2];
    while begin.elapsed() < Duration::from_millis(soak(20_000, 700)) || seen.contains(&0) {
        assert!(begin.elapsed() < PATIENCE * 2, "seen: {seen:?}");
        for reader in &readers {
            for (at, (service, last)) in [("long", 7), ("short", 9)].into_iter().enumerate() {
                let (sum, count) = reader.sum(Some(service), "last").unwrap();
                assert_eq!(sum, Value::Unsigned(last * u64::from(count)), "{service}, {count}");
                seen[at] += count;
            }
            match values(reader, 0) {
                Ok(values) => assert!(matches!(values[..], [Value::Unsigned(9)] | [_, _, _, Value::Unsigned(7)])),
                Err(error) => assert_eq!(error.status(), -libc::ETIMEDOUT, "{error}"),
            }
            let text = reader.exposition(Format::Prometheus).unwrap();
            for line in text.lines().filter(|line| line.starts_with("last{")) {
                assert!(line.ends_with(if line.contains("\"long\"") { " 7" } else { " 9" }), "{line}");
            }
        }
    }
    process.kill();
}

#[test]
#[ignore = "a part of opening_while_it_grows"]
fn endlessly_growing_child() {
    let Some(path) = store_of_child() else { return };
    say_ready("");
    loop {
        let store = create(&path, 8);
        for _ in 0..600 {
            if store.allocate(None, "", 0).is_err() {
                break;
            }
        }
    }
}

/// A store that grows or is made anew is there, or is not there for a moment, but never looks damaged.
#[test]
fn opening_while_it_grows() {
    let folder = Folder::new("opening");
    let path = folder.join("metrics.shm");
    let mut process = Process::start("race::endlessly_growing_child", &path);
    process.ready();
    let begin = Instant::now();
    let mut opened = 0;
    while begin.elapsed() < Duration::from_millis(soak(20_000, 700)) {
        match reader(&path, opened % 2 == 0) {
            Ok(store) => {
                store.count().unwrap();
                opened += 1;
            }
            Err(error) => assert_eq!(error.status(), -libc::ENOENT, "{error}"),
        }
    }
    process.kill();
    assert!(opened > 0);
}
