//! Files that are cut, changed, or noise: an error that says so, or the numbers as they were; never a crash, never a
//! wait without end, and nothing of a damaged description.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use shmhot::observer::*;
use shmhot::status::Failure;

use crate::support::*;

const PAGE: u64 = 4096;
const SEGMENTS: u32 = 8;

/// A store in which segments 0 and 1 are taken, 2 was, and the rest never were; and its files, to corrupt them.
struct Victim {
    path: PathBuf,
    files: [(File, Vec<u8>); 2],
    _folder: Folder,
}

fn worker_schema() -> Arc<Schema> {
    let mut schema = Schema::new(Layout::Aligned);
    for (name, r#type) in [("requests_total", "u64"), ("load", "F32"), ("active", "u16")] {
        let help = "What it counts.".into();
        schema.add(Field { help, unit: "ratio".into(), kind: Kind::Gauge, ..Field::new(name, kind(r#type)) }).unwrap();
    }
    Arc::new(schema)
}

impl Victim {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let path = folder.join("metrics.shm");
        let store = create(&path, SEGMENTS);
        for number in 0..3 {
            let segment = store.allocate(Some(&worker_schema()), "web", 0).unwrap();
            let worker = observer(&worker_schema(), &path, segment);
            worker.set(0, Value::Unsigned(1000 + number)).unwrap();
            worker.set(1, Value::Float(0.5)).unwrap();
            worker.set(2, Value::Unsigned(number)).unwrap();
        }
        store.free(2).unwrap();
        let files = [path.clone(), sidecar_of(&path)].map(|path| {
            let bytes = fs::read(&path).unwrap();
            (OpenOptions::new().write(true).open(path).unwrap(), bytes)
        });
        Self { path, files, _folder: folder }
    }

    fn sidecar(&self) -> (&File, &[u8]) {
        (&self.files[1].0, &self.files[1].1)
    }

    fn mend(&self) {
        for (file, bytes) in &self.files {
            file.set_len(bytes.len() as u64).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
    }

    fn open(&self, checked: bool) -> Result<Store> {
        reader(&self.path, checked)
    }
}

fn sound(segment: u32) -> [Value; 3] {
    let number = u64::from(segment);
    [Value::Unsigned(1000 + number), Value::Float(0.5), Value::Unsigned(number)]
}

/// That a segment tells what it did, or nothing.
#[track_caller]
fn sound_or_refused(store: &Store, segment: u32) -> bool {
    match (store.worker(segment), values(store, segment), store.schema(segment)) {
        (Ok(worker), Ok(values), Ok(schema)) => {
            assert_eq!((worker.service.as_str(), worker.pid, worker.fields), ("web", std::process::id(), 3));
            assert_eq!(values, sound(segment));
            assert!(schema.fields().eq(worker_schema().fields()));
            true
        }
        (Err(worker), Err(values), Err(schema)) => {
            for error in [worker, values, schema] {
                assert_eq!(error.status(), -libc::EPROTO, "{error}");
                assert!(error.to_string().len() > 10, "{error}");
            }
            false
        }
        (worker, values, schema) => panic!("{worker:?}, {values:?}, {schema:?}"),
    }
}

/// Everything that can be asked of a store, whatever it answers.
fn ask_everything(store: &Store) {
    let count = store.count().unwrap_or(0).min(1000);
    for segment in (0..count).chain([count, count + 1, u32::MAX]) {
        let _ = (store.worker(segment), values(store, segment), store.schema(segment), store.next(segment));
    }
    let _ = (taken(store), store.sum(None, "requests_total"), store.segment_size());
    let _ = (store.exposition(Format::Prometheus), store.exposition(Format::OpenMetrics), store.reopen());
}

/// Interesting lengths of a file: each of the first 128 bytes, then around the begin of every page and segment.
fn lengths(whole: u64) -> impl Iterator<Item = u64> {
    let around = |at: u64| [at.saturating_sub(1), at, at + 1];
    (0..128).chain((1..=whole / 512).flat_map(move |segment| around(segment * 512))).filter(move |len| *len < whole)
}

#[test]
fn the_sidecar_is_cut() {
    let victim = Victim::new("cut-sidecar");
    let (file, bytes) = victim.sidecar();
    let early = victim.open(true).unwrap();
    for len in lengths(bytes.len() as u64) {
        file.set_len(len).unwrap();
        for checked in BOTH {
            expect(victim.open(checked), libc::EPROTO);
        }
        expect(early.reopen(), libc::EPROTO);
        for segment in 0..2 {
            assert_eq!(sound_or_refused(&early, segment), len >= (2 + u64::from(segment)) * PAGE, "{len}");
        }
        ask_everything(&early);
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
    assert!(sound_or_refused(&early, 0) && sound_or_refused(&early, 1));
}

#[test]
fn the_data_file_is_cut() {
    let victim = Victim::new("cut-data");
    let (file, bytes) = &victim.files[0];
    let early = victim.open(true).unwrap();
    let size = worker_schema().size() as u64;
    for len in lengths(bytes.len() as u64) {
        file.set_len(len).unwrap();
        for segment in 0..2 {
            match values(&early, segment) {
                Ok(values) => assert!(len >= u64::from(segment) * 512 + size && values == sound(segment)),
                Err(error) => assert!(len < u64::from(segment) * 512 + size && error.status() == -libc::EPROTO),
            }
        }
        ask_everything(&early);
        for checked in BOTH {
            match victim.open(checked) {
                Ok(store) => {
                    assert_eq!(u64::from(store.count().unwrap()), len / 512);
                    assert_eq!(values(&store, 0).unwrap(), sound(0));
                    assert!(len >= 512 + size || values(&store, 1).is_err());
                    ask_everything(&store);
                }
                Err(error) => assert!(len < 512 && error.status() == -libc::EPROTO, "{len}: {error}"),
            }
        }
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

#[test]
fn every_bit_of_the_header() {
    let victim = Victim::new("header");
    let (file, bytes) = victim.sidecar();
    for at in 0..32 {
        for bit in 0..8 {
            file.write_all_at(&[bytes[at] ^ 1 << bit], at as u64).unwrap();
            for checked in BOTH {
                expect(victim.open(checked), libc::EPROTO);
            }
        }
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert!(sound_or_refused(&victim.open(true).unwrap(), 0));
}

#[test]
fn every_byte_of_a_description() {
    let victim = Victim::new("record");
    let (file, bytes) = victim.sidecar();
    let early = BOTH.map(|checked| victim.open(checked).unwrap());
    for at in 0..PAGE as usize {
        let in_file = PAGE + at as u64;
        let change = |changed: u8, is_sound: bool| {
            file.write_all_at(&[changed], in_file).unwrap();
            for store in BOTH.map(|checked| victim.open(checked).unwrap()) {
                assert_eq!(sound_or_refused(&store, 0), is_sound, "{changed:#x} at {at}");
                assert!(sound_or_refused(&store, 1), "its neighbour, with {changed:#x} at {at}");
            }
        };
        let sound = bytes[PAGE as usize + at];
        match at {
            4 => change(sound ^ 2, true), // the sequence number; one that is odd is looked at elsewhere
            5..8 => change(!sound, true),
            0..128 => (0..8).for_each(|bit| change(sound ^ 1 << bit, false)),
            _ => change(sound ^ 1 << (at % 8), false),
        }
        file.write_all_at(&[sound], in_file).unwrap();
    }
    // Who has read the description before goes on with it as long as it is not said to be another.
    for store in &early {
        assert!(sound_or_refused(store, 0));
    }
}

#[test]
fn a_description_is_damaged_and_mended() {
    let victim = Victim::new("mended");
    let (file, bytes) = victim.sidecar();
    let at = PAGE + 0x40;
    file.write_all_at(&[!bytes[at as usize]], at).unwrap();
    let store = Store::open(&victim.path, StoreOptions::default()).unwrap();
    expect(store.worker(0), libc::EPROTO);
    assert_eq!(taken(&store).unwrap(), [0, 1], "it stays taken");
    assert_eq!(store.sum(None, "requests_total").unwrap(), (Value::Unsigned(1001), 1));
    assert!(!store.exposition(Format::Prometheus).unwrap().contains("segment=\"0\""));
    assert_eq!(store.reap().unwrap(), 0, "nobody knows whether its worker has ended");
    let all: Vec<_> = (0..SEGMENTS).map(|_| store.allocate(None, "", 0).unwrap()).collect();
    assert!(!all.contains(&0) && !all.contains(&1), "{all:?}");
    store.describe(0, &worker_schema(), "web", 0).unwrap();
    assert!(sound_or_refused(&store, 0));

    file.write_all_at(&[!bytes[at as usize]], at).unwrap();
    let store = Store::open(&victim.path, StoreOptions::default()).unwrap();
    expect(store.worker(0), libc::EPROTO);
    store.free(0).unwrap();
    expect(store.worker(0), libc::ENOENT);
    let free = store.count().unwrap() - taken(&store).unwrap().len() as u32;
    assert!((0..free).any(|_| store.allocate(None, "", 0).unwrap() == 0), "it can be taken again");
}

/// Puts the checksum over a page of a segment, which leaves out the sequence number, or over the words of the header.
fn seal(page: &mut [u8], has_sequence: bool) {
    let mut covered = page.to_vec();
    covered[12..16].fill(0);
    if has_sequence {
        covered[4..8].fill(0);
    }
    page[12..16].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
}

/// What its checksum confirms may still be wrong: written by a mistake, or by an enemy.
#[test]
fn lies_with_a_checksum() {
    let victim = Victim::new("lies");
    let (file, bytes) = victim.sidecar();
    let sound_page = &bytes[PAGE as usize..2 * PAGE as usize];
    let forge = |change: &mut dyn FnMut(&mut [u8])| {
        let mut page = sound_page.to_vec();
        change(&mut page);
        seal(&mut page, true);
        file.write_all_at(&page, PAGE).unwrap();
        BOTH.map(|checked| victim.open(checked).unwrap())
    };
    for store in forge(&mut |_| ()) {
        assert!(sound_or_refused(&store, 0), "the checksum is not that of the library");
    }
    let text = 0x38; // layout, number of fields, service; the first field
    let first = text + 1 + 2 + 2 + "web".len();
    let lies: [(&str, usize, &[u8]); 11] = [
        ("a state that is none", 0, &[2]),
        ("a description beyond the page", 8, &(PAGE as u32).to_le_bytes()),
        ("the longest description", 8, &u32::MAX.to_le_bytes()),
        ("a shorter description", 8, &[20, 0, 0, 0]),
        ("a layout that is none", text, &[2]),
        ("more fields", text + 1, &[4, 0]),
        ("fewer fields", text + 1, &[2, 0]),
        ("a service beyond the description", text + 3, &[0xff, 0xff]),
        ("a service that is no text", text + 5, &[0xff]),
        ("a type that is none", first, &[19]),
        ("a field beyond the segment", first + 2, &[0, 2, 0, 0]),
    ];
    for (lie, at, changed) in lies {
        for store in forge(&mut |page| page[at..at + changed.len()].copy_from_slice(changed)) {
            assert!(!sound_or_refused(&store, 0), "{lie}");
            assert!(sound_or_refused(&store, 1), "{lie}");
        }
    }
    let mut random = Random(3);
    for _ in 0..soak(20_000, 300) {
        let stores = forge(&mut |page| {
            for _ in 0..=random.below(3) {
                let at = text + random.below(150) as usize;
                page[at] = random.next() as u8;
            }
        });
        stores.iter().for_each(ask_everything);
    }

    // The same of the header: sizes of segments with which the file would have fewer of them, or more than are told of.
    victim.mend();
    for size in [0, 1, 3, 511, 513, 4096, 4097, 1 << 31, u32::MAX] {
        let mut header = bytes[..32].to_vec();
        header[8..12].copy_from_slice(&u32::to_le_bytes(size));
        seal(&mut header, false);
        file.write_all_at(&header, 0).unwrap();
        for checked in BOTH {
            match victim.open(checked) {
                Ok(store) => {
                    assert!((511..=4096).contains(&size), "{size}");
                    ask_everything(&store);
                }
                Err(error) => {
                    assert!(error.status() == -libc::EPROTO && !(512..=4096).contains(&size), "{size}: {error}")
                }
            }
        }
    }
}

/// Whatever stands in the pages of segments, it must not be believed, and asking comes to an end.
#[test]
fn noise() {
    let victim = Victim::new("noise");
    let mut random = Random(1);
    let begin = Instant::now();
    for round in 0..soak(2000, 60) {
        for (file, bytes) in &victim.files {
            let header = if bytes.len() as u64 > PAGE { PAGE as usize } else { 0 };
            let mut noise = bytes.clone();
            match round % 3 {
                0 => noise[header..].fill_with(|| random.next() as u8),
                1 => (0..64).for_each(|_| {
                    let at = header + random.below((noise.len() - header) as u64) as usize;
                    noise[at] = random.next() as u8;
                }),
                _ => noise.fill_with(|| random.next() as u8),
            }
            // An odd sequence number is a wait of 100 ms, which other tests look at.
            (header..noise.len()).step_by(PAGE as usize).for_each(|page| noise[page + 4] &= 0xfe);
            file.write_all_at(&noise, 0).unwrap();
        }
        for checked in BOTH {
            match victim.open(checked) {
                Ok(store) => ask_everything(&store),
                Err(error) => assert!(round % 3 == 2 && error.status() == -libc::EPROTO, "{error}"),
            }
        }
        victim.mend();
    }
    assert!(begin.elapsed() < PATIENCE * 10);
    assert!(sound_or_refused(&victim.open(false).unwrap(), 1));
}

/// Numbers are any bytes: no content of the data file is an error.
#[test]
fn any_numbers() {
    let victim = Victim::new("numbers");
    let mut random = Random(2);
    let (file, bytes) = &victim.files[0];
    let stores = BOTH.map(|checked| victim.open(checked).unwrap());
    for _ in 0..100 {
        let mut noise = bytes.clone();
        noise.fill_with(|| random.next() as u8);
        file.write_all_at(&noise, 0).unwrap();
        for store in &stores {
            let [Value::Unsigned(total), Value::Float(load), Value::Unsigned(active)] = values(store, 0).unwrap()[..]
            else {
                panic!("other types")
            };
            assert_eq!(total.to_le_bytes(), noise[..8]);
            assert!((load as f32).to_be_bytes() == noise[8..12] || load.is_nan());
            assert_eq!((active as u16).to_le_bytes(), noise[12..14]);
            store.exposition(Format::OpenMetrics).unwrap();
        }
    }
}

/// A file of another program, or of a version to come.
#[test]
fn other_sidecars() {
    let victim = Victim::new("other");
    let (file, bytes) = victim.sidecar();
    for (at, changed, says) in [(0, *b"VCLK", "SHOB"), (4, [2, 0, 0, 0], "version 2"), (8, [0; 4], "damaged")] {
        file.write_all_at(&changed, at).unwrap();
        for checked in BOTH {
            let error = victim.open(checked).unwrap_err();
            assert_eq!(error.status(), -libc::EPROTO);
            assert!(error.to_string().contains(says) && error.to_string().contains("metrics.shm.sidecar"), "{error}");
        }
        file.write_all_at(bytes, 0).unwrap();
    }
}
