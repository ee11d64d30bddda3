//! A page that is written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::{Error, Result};
use super::page::{
    BLOCK, BODY, FULL_SIZE, MAGIC, MIN_WORDS, Snapshot, VERSION, VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT, WORDS,
};
use super::reader::{check_header, check_length};
use crate::shm::{Access, Lock, Mapping, Plain, ReadWords, Segment, seqlock};
use crate::sys::ProcessEpoch;

/// The one writer of a page; its threads take turns.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    segment: Segment,
    mapping: Mapping,
    /// Words of the block.
    len: usize,
    /// Its unlocking is also what keeps a page even for long enough to be seen beside a writer that never pauses.
    turn: Mutex<()>,
    epoch: ProcessEpoch,
    _lock: Lock,
}

/// Bytes of a page that is made here: a page of memory, as hypervisors have it.
const SIZE: usize = 4096;

impl Writer {
    /// Permissions of a new page: everybody may read the time.
    pub const DEFAULT_MODE: u32 = 0o644;

    /// Makes a page, or goes on with one that a writer has left, also in the middle of an update.
    ///
    /// A link is not followed. [`Error::Malformed`] for a file that is no page of this version, which is left as it is;
    /// [`Error::Foreign`] for another user's; [`Error::Busy`] beside another writer; [`Error::File`].
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        // The working directory may be another one when it comes to `remove`.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let lock = Lock::take(&path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::Busy(path.clone()),
            _ => Error::file("lock", &path)(error),
        })?;
        let segment = match Segment::open_writable(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Segment::create(&path, mode & 0o7777, &empty_page(), SIZE as u64)
                    .map_err(Error::file("create", &path))?
            }
            opened => opened.map_err(Error::file("open", &path))?,
        };
        let len = segment.len().map_err(Error::file("fstat", &path))?;
        check_length(&path, len)?;
        let words = usize::try_from(len / 8).unwrap_or(usize::MAX).min(FULL_SIZE / 8);
        let mapping = Mapping::new(&segment, 0, words, Access::Write).map_err(Error::file("mmap", &path))?;
        let Ok([header, first]) = mapping.load(0);
        let size = check_header(&path, header, len)?;
        // A page of version 0 is one that nobody has finished.
        if !matches!(first as u16, 0 | VERSION) {
            let why = Error::Version(first as u16);
            return Err(Error::malformed(&path, format!("{why}; remove the file if no one needs it")));
        }
        if !segment.is_own().map_err(Error::file("fstat", &path))? {
            return Err(Error::Foreign(path));
        }
        let len = if size >= FULL_SIZE as u64 { WORDS } else { MIN_WORDS };
        Ok(Self { path, segment, mapping, len, turn: Mutex::new(()), epoch: ProcessEpoch::current(), _lock: lock })
    }

    /// Replaces the content of the page; version, sequence number and padding of `page` do not matter.
    ///
    /// [`Error::NoRoom`], or [`Error::Forked`].
    pub fn write(&self, page: &Snapshot) -> Result<()> {
        self.check_process()?;
        if self.len < WORDS && page.flags & VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0 {
            return Err(Error::NoRoom);
        }
        let words = block(page);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        seqlock::write(&*self.mapping, BLOCK, &words[..self.len]);
        Ok(())
    }

    /// Removes the page's file, if it is still this one. Who has it open keeps the last page.
    ///
    /// [`Error::File`], or [`Error::Forked`].
    pub fn remove(self) -> Result<()> {
        self.check_process()?;
        if self.segment.is_at(&self.path).map_err(Error::file("stat", &self.path))? {
            std::fs::remove_file(&self.path).map_err(Error::file("remove", &self.path))?;
        }
        Ok(())
    }

    fn check_process(&self) -> Result<()> {
        if self.epoch.is_current() { Ok(()) } else { Err(Error::Forked) }
    }
}

/// A page of which nothing is known, and that gives no time.
fn empty_page() -> [u8; FULL_SIZE] {
    let page = Snapshot { version: VERSION, counter_id: super::VMCLOCK_COUNTER_INVALID, ..Snapshot::default() };
    let mut bytes = [0; FULL_SIZE];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&(SIZE as u32).to_le_bytes());
    bytes[BODY..FULL_SIZE].copy_from_slice(page.to_words().map(u64::to_le_bytes).as_flattened());
    bytes
}

