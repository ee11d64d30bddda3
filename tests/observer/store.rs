//! Stores: segments that are taken, described, read, given back and taken over, and files that change under a reader.

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shmhot::observer::*;
use shmhot::status::Failure;

use crate::support::*;

/// The original's own.
fn requests() -> Arc<Schema> {
    schema(
        Layout::Packed,
        &["connections_active u32", "connections_total u64", "requests_active u32", "requests_total u64"],
    )
}

#[test]
fn a_new_store() {
    let folder = Folder::new("new");
    let path = folder.join("metrics.shm");
    let store = Store::create(&path, StoreOptions { mode: 0o640, ..StoreOptions::default() }).unwrap();
    assert_eq!(folder.names(), ["metrics.shm", "metrics.shm.sidecar"]);
    assert_eq!((store.segment_size().unwrap(), store.count().unwrap()), (512, 64));
    assert!(fs::read(&path).unwrap() == vec![0; 8 * 4096]);
    for path in [&path, &sidecar_of(&path)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o640);
    }
    assert_eq!(taken(&store).unwrap(), [0; 0]);
    expect(store.worker(0), libc::ENOENT);
    expect(values(&store, 64), libc::ENOENT);
    expect(store.schema(u32::MAX), libc::ENOENT);
    expect(store.free(0), libc::ENOENT);
    expect(store.describe(0, &requests(), "", 0), libc::ENOENT);
    assert_eq!(store.sum(None, "requests_total").unwrap(), (Value::Unsigned(0), 0));
    assert_eq!(store.reap().unwrap(), 0);
    assert_eq!(store.next(u32::MAX).unwrap(), None);
}

#[test]
fn a_segment_from_begin_to_end() {
    let folder = Folder::new("life");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let mut fields = Schema::new(Layout::Packed);
    fields.add(Field { help: "So far.".into(), kind: Kind::Counter, ..Field::new("total", kind("u64")) }).unwrap();
    fields.add(Field { unit: "ratio".into(), kind: Kind::Gauge, ..Field::new("löad", kind("F32")) }).unwrap();
    let fields = Arc::new(fields);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    store.allocate(Some(&requests()), "other", 0).unwrap();
    let segment = store.allocate(Some(&fields), "wörker \"1\"", 0).unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    assert_eq!(segment, 1);
    let worker = observer(&fields, &path, segment);
    worker.set(0, Value::Unsigned(42)).unwrap();
    worker.set(1, Value::Float(-0.5)).unwrap();

    for store in BOTH.map(|checked| reader(&path, checked).unwrap()) {
        assert_eq!(taken(&store).unwrap(), [0, 1]);
        let seen = store.worker(segment).unwrap();
        assert!(before <= seen.since_ns && seen.since_ns <= after);
        let expected = Worker {
            segment,
            offset: 512,
            state: WorkerState::Alive,
            pid: std::process::id(),
            since_ns: seen.since_ns,
            service: "wörker \"1\"".into(),
            fields: 2,
        };
        assert_eq!(seen, expected);
        let described = store.schema(segment).unwrap();
        assert_eq!(described.layout(), Layout::Packed);
        assert!(described.fields().eq(fields.fields()));
        assert_eq!(values(&store, segment).unwrap(), [Value::Unsigned(42), Value::Float(-0.5)]);
        expect(store.allocate(None, "", 0), libc::EACCES);
        expect(store.free(segment), libc::EACCES);
        expect(store.describe(segment, &fields, "", 0), libc::EACCES);
        expect(store.reap(), libc::EACCES);
    }

    store.free(segment).unwrap();
    assert_eq!(taken(&store).unwrap(), [0]);
    expect(values(&store, segment), libc::ENOENT);
    expect(store.free(segment), libc::ENOENT);
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0), "not zeroed");
}

#[test]
fn first_given_back_first_taken() {
    let folder = Folder::new("fifo");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let take = || store.allocate(None, "", 0).unwrap();
    let all: Vec<_> = (0..8).map(|_| take()).collect();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
    for segment in [5, 2, 7] {
        store.free(segment).unwrap();
    }
    assert_eq!([take(), take()], [5, 2]);
    for segment in [0, 5] {
        store.free(segment).unwrap();
    }
    assert_eq!([take(), take(), take()], [7, 0, 5]);
    assert_eq!([take(), store.count().unwrap()], [8, 16], "none was free");
}

