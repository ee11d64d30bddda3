//! What tests in several folders need: numbers, folders, and processes of their own.

#![allow(dead_code)] // not every test needs all of it

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use shmhot::status::Failure;

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The full number of repetitions under SHMHOT_SOAK, else one that fits into everyday.
pub fn soak(full: u64, everyday: u64) -> u64 {
    if std::env::var_os("SHMHOT_SOAK").is_some() { full } else { everyday }
}

/// A folder in shared memory that goes away with its files.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = Path::new("/dev/shm").join(format!("shmhot-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs one of the ignored tests of this program in a process of its own: for what depends on the descriptors, limits
/// or mappings of the whole process. What it skips is told on.
pub fn in_child(test: &str) {
    let run = this_program(test).output().expect("a process");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}{err}");
    out.lines().filter(|line| line.starts_with("SKIP")).for_each(|line| println!("{line}"));
}

/// Descriptors and mappings of shared memory that this process has.
pub fn holdings() -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    (fs::read_dir("/proc/self/fd").unwrap().count(), maps.lines().filter(|line| line.contains("/dev/shm")).count())
}

/// This program, to be run again for one of its ignored tests.
pub fn this_program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// A small generator of numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// That a call fails with this errno, and says so in a sentence.
#[track_caller]
pub fn expect<T: Debug, E: Failure>(result: Result<T, E>, errno: i32) {
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
pub fn is_refused<T, E: Failure>(result: Result<T, E>) -> bool {
    result.is_err_and(|error| error.status() == shmhot::status::SHMHOT_EFORK)
}

/// Makes what it is given into a result of libc.
#[track_caller]
pub fn done(result: i32) {
    assert_ne!(result, -1, "{}", std::io::Error::last_os_error());
}

/// How one of the ignored tests of a program learns what it is about.
const SUBJECT: &str = "SHMHOT_TEST_SUBJECT";

/// What a process that was started for it is about; `None` in a run of all ignored tests.
pub fn subject_of_child() -> Option<OsString> {
    std::env::var_os(SUBJECT)
}

/// A process that runs one of the ignored tests of this program.
pub struct Process {
    child: Child,
    to: ChildStdin,
    out: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(test: &str, subject: impl AsRef<OsStr>) -> Self {
        let mut command = this_program(test);
        command.env(SUBJECT, subject).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: prctl is a system call and nothing more; between fork and exec nothing else happens.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = command.spawn().expect("a process");
        let to = child.stdin.take().expect("its input");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, to, out }
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

    /// Lets it go on from [`wait_for_go`].
    pub fn go(&mut self) {
        self.to.write_all(b"\n").expect("its input");
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

/// Waits for the parent to say so.
pub fn wait_for_go() {
    std::io::stdin().read_line(&mut String::new()).expect("a line");
}

/// Sleeps until this process is killed.
pub fn sleep_for_good() -> ! {
    loop {
        std::thread::park();
    }
}
