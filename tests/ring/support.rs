//! A ring, its sockets, and the loop that most tests need.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use crate::common::{PATIENCE, in_child};
use shmhot::hotpath::{Completion, F_MORE, OpKind, Options, Result, Ring, SharedRing};

pub struct Harness {
    pub ring: SharedRing,
    /// Taken from the ring, not looked at yet.
    pending: Mutex<VecDeque<Completion>>,
}

/// A listener on loopback, on a port of the kernel's choice.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// Both ends of a connection; the first as a bare descriptor, for a ring to close. Its number may be one that the ring
/// has closed before: then a receive or `forget` has to come before a send.
pub fn pair() -> (RawFd, TcpStream) {
    let (listener, address) = listener();
    let client = TcpStream::connect(address).expect("connecting to loopback");
    let (server, _) = listener.accept().expect("accepting");
    client.set_read_timeout(Some(PATIENCE)).expect("setting a timeout");
    (server.into_raw_fd(), client)
}

pub fn small() -> Options {
    Options { queue_depth: 64, n_bufs: 16, buf_size: 4096, ..Options::default() }
}

impl Harness {
    pub fn new(options: Options) -> Self {
        Self { ring: SharedRing::new(options).expect("a ring"), pending: Mutex::default() }
    }

    pub fn with<R>(&self, f: impl FnOnce(&mut Ring) -> Result<R>) -> Result<R> {
        self.ring.with(f)
    }

    /// The same, of what must not fail.
    pub fn must<R>(&self, f: impl FnOnce(&mut Ring) -> Result<R>) -> R {
        self.ring.with(f).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn wait(&self, min: usize, timeout: Duration) -> Vec<Completion> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap());
        if !pending.is_empty() {
            return pending.into();
        }
        let mut out = [MaybeUninit::uninit(); 64];
        let count = self.must(|ring| ring.wait(min, Some(timeout), &mut out));
        // SAFETY: `wait` has written the first `count`.
        out[..count].iter().map(|completion| unsafe { completion.assume_init() }).collect()
    }

    /// Hands completions to `f` until it has seen enough.
    pub fn until(&self, what: &str, mut f: impl FnMut(&Self, Completion) -> bool) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let mut batch = VecDeque::from(self.wait(1, Duration::from_millis(100)));
            while let Some(completion) = batch.pop_front() {
                if f(self, completion) {
                    self.pending.lock().unwrap().extend(batch);
                    return;
                }
            }
        }
        panic!("waited in vain for {what}: {:?}", self.must(|ring| Ok(ring.stats())));
    }

    /// The next completion of a kind; others are not expected.
    pub fn expect(&self, kind: OpKind) -> Completion {
        let mut found = None;
        self.until(&format!("{kind:?}"), |_, completion| {
            assert_eq!(completion.op_kind, kind as u8, "{completion:?} in place of {kind:?}");
            assert!(found.replace(completion).is_none());
            true
        });
        found.unwrap()
    }

    /// That nothing comes for a while.
    pub fn expect_silence(&self) {
        self.expect_nothing_for(Duration::from_millis(60));
    }

    pub fn expect_nothing_for(&self, time: Duration) {
        let came = self.wait(1, time);
        assert!(came.is_empty(), "{came:?} came");
    }

    /// Accepts one connection, and receives on it.
    pub fn accept_one(&self, listener: &TcpListener, address: SocketAddr) -> (RawFd, TcpStream) {
        self.must(|ring| ring.submit_accept(listener.as_raw_fd()));
        let client = TcpStream::connect(address).expect("connecting to loopback");
        client.set_read_timeout(Some(PATIENCE)).expect("setting a timeout");
        let accepted = self.expect(OpKind::Accept);
        assert_eq!(accepted.flags & F_MORE, F_MORE);
        let fd = accepted.result as RawFd;
        self.must(|ring| ring.submit_recv(fd));
        (fd, client)
    }

    /// The bytes of a receive, whose buffer is released.
    pub fn take_bytes(&self, completion: Completion) -> Vec<u8> {
        assert!(completion.result > 0, "{completion:?}");
        self.must(|ring| {
            let (base, len) = ring.buffer(completion.buf_id)?;
            assert_eq!(i64::from(len), completion.result);
            // SAFETY: the buffer is held until the release below.
            let bytes = unsafe { std::slice::from_raw_parts(base, len as usize) }.to_vec();
            ring.release(completion.buf_id)?;
            Ok(bytes)
        })
    }

    pub fn closes(&self, fd: RawFd) {
        self.must(|ring| ring.submit_close(fd, None));
        let closed = self.expect(OpKind::Close);
        assert_eq!((closed.fd, closed.result), (fd, 0));
    }
}

/// Reads until the other end closes; a reset counts as an end.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match std::io::Read::read_to_end(stream, &mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    bytes
}

/// Bytes in which every position can be told from its neighbours: byte `i` of the stream is `PATTERN[i % len]`, and the
/// length is odd, so that no chunk size hides a shift.
pub fn pattern() -> &'static [u8] {
    static PATTERN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut random = Random(42);
        (0..1_000_003).map(|_| random.next() as u8).collect()
    })
}

/// Checks that `bytes` is what the pattern has at `offset`.
pub fn is_pattern(bytes: &[u8], offset: usize) -> bool {
    let pattern = pattern();
    let mut at = offset % pattern.len();
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = rest.len().min(pattern.len() - at);
        if rest[..len] != pattern[at..at + len] {
            return false;
        }
        rest = &rest[len..];
        at = 0;
    }
    true
}

/// A small generator of numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Resident memory of this process in KiB.
pub fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