#[test]
fn growing_under_others() {
    let folder = Folder::new("grow");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let early = BOTH.map(|checked| reader(&path, checked).unwrap());
    let first = store.allocate(Some(&requests()), "first", 0).unwrap();
    let worker = observer(&requests(), &path, first);
    for reader in &early {
        assert_eq!(values(reader, first).unwrap(), [Value::Unsigned(0); 4]);
    }
    for number in 1..100 {
        worker.set(3, Value::Unsigned(number)).unwrap();
        let segment = store.allocate(Some(&requests()), "more", 0).unwrap();
        assert_eq!(u64::from(segment), number);
        observer(&requests(), &path, segment).set(3, Value::Unsigned(number)).unwrap();
        for reader in &early {
            assert_eq!(values(reader, segment).unwrap()[3], Value::Unsigned(number));
            assert_eq!(values(reader, first).unwrap()[3], Value::Unsigned(number));
        }
    }
    for store in early.iter().chain([&store]) {
        let many = values_of_many(store, 1, 1000, 4);
        assert_eq!(many.len(), 127);
        for (at, values) in many.into_iter().enumerate() {
            match at {
                0..99 => assert_eq!(values.unwrap()[3], Value::Unsigned(at as u64 + 1)),
                _ => expect(values, libc::ENOENT),
            }
        }
        assert_eq!(values_of_many(store, 99, 1, 2)[0].as_ref().unwrap().len(), 2);
        assert_eq!((store.count().unwrap(), taken(store).unwrap().len()), (128, 100));
        assert_eq!(store.sum(Some("more"), "requests_total").unwrap(), (Value::Unsigned(99 * 50), 99));
        assert_eq!(store.sum(None, "requests_total").unwrap(), (Value::Unsigned(99 * 51), 100));
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 128 * 512);
}

#[test]
fn growing_on_request() {
    let folder = Folder::new("grow-more");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let readers = BOTH.map(|checked| reader(&path, checked).unwrap());
    let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
    observer(&requests(), &path, segment).set(3, Value::Unsigned(5)).unwrap();
    for (wanted, count) in [(0, 8), (8, 8), (9, 16), (100, 104), (50, 104)] {
        assert_eq!(store.grow(wanted).unwrap(), count, "whole pages");
        for reader in &readers {
            assert_eq!(reader.count().unwrap(), count);
            assert_eq!(values(reader, segment).unwrap()[3], Value::Unsigned(5));
            expect(reader.grow(200), libc::EACCES);
        }
    }
    for segment in 1..104 {
        assert_eq!(store.allocate(Some(&requests()), "web", 0).unwrap(), segment);
    }
    assert_eq!(readers[0].sum(None, "requests_total").unwrap(), (Value::Unsigned(5), 104));
}

#[test]
fn a_segment_that_is_described_later() {
    let folder = Folder::new("later");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let segment = store.allocate(None, "", 0).unwrap();
    let readers = BOTH.map(|checked| reader(&path, checked).unwrap());
    for reader in &readers {
        let worker = reader.worker(segment).unwrap();
        assert_eq!((worker.state, worker.fields, worker.service), (WorkerState::Undescribed, 0, String::new()));
        expect(values(reader, segment), libc::ENODATA);
        expect(reader.schema(segment), libc::ENODATA);
        assert_eq!(reader.sum(None, "requests_total").unwrap().1, 0);
    }
    let since_ns = store.worker(segment).unwrap().since_ns;
    observer(&requests(), &path, segment).set(3, Value::Unsigned(9)).unwrap();
    store.describe(segment, &requests(), "web", 0).unwrap();
    for reader in &readers {
        let worker = reader.worker(segment).unwrap();
        assert_eq!((worker.state, worker.fields, worker.service), (WorkerState::Alive, 4, "web".into()));
        assert_eq!(worker.since_ns, since_ns);
        assert_eq!(values(reader, segment).unwrap()[3], Value::Unsigned(9), "the numbers stay");
    }
    store.describe(segment, &schema(Layout::Packed, &["a U8"]), "other", 0).unwrap();
    for reader in &readers {
        assert_eq!(values(reader, segment).unwrap().len(), 1);
    }
}

