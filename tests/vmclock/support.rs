//! Pages that carry a number, folders to put them in, and processes that write them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub use crate::common::*;
use shmhot::status::Failure;
use shmhot::vmclock::*;

/// A page in which every field carries the number, turned a little for each, so that no field can stand for another.
/// The peer's clock status is an enum of five values.
pub fn numbered(number: u64) -> Snapshot {
    let turned = |field: u32| number.rotate_left(3 * field);
    Snapshot {
        version: 1,
        disruption_marker: number,
        flags: number << 10 | VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
        clock_status: (number % 5) as u8,
        leap_second_smearing_hint: turned(1) as u8,
        tai_offset_sec: turned(2) as i16,
        leap_indicator: turned(3) as u8,
        counter_period_shift: turned(4) as u8,
        counter_value: turned(5),
        counter_period_frac_sec: turned(6),
        counter_period_esterror_rate_frac_sec: turned(7),
        counter_period_maxerror_rate_frac_sec: turned(8),
        time_sec: turned(9),
        time_frac_sec: turned(10),
        time_esterror_nanosec: turned(11),
        time_maxerror_nanosec: turned(12),
        vm_generation_counter: turned(13),
        ..Snapshot::default()
    }
}

/// A page that gives a time near the beginning of 2024, from a counter of 1 GHz.
pub fn sound() -> Snapshot {
    Snapshot {
        version: 1,
        counter_id: VMCLOCK_COUNTER_X86_TSC,
        time_type: VMCLOCK_TIME_TAI,
        disruption_marker: 5,
        flags: VMCLOCK_FLAG_TAI_OFFSET_VALID
            | VMCLOCK_FLAG_PERIOD_MAXERROR_VALID
            | VMCLOCK_FLAG_TIME_MAXERROR_VALID
            | VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
        clock_status: VMCLOCK_STATUS_SYNCHRONIZED,
        tai_offset_sec: 37,
        counter_period_shift: 20,
        counter_period_frac_sec: ((1u128 << 84) / 1_000_000_000) as u64,
        counter_period_maxerror_rate_frac_sec: 1 << 30,
        time_sec: 1_704_067_237,
        time_maxerror_nanosec: 1_000,
        vm_generation_counter: 7,
        ..Snapshot::default()
    }
}

/// A page as it lies in a file, `len` bytes of which it says that they are `size`; written down from the specification
/// and not from the library.
pub fn raw(page: &Snapshot, len: usize, size: u32) -> Vec<u8> {
    let mut bytes = b"VCLK".to_vec();
    bytes.extend(size.to_le_bytes());
    bytes.extend(page.version.to_le_bytes());
    bytes.extend([page.counter_id, page.time_type]);
    bytes.extend(page.seq_count.to_le_bytes());
    bytes.extend(page.disruption_marker.to_le_bytes());
    bytes.extend(page.flags.to_le_bytes());
    bytes.extend(page.padding);
    bytes.extend([page.clock_status, page.leap_second_smearing_hint]);
    bytes.extend(page.tai_offset_sec.to_le_bytes());
    bytes.extend([page.leap_indicator, page.counter_period_shift]);
    for word in [
        page.counter_value,
        page.counter_period_frac_sec,
        page.counter_period_esterror_rate_frac_sec,
        page.counter_period_maxerror_rate_frac_sec,
        page.time_sec,
        page.time_frac_sec,
        page.time_esterror_nanosec,
        page.time_maxerror_nanosec,
        page.vm_generation_counter,
    ] {
        bytes.extend(word.to_le_bytes());
    }
    assert_eq!(bytes.len(), 0x70);
    bytes.resize(len, 0);
    bytes
}

/// Offsets in [`raw`].
pub const SIZE: u64 = 0x04;
pub const VERSION: u64 = 0x08;
pub const COUNTER_ID: u64 = 0x0a;
pub const TIME_TYPE: u64 = 0x0b;
pub const SEQ_COUNT: u64 = 0x0c;
pub const CLOCK_STATUS: u64 = 0x22;
pub const LEAP_INDICATOR: u64 = 0x26;
pub const SHIFT: u64 = 0x27;

/// Puts bytes into a file that readers have open.
pub fn poke(file: &File, offset: u64, bytes: &[u8]) {
    file.write_all_at(bytes, offset).expect("writing to the file");
}

pub const BOTH: [bool; 2] = [false, true];

pub fn open(path: &Path, checked: bool) -> Result<Clock> {
    Clock::open(path, Options { checked, ..Options::default() })
}

/// That a call fails with this errno, and says so in a sentence.
#[track_caller]
pub fn expect<T: std::fmt::Debug>(result: Result<T>, errno: i32) {
    match result {
        Ok(value) => panic!("{value:?} in place of errno {errno}"),
        Err(error) => {
            assert_eq!(error.status(), -errno, "{error}");
            assert!(error.to_string().len() > 10, "{error}");
        }
    }
}

/// A snapshot, however long the writer is kept from its processor in the middle of an update.
pub fn patiently(clock: &Clock) -> Snapshot {
    let begin = Instant::now();
    loop {
        match clock.snapshot() {
            Ok(page) => return page,
            Err(error) if error.status() == -libc::ETIMEDOUT && begin.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Tries until something is there.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// How one of the ignored tests of this program learns what page it is to write.
const PAGE: &str = "SHMHOT_TEST_PAGE";

pub fn page_of_child() -> Option<PathBuf> {
    std::env::var_os(PAGE).map(PathBuf::from)
}

/// A process that writes a page until it is killed.
pub struct WriterProcess(Child);

impl WriterProcess {
    pub fn start(test: &str, path: &Path) -> Self {
        let mut command = this_program(test);
        command.env(PAGE, path).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: prctl is a system call and nothing more; between fork and exec nothing else happens.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        Self(command.spawn().expect("a process"))
    }

    /// Kills it wherever it is.
    pub fn kill(mut self) {
        self.0.kill().expect("killing the writer");
        let status = self.0.wait().expect("the writer's end");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the writer had ended by itself: {status}");
    }
}

impl Drop for WriterProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
