//! Schemas and stores, folders to put them in, and processes that use them.

use std::fmt::Debug;
use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::common::*;
use shmhot::observer::*;
use shmhot::status::Failure;

pub fn kind(name: &str) -> Type {
    Type::from_name(name).unwrap_or_else(|| panic!("no type {name}"))
}

/// A schema of fields "name type".
pub fn schema(layout: Layout, fields: &[&str]) -> Arc<Schema> {
    let mut schema = Schema::new(layout);
    for field in fields {
        let (name, r#type) = field.split_once(' ').expect("a name and a type");
        schema.add(Field::new(name, kind(r#type))).expect("a field");
    }
    Arc::new(schema)
}

/// Where the sidecar of a store is.
pub fn sidecar_of(path: &Path) -> PathBuf {
    path.with_extension("shm.sidecar")
}

pub const SEGMENT: usize = 512;

pub fn create(path: &Path, segments: u32) -> Store {
    Store::create(path, StoreOptions { segments, ..StoreOptions::default() }).expect("a new store")
}

pub const BOTH: [bool; 2] = [false, true];

pub fn reader(path: &Path, checked: bool) -> Result<Store> {
    Store::open(path, StoreOptions { read_only: true, checked, ..StoreOptions::default() })
}

/// A segment of a store, to be written to.
pub fn observer(schema: &Arc<Schema>, path: &Path, segment: u32) -> Observer {
    Observer::open(schema.clone(), path, SEGMENT, u64::from(segment) * SEGMENT as u64, Options::default())
        .expect("a segment")
}

/// All that a store tells of a segment.
pub fn values(store: &Store, segment: u32) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let count = store.read(segment, |index, value| {
        assert_eq!(index, values.len());
        values.push(value);
    })?;
    assert_eq!(count as usize, values.len());
    Ok(values)
}

/// The same for segments from `first` on, of `cap` fields at most.
pub fn values_of_many(store: &Store, first: u32, count: u32, cap: usize) -> Vec<Result<Vec<Value>>> {
    let mut values = vec![MaybeUninit::new(Value::Unsigned(0)); count as usize * cap];
    let mut told = Vec::new();
    let segments = store.read_many(first, count, cap, &mut values, |at, read| {
        assert_eq!(at, told.len());
        told.push(read);
    });
    assert_eq!(segments.expect("segments") as usize, told.len());
    // SAFETY: all were initialized above.
    let value = |at: usize| unsafe { values[at].assume_init() };
    let read = told.into_iter().enumerate();
    read.map(|(at, read)| {
        read.map(|fields| (0..cap.min(fields as usize)).map(|field| value(at * cap + field)).collect())
    })
    .collect()
}

/// The segments that are taken.
pub fn taken(store: &Store) -> Result<Vec<u32>> {
    let (mut segments, mut from) = (Vec::new(), 0);
    while let Some(segment) = store.next(from)? {
        segments.push(segment);
        from = segment + 1;
    }
    Ok(segments)
}

/// That a call fails with this errno, and says so in a sentence.
#[track_caller]
pub fn expect<T: Debug>(result: Result<T>, errno: i32) {
    match result {
        Ok(value) => panic!("{value:?} in place of errno {errno}"),
        Err(error) => {
            assert_eq!(error.status(), -errno, "{error}");
            assert!(error.to_string().len() > 10, "{error}");
        }
    }
}

/// What a fork refuses.
#[track_caller]
pub fn is_refused<T>(result: Result<T>) -> bool {
    result.is_err_and(|error| error.status() == shmhot::status::SHMHOT_EFORK)
}

/// Makes what it is given into a result of libc.
#[track_caller]
pub fn done(result: i32) {
    assert_ne!(result, -1, "{}", std::io::Error::last_os_error());
}

/// How one of the ignored tests of this program learns what store it is about.
const STORE: &str = "SHMHOT_TEST_STORE";

/// The store of a process that was started for it.
pub fn store_of_child() -> Option<PathBuf> {
    std::env::var_os(STORE).map(PathBuf::from)
}

/// A process that runs one of the ignored tests of this program with a store.
pub struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(test: &str, store: &Path) -> Self {
        let mut command = this_program(test);
        command.env(STORE, store).stdout(Stdio::piped());
        // SAFETY: prctl is a system call and nothing more; between fork and exec nothing else happens.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = command.spawn().expect("a process");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, out }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said "ready", and gives what it said behind that.
    pub fn ready(&mut self) -> String {
        let mut line = String::new();
        while !line.starts_with("ready") {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).expect("its output"), 0, "the process has ended");
        }
        line["ready".len()..].trim().into()
    }

    /// Kills it wherever it is.
    pub fn kill(mut self) {
        self.child.kill().expect("killing the process");
        let status = self.child.wait().expect("its end");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the process had ended by itself: {status}");
    }

    /// Waits for the end of a process that ends well by itself.
    #[track_caller]
    pub fn finish(mut self) {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("its end") {
                Some(status) => break status,
                None => assert!(begin.elapsed() < PATIENCE, "the process does not end"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(status.success(), "the process has ended with {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that this process has come to where others wait for it, on a line of its own.
pub fn say_ready(what: impl std::fmt::Display) {
    println!("\nready {what}");
}

/// Sleeps until this process is killed.
pub fn sleep_for_good() -> ! {
    loop {
        std::thread::park();
    }
}