#[test]
fn sums() {
    let folder = Folder::new("sum");
    let path = folder.join("metrics.shm");
    let store = create(&path, 16);
    let put = |service, fields: &[&str], value| {
        let schema = schema(Layout::Packed, fields);
        let segment = store.allocate(Some(&schema), service, 0).unwrap();
        observer(&schema, &path, segment).set(schema.index("n").unwrap() as u32, value).unwrap();
    };
    put("a", &["n u64"], Value::Unsigned(u64::MAX));
    put("a", &["x U8", "n S16"], Value::Signed(-5));
    assert_eq!(store.sum(Some("a"), "n").unwrap(), (Value::Unsigned(u64::MAX - 5), 2));
    put("b", &["n s32"], Value::Signed(-7));
    put("b", &["other s32", "n s32"], Value::Signed(-8));
    assert_eq!(store.sum(Some("b"), "n").unwrap(), (Value::Signed(-15), 2));
    put("c", &["n f64"], Value::Float(0.5));
    put("c", &["n u32"], Value::Unsigned(2));
    assert_eq!(store.sum(Some("c"), "n").unwrap(), (Value::Float(2.5), 2));
    put("a", &["n U64"], Value::Unsigned(u64::MAX));
    assert_eq!(store.sum(Some("a"), "n").unwrap(), (Value::Unsigned(u64::MAX), 3), "clamped");
    assert_eq!(store.sum(None, "x").unwrap(), (Value::Unsigned(0), 1));
    for (service, field) in [(Some("a"), "m"), (Some("d"), "n"), (Some(""), "n"), (None, "")] {
        assert_eq!(store.sum(service, field).unwrap(), (Value::Unsigned(0), 0));
    }
}

#[test]
fn what_is_no_segment_for_a_worker() {
    let folder = Folder::new("refuse");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let mut long = Schema::new(Layout::Packed);
    for number in 0..65 {
        long.add(Field::new(format!("f{number}"), kind("u64"))).unwrap();
    }
    expect(store.allocate(Some(&long), "", 0), libc::EINVAL);
    let mut wordy = Schema::new(Layout::Packed);
    wordy.add(Field { help: "x".repeat(4096), ..Field::new("f", kind("u64")) }).unwrap();
    expect(store.allocate(Some(&wordy), "", 0), libc::EMSGSIZE);
    expect(store.allocate(Some(&requests()), &"x".repeat(70_000), 0), libc::EMSGSIZE);
    expect(store.allocate(Some(&requests()), "", u32::MAX), libc::ESRCH);
    assert_eq!(taken(&store).unwrap(), [0; 0], "nothing was taken");

    let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
    observer(&requests(), &path, segment).set(3, Value::Unsigned(9)).unwrap();
    expect(store.describe(segment, &long, "", 0), libc::EINVAL);
    expect(store.describe(segment, &wordy, "", 0), libc::EMSGSIZE);
    expect(store.describe(segment, &requests(), "", u32::MAX), libc::ESRCH);
    assert_eq!(
        (store.worker(segment).unwrap().service.as_str(), values(&store, segment).unwrap()[3]),
        ("web", Value::Unsigned(9))
    );

    // As long as a segment is not too long.
    let mut exact = Schema::new(Layout::Packed);
    for number in 0..64 {
        exact.add(Field::new(format!("f{number}"), kind("u64"))).unwrap();
    }
    let exact = Arc::new(exact);
    let segment = store.allocate(Some(&exact), "", 0).unwrap();
    observer(&exact, &path, segment).set(63, Value::Unsigned(u64::MAX)).unwrap();
    assert_eq!(values(&store, segment).unwrap()[63], Value::Unsigned(u64::MAX));
    assert_eq!(values(&store, 0).unwrap()[3], Value::Unsigned(9));
}