/// The words that are written for a page.
fn block(page: &Snapshot) -> [u64; WORDS] {
    Snapshot { version: VERSION, padding: [0; 2], ..*page }.to_words()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::super::reader::{Clock, Options};
    use super::*;
    use crate::shm::{Fence, ReadWords, WriteWords};

    /// Memory whose writer stops itself before one of its stores.
    struct Stopping<'a> {
        mapping: &'a Mapping,
        stores_left: Cell<usize>,
    }

    impl ReadWords for Stopping<'_> {
        type Error = Infallible;

        fn load<const N: usize>(&self, at: usize) -> std::result::Result<[u64; N], Infallible> {
            self.mapping.load(at)
        }

        fn acquire(&self, name: Fence) {
            self.mapping.acquire(name);
        }
    }

    impl WriteWords for Stopping<'_> {
        fn store(&self, at: usize, value: u64) {
            if self.stores_left.get() == 0 {
                stop();
            }
            self.stores_left.set(self.stores_left.get().wrapping_sub(1));
            self.mapping.store(at, value);
        }

        fn release(&self, name: Fence) {
            self.mapping.release(name);
        }

        fn order(&self, name: Fence) {
            self.mapping.order(name);
        }
    }

    #[allow(unsafe_code)]
    fn stop() {
        // SAFETY: stops this process, which is a child of the test made for that.
        unsafe { libc::raise(libc::SIGSTOP) };
    }

    /// A page whose fields all say the same.
    fn page(number: u64) -> Snapshot {
        Snapshot {
            disruption_marker: number,
            flags: VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
            counter_value: number,
            counter_period_frac_sec: number,
            time_sec: number,
            vm_generation_counter: number,
            ..Snapshot::default()
        }
    }

    #[track_caller]
    fn assert_whole(snapshot: &Snapshot, number: u64) {
        assert_eq!(*snapshot, Snapshot { version: VERSION, seq_count: snapshot.seq_count, ..page(number) });
    }

    const STORES: usize = WORDS + 1;

    #[test]
    fn a_writer_may_be_killed_before_any_of_its_stores() {
        for stop_before in 0..=STORES {
            let path = std::env::temp_dir().join(format!("shmhot-killed-{}-{stop_before}", std::process::id()));
            let writer = Writer::create(&path, 0o600).expect("create");
            writer.write(&page(1)).expect("write");
            drop(writer);
            let clock = Clock::open(&path, Options::default()).expect("open");
            let mut child = Child(
                Command::new(std::env::current_exe().expect("this test"))
                    .args(["--exact", "vmclock::writer::tests::child_writes_and_stops", "--ignored"])
                    .env("SHMHOT_TEST_PAGE", &path)
                    .env("SHMHOT_TEST_STOP_BEFORE", stop_before.to_string())
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("start a writer"),
            );
            child.wait_until_stopped();

            for killed in [false, true] {
                if killed {
                    child.kill();
                }
                let begin = Instant::now();
                match (stop_before, clock.snapshot()) {
                    (0, snapshot) => assert_whole(&snapshot.expect("nothing has happened"), 1),
                    (STORES, snapshot) => assert_whole(&snapshot.expect("all is done"), 2),
                    (_, Err(Error::Stuck)) => assert!(begin.elapsed() < Duration::from_secs(10)),
                    (_, snapshot) => panic!("before store {stop_before}: {snapshot:?}"),
                }
            }
            let writer = Writer::create(&path, 0o600).expect("adopt");
            writer.write(&page(3)).expect("write");
            let snapshot = clock.snapshot().expect("the next writer has mended it");
            assert_whole(&snapshot, 3);
            // One update of the first writer, one begun or not, and this one.
            assert_eq!(snapshot.seq_count, if stop_before < STORES { 4 } else { 6 });
            writer.remove().expect("remove");
        }
    }

    /// A writer that does not outlive its test.
    struct Child(std::process::Child);

    impl Child {
        #[allow(unsafe_code)]
        fn wait_until_stopped(&self) {
            let (pid, mut status) = (self.0.id().cast_signed(), 0);
            // SAFETY: waits for a child of this test.
            let changed = unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) };
            assert!(changed == pid && libc::WIFSTOPPED(status), "{changed}, status {status:#x}");
        }

        fn kill(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            self.kill();
        }
    }

    #[test]
    #[ignore = "the writer of the test above"]
    fn child_writes_and_stops() {
        let path = std::env::var_os("SHMHOT_TEST_PAGE").expect("started by the test above");
        let stop_before = std::env::var("SHMHOT_TEST_STOP_BEFORE").expect("as well").parse().expect("a number");
        let writer = Writer::create(Path::new(&path), 0o600).expect("adopt");
        let memory = Stopping { mapping: &writer.mapping, stores_left: Cell::new(stop_before) };
        seqlock::write(&memory, BLOCK, &block(&page(2)));
        stop();
    }
}