#[test]
fn sizes() {
    let folder = Folder::new("sizes");
    let path = folder.join("metrics.shm");
    let create = |segment_size, segments| {
        Store::create(&path, StoreOptions { segment_size, segments, ..StoreOptions::default() })
    };
    for (segment_size, segments) in
        [(0, 1), (1, 0), ((1 << 20) + 1, 1), (1 << 20, 1025), (u32::MAX, u32::MAX), (1, u32::MAX), (1, 1 << 30)]
    {
        expect(create(segment_size, segments), libc::EINVAL);
    }
    assert_eq!(folder.names(), [""; 0]);

    // Any size will do, and each segment is apart from its neighbours.
    let byte = schema(Layout::Packed, &["a U8"]);
    for segment_size in [1, 3, 7, 100, 4095, 4097, 1 << 20] {
        let store = create(segment_size, 3).unwrap();
        assert!(store.count().unwrap() >= 3);
        assert_eq!(store.segment_size().unwrap(), segment_size as usize);
        for segment in 0..3 {
            assert_eq!(store.allocate(Some(&byte), "", 0).unwrap(), segment);
            let offset = store.worker(segment).unwrap().offset;
            let observer =
                Observer::open(byte.clone(), &path, segment_size as usize, offset, Options::default()).unwrap();
            observer.set(0, Value::Unsigned(u64::from(segment) + 1)).unwrap();
        }
        store.free(1).unwrap();
        assert_eq!(values(&store, 0).unwrap(), [Value::Unsigned(1)]);
        assert_eq!(values(&store, 2).unwrap(), [Value::Unsigned(3)]);
        assert_eq!(store.sum(None, "a").unwrap(), (Value::Unsigned(4), 2));
    }
}

#[test]
fn the_dead_are_shown_until_they_are_reaped() {
    let folder = Folder::new("dead");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let readers = BOTH.map(|checked| reader(&path, checked).unwrap());
    let own = store.allocate(Some(&requests()), "own", 0).unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| Process::start("store::worker_child", &path)).collect();
    let segments: Vec<u32> = workers.iter_mut().map(|worker| worker.ready().parse().unwrap()).collect();
    let silent = Process::start("store::silent_child", &path);
    let undescribed = store.allocate(None, "", silent.id()).unwrap();
    for (worker, segment) in workers.iter().zip(&segments) {
        let seen = store.worker(*segment).unwrap();
        assert_eq!((seen.state, seen.pid, seen.service.as_str()), (WorkerState::Alive, worker.id(), "web"));
    }
    assert_eq!(store.reap().unwrap(), 0);

    let survivor = workers.pop().unwrap();
    let pids: Vec<_> = workers.iter().map(Process::id).collect();
    workers.into_iter().for_each(Process::kill);
    silent.kill();
    for store in readers.iter().chain([&store]) {
        for (pid, segment) in pids.iter().zip(&segments) {
            let seen = store.worker(*segment).unwrap();
            assert_eq!((seen.state, seen.pid), (WorkerState::Dead, *pid));
            assert_eq!(values(store, *segment).unwrap()[3], Value::Unsigned(u64::from(*pid)), "its last number");
        }
        assert_eq!(store.worker(segments[2]).unwrap().state, WorkerState::Alive);
        assert_eq!(store.worker(undescribed).unwrap().state, WorkerState::Dead);
        assert_eq!(store.sum(Some("web"), "requests_total").unwrap().1, 3, "the dead count until they are reaped");
    }

    assert_eq!(store.reap().unwrap(), 3);
    assert_eq!(store.reap().unwrap(), 0);
    for store in readers.iter().chain([&store]) {
        assert_eq!(taken(store).unwrap(), [own, segments[2]]);
        let alive = Value::Unsigned(survivor.id().into());
        assert_eq!(store.sum(Some("web"), "requests_total").unwrap(), (alive, 1));
        expect(values(store, segments[0]), libc::ENOENT);
    }
    let bytes = fs::read(&path).unwrap();
    for segment in &segments[..2] {
        assert_eq!(bytes[*segment as usize * SEGMENT..][..SEGMENT], [0; SEGMENT]);
    }
}

#[test]
#[ignore = "a part of the_dead_are_shown_until_they_are_reaped"]
fn worker_child() {
    let Some(path) = store_of_child() else { return };
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
    let worker = observer(&requests(), &path, segment);
    worker.set(3, Value::Unsigned(std::process::id().into())).unwrap();
    say_ready(segment);
    sleep_for_good();
}

#[test]
#[ignore = "a part of the_dead_are_shown_until_they_are_reaped"]
fn silent_child() {
    if store_of_child().is_some() {
        sleep_for_good();
    }
}

#[test]
fn made_anew_under_others() {
    let folder = Folder::new("anew");
    let path = folder.join("metrics.shm");
    let old = create(&path, 8);
    let segment = old.allocate(Some(&requests()), "old", 0).unwrap();
    observer(&requests(), &path, segment).set(3, Value::Unsigned(1)).unwrap();
    let readers = BOTH.map(|checked| reader(&path, checked).unwrap());
    for reader in &readers {
        assert_eq!(values(reader, segment).unwrap()[3], Value::Unsigned(1));
    }

    let new = Store::create(&path, StoreOptions { segment_size: 64, ..StoreOptions::default() }).unwrap();
    for reader in readers.iter().chain([&old]) {
        assert_eq!(values(reader, segment).unwrap()[3], Value::Unsigned(1), "who has it open keeps it");
        assert_eq!(reader.segment_size().unwrap(), 512);
    }
    let segments = [(); 2].map(|()| new.allocate(Some(&requests()), "new", 0).unwrap());
    for reader in readers.iter().chain([&old]) {
        reader.reopen().unwrap();
        assert_eq!(reader.segment_size().unwrap(), 64);
        assert_eq!(taken(reader).unwrap(), segments);
        assert_eq!(values(reader, segments[1]).unwrap(), [Value::Unsigned(0); 4]);
    }
    assert_eq!(old.allocate(None, "", 0).unwrap(), 2, "it can be changed through an old handle");

    // What cannot be opened changes nothing.
    fs::rename(sidecar_of(&path), folder.join("hidden")).unwrap();
    for reader in readers.iter().chain([&new]) {
        expect(reader.reopen(), libc::ENOENT);
        assert_eq!(taken(reader).unwrap(), [0, 1, 2]);
    }
    fs::rename(folder.join("hidden"), sidecar_of(&path)).unwrap();
    readers.iter().for_each(|reader| reader.reopen().unwrap());

    // A sidecar goes with its file and with no other.
    fs::copy(&path, folder.join("copy")).unwrap();
    fs::rename(folder.join("copy"), &path).unwrap();
    for checked in BOTH {
        expect(reader(&path, checked), libc::EPROTO);
    }
}

#[test]
fn removed_under_others() {
    let folder = Folder::new("removed");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let readers = BOTH.map(|checked| reader(&path, checked).unwrap());
    let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
    let worker = observer(&requests(), &path, segment);
    fs::remove_file(&path).unwrap();
    fs::remove_file(sidecar_of(&path)).unwrap();
    worker.set(3, Value::Unsigned(8)).unwrap();
    for reader in &readers {
        assert_eq!(values(reader, segment).unwrap()[3], Value::Unsigned(8));
        expect(reader.reopen(), libc::ENOENT);
    }
}

/// Every call of a checked reader; those that need what is missing fail with -EPROTO or find nothing.
fn read_all(reader: &Store) {
    for segment in 0..9 {
        let answers = [
            values(reader, segment).map(|_| ()),
            reader.worker(segment).map(|_| ()),
            reader.schema(segment).map(|_| ()),
            reader.next(segment).map(|_| ()),
        ];
        for answer in answers {
            let status = answer.map_err(|error| error.status()).err();
            assert!(matches!(status, None | Some(-71) | Some(-2)), "{status:?}"); // EPROTO, ENOENT
        }
    }
    let _ = reader.sum(None, "requests_total").map_err(|error| assert_eq!(error.status(), -libc::EPROTO));
    let text = reader.exposition(Format::Prometheus);
    let _ = text.map_err(|error| assert_eq!(error.status(), -libc::EPROTO));
}

#[test]
fn a_checked_reader_outlives_what_is_cut() {
    let folder = Folder::new("cut");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    for number in 0..8 {
        let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
        observer(&requests(), &path, segment).set(3, Value::Unsigned(number)).unwrap();
    }
    drop(store); // its mapping would not outlive it
    let reader = reader(&path, true).unwrap();
    // What the numbers of the first segment take, and what its description does.
    for (path, needed) in [(path.clone(), 24), (sidecar_of(&path), 2 * 4096)] {
        let whole = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for len in [whole.len() - 1, 4096 * 3 + 5, 4097, 4096, 4095, 7 * 512 + 23, 7 * 512, 512, 511, 24, 23, 1, 0] {
            file.set_len(len.min(whole.len()) as u64).unwrap();
            read_all(&reader);
            if len < needed {
                expect(values(&reader, 0), libc::EPROTO);
            }
            if len < 7 * 512 + 24 {
                expect(values(&reader, 7), libc::EPROTO);
            }
            file.write_all_at(&whole, 0).unwrap();
            assert_eq!(values(&reader, 7).unwrap()[3], Value::Unsigned(7), "mended");
            assert_eq!(reader.sum(None, "requests_total").unwrap(), (Value::Unsigned(28), 8));
        }
    }
}

#[test]
fn a_store_that_somebody_else_changes() {
    let folder = Folder::new("busy");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let segment = store.allocate(Some(&requests()), "", 0).unwrap();
    let lock = File::create(folder.join(".metrics.shm.lock")).unwrap();
    // SAFETY: a descriptor that is open.
    done(unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&lock), libc::LOCK_EX) });
    expect(store.allocate(None, "", 0), libc::EBUSY);
    assert!(values(&store, segment).is_ok(), "readers do not wait");
    drop(lock);
    store.free(segment).unwrap();
    assert_eq!(folder.names(), ["metrics.shm", "metrics.shm.sidecar"]);
}

#[test]
fn what_cannot_be_opened() {
    let folder = Folder::new("kinds");
    let path = folder.join("metrics.shm");
    for checked in BOTH {
        expect(reader(&path, checked), libc::ENOENT);
    }
    let create = |path: &Path| Store::create(path, StoreOptions::default());
    expect(create(&folder.join("none/metrics.shm")), libc::ENOENT);
    fs::create_dir(&path).unwrap();
    expect(create(&path), libc::EISDIR);
    for checked in BOTH {
        expect(reader(&path, checked), libc::ENOENT);
    }
    fs::remove_dir(&path).unwrap();

    // A data file alone is none, nor is a sidecar alone.
    create(&path).unwrap();
    fs::rename(&path, folder.join("data")).unwrap();
    for checked in BOTH {
        expect(reader(&path, checked), libc::ENOENT);
    }

    // A link is replaced, and what it leads to stays.
    fs::write(folder.join("precious"), "precious").unwrap();
    std::os::unix::fs::symlink(folder.join("precious"), &path).unwrap();
    create(&path).unwrap();
    assert_eq!(fs::read(folder.join("precious")).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}

#[test]
fn without_permission() {
    in_child("store::without_permission_child");
}

#[test]
#[ignore = "a part of without_permission"]
fn without_permission_child() {
    let folder = Folder::new("permission");
    let path = folder.join("metrics.shm");
    let options = StoreOptions { mode: 0o644, ..StoreOptions::default() };
    let segment = Store::create(&path, options).unwrap().allocate(Some(&requests()), "", 0).unwrap();
    let own = folder.join("own.shm");
    create(&own, 8);
    fs::set_permissions(folder.join(""), Permissions::from_mode(0o755)).unwrap();
    std::thread::spawn(move || {
        // Root may do everything, so this thread becomes nobody: the bare system call concerns no other thread.
        // SAFETY: changes nothing but the thread's user.
        if unsafe { libc::geteuid() } == 0 && unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) } != 0
        {
            println!("SKIP without permission: root here, and cannot be anybody else");
            return;
        }
        for checked in BOTH {
            assert_eq!(values(&reader(&path, checked).unwrap(), segment).unwrap().len(), 4);
            expect(reader(&own, checked), libc::EACCES);
        }
        expect(Store::open(&path, StoreOptions::default()), libc::EACCES);
        expect(Store::create(&path, StoreOptions::default()), libc::EACCES);
        assert!(path.exists() && sidecar_of(&path).exists());
    })
    .join()
    .unwrap();
}

#[test]
fn a_full_disk() {
    in_child("store::full_disk_child");
}

#[test]
#[ignore = "a part of a_full_disk"]
fn full_disk_child() {
    let folder = Folder::new("full");
    let Some(_mount) = Mount::of_pages(&folder.join(""), 16) else {
        println!("SKIP a full disk: no file system of our own is to be had");
        return;
    };
    let path = folder.join("metrics.shm");
    expect(Store::create(&path, StoreOptions::default()).map(drop), libc::ENOSPC); // 8 pages, and 65
    expect(reader(&path, false), libc::ENOENT);
    let store = create(&path, 8); // 1 page, and 9
    for number in 0..8 {
        let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
        observer(&requests(), &path, segment).set(3, Value::Unsigned(number)).unwrap();
    }
    for _ in 0..3 {
        expect(store.allocate(Some(&requests()), "web", 0), libc::ENOSPC);
        assert_eq!(store.count().unwrap(), 8);
        let late = reader(&path, false).unwrap();
        assert_eq!(late.sum(None, "requests_total").unwrap(), (Value::Unsigned(28), 8), "all is as before");
    }
    expect(store.grow(9), libc::ENOSPC);
    expect(store.grow(u32::MAX), libc::ENOSPC);
    store.free(3).unwrap();
    assert_eq!(store.allocate(Some(&requests()), "web", 0).unwrap(), 3);

    // A file with a hole, which can no longer be filled.
    let sparse = folder.join("sparse");
    File::create(&sparse).unwrap().set_len(1 << 20).unwrap();
    let mut filler = File::create(folder.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let open = |options| Observer::open(requests(), &sparse, 512, 4096 * 5 + 3, options);
    expect(open(Options::default()), libc::ENOSPC);
    assert!(open(Options { read_only: true, ..Options::default() }).is_ok());
}

/// A file system of a few pages, which only this process sees.
struct Mount(CString);

impl Mount {
    fn of_pages(folder: &Path, pages: usize) -> Option<Self> {
        let folder = CString::new(folder.as_os_str().as_bytes()).unwrap();
        let size = CString::new(format!("size={}k", 4 * pages)).unwrap();
        let mount = |source: &CStr, target: &CStr, kind: &CStr, flags, data: &CStr| {
            // SAFETY: C strings, which stay for the call; the last one is what tmpfs takes.
            unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) == 0 }
        };
        // SAFETY: gives the calling thread, which is the one that goes on, mounts of its own.
        let mounted = unsafe { libc::unshare(libc::CLONE_NEWNS) == 0 }
            && mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")
            && mount(c"tmpfs", &folder, c"tmpfs", 0, &size);
        mounted.then_some(Self(folder))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: a C string, which stays for the call.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn after_a_fork() {
    in_child("store::after_a_fork_child");
}

#[test]
#[ignore = "a part of after_a_fork"]
fn after_a_fork_child() {
    let folder = Folder::new("store-fork");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
    // SAFETY: the child only uses the store, opens it for itself, and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let refused = is_refused(store.allocate(None, "", 0))
                && is_refused(store.free(segment))
                && is_refused(store.reap())
                && is_refused(store.grow(100))
                && is_refused(values(&store, segment))
                && is_refused(store.count())
                && is_refused(store.reopen());
            let own = Store::open(&path, StoreOptions::default()).is_ok_and(|own| {
                own.worker(segment).is_ok_and(|worker| worker.state == WorkerState::Alive)
                    && own.allocate(None, "", 0).is_ok()
            });
            // SAFETY: ends the child without what belongs to the parent.
            unsafe { libc::_exit(i32::from(!refused) | i32::from(!own) << 1) }
        }
        child => {
            done(child);
            let mut status = 0;
            // SAFETY: our own child, and room for its status.
            done(unsafe { libc::waitpid(child, &mut status, 0) });
            assert_eq!(status, 0, "1: it used its parent's store, 2: it could not open its own");
            assert_eq!(taken(&store).unwrap(), [0, 1]);
            assert_eq!(store.reap().unwrap(), 1);
        }
    }
}

#[test]
fn threads_on_one_store() {
    let folder = Folder::new("store-threads");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let mut segments: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    for round in 0..100 {
                        let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
                        let worker = observer(&requests(), &path, segment);
                        assert_eq!(worker.get(3).unwrap(), Value::Unsigned(0));
                        worker.set(3, Value::Unsigned(u64::from(segment) + 1)).unwrap();
                        assert_eq!(values(&store, segment).unwrap()[3], Value::Unsigned(u64::from(segment) + 1));
                        if round % 10 == 0 {
                            mine.push(segment);
                        } else {
                            store.free(segment).unwrap();
                        }
                    }
                    mine
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    segments.sort();
    assert_eq!(taken(&store).unwrap(), segments);
    let sum = segments.iter().map(|segment| u64::from(*segment) + 1).sum();
    assert_eq!(store.sum(None, "requests_total").unwrap(), (Value::Unsigned(sum), 80));
}

#[test]
fn nothing_leaks() {
    in_child("store::leaks_child");
}

#[test]
#[ignore = "a part of nothing_leaks"]
fn leaks_child() {
    let folder = Folder::new("leaks");
    let path = folder.join("metrics.shm");
    let before = holdings();
    for round in 0..500 {
        let store = create(&path, 8);
        for _ in 0..12 {
            let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
            observer(&requests(), &path, segment).set(3, Value::Unsigned(1)).unwrap();
        }
        let reader = reader(&path, round % 2 == 0).unwrap();
        assert_eq!(reader.sum(None, "requests_total").unwrap(), (Value::Unsigned(12), 12));
        reader.reopen().unwrap();
        assert!(Store::open(&folder.join("none"), StoreOptions::default()).is_err());
    }
    assert_eq!(holdings(), before, "descriptors, mappings");
}

#[test]
fn descriptors_end_with_exec() {
    let folder = Folder::new("exec");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let segment = store.allocate(Some(&requests()), "", 0).unwrap();
    let _handles = (observer(&requests(), &path, segment), reader(&path, true).unwrap());
    let listing = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&listing.stdout).contains("shmhot-test-exec"));
}

#[test]
fn a_reader_waits_with_an_end() {
    let folder = Folder::new("odd");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let segment = store.allocate(Some(&requests()), "web", 0).unwrap();
    let free = store.allocate(None, "", 0).unwrap();
    store.free(free).unwrap();
    let sidecar = OpenOptions::new().read(true).write(true).open(sidecar_of(&path)).unwrap();
    let sequence = |segment: u32| {
        let at = 4096 * (1 + u64::from(segment)) + 4;
        let mut bytes = [0; 4];
        sidecar.read_exact_at(&mut bytes, at).unwrap();
        (at, u32::from_le_bytes(bytes))
    };
    // As somebody leaves it who dies in the middle of a change.
    for segment in [segment, free] {
        let (at, even) = sequence(segment);
        sidecar.write_all_at(&(even + 1).to_le_bytes(), at).unwrap();
    }
    for checked in BOTH {
        let reader = reader(&path, checked).unwrap();
        let begin = Instant::now();
        expect(values(&reader, segment), libc::ETIMEDOUT);
        expect(reader.worker(segment), libc::ETIMEDOUT);
        assert!(begin.elapsed() >= Duration::from_millis(200) && begin.elapsed() < PATIENCE);
        assert_eq!(reader.sum(None, "requests_total").unwrap().1, 0);
        assert!(!reader.exposition(Format::Prometheus).unwrap().contains("requests"));
    }
    // Nothing that was taken is given to another; what was free can be taken, and a description mends. Whoever changes
    // the store is alone, and has nothing to wait for.
    let begin = Instant::now();
    let all: Vec<_> = (0..7).map(|_| store.allocate(None, "", 0).unwrap()).collect();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(!all.contains(&segment) && all.contains(&free), "{all:?}");
    store.describe(segment, &requests(), "web", 0).unwrap();
    assert_eq!(values(&store, segment).unwrap().len(), 4);
    let (at, even) = sequence(segment);
    sidecar.write_all_at(&(even + 1).to_le_bytes(), at).unwrap();
    store.free(segment).unwrap();
    expect(store.worker(segment), libc::ENOENT);
}
