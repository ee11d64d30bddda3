//! A writer that is stopped behind each of its instructions, and killed behind each of its stores and system calls: what
//! readers find is whole, and the next writer goes on.

use std::fs::File;
use std::time::Duration;

use memmap2::Mmap;
use shmhot::circbuf::*;

use crate::support::*;

const FRAMES: u32 = 10;
/// Frames that are there before the one call that is cut: the ring is full, and its end was passed.
const BEFORE: u64 = 19;

#[test]
#[ignore = "the writer of the tests of this module"]
fn traced_child() {
    let Some((name, call)) = name_of_child() else { return };
    let stream = CircBuf::create(&name, Options::default()).unwrap();
    stream.configure(&numbers(FRAMES), 0.0).unwrap();
    stream.set_metadata(Some(&metadata("before"))).unwrap();
    write(&stream, BEFORE as usize);
    let frames = frames_of(WORDS, BEFORE, 3);
    let other = Format { frame_shape: vec![2, WORDS as u32], key: "another".into(), ..numbers(20) };
    let metadata = metadata("after");
    // SAFETY: gettid, ptrace and raise are system calls and nothing more.
    unsafe {
        let tid = libc::gettid();
        let may = libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0;
        say_ready(if may { tid } else { 0 });
        libc::raise(libc::SIGSTOP);
    }
    match &call[..] {
        "single" => stream.write(&Source::Contiguous(&frames[..WORDS * 8]), None).unwrap(),
        // Beyond the end of the ring.
        "split" => stream.write(&Source::Contiguous(&frames), None).unwrap(),
        "configure" => assert!(stream.configure(&other, 0.0).unwrap()),
        "metadata" => assert!(stream.set_metadata(Some(&metadata)).unwrap()),
        "remove" => assert!(stream.set_metadata(None).unwrap()),
        "detach" => stream.detach().unwrap(),
        "close" => stream.close().unwrap(),
        other => panic!("{other}"),
    }
    // SAFETY: as above.
    unsafe { libc::raise(libc::SIGSTOP) };
}

fn metadata(key: &str) -> Metadata {
    Metadata::from_json(&format!(r#"{{"key": "{key}"}}"#)).unwrap()
}

/// A writer that is stopped before a call, to be stepped through it.
struct Traced {
    process: Process,
    tid: i32,
    header: Mmap,
    ring: Mmap,
    /// What the files held when it was stopped last.
    held: (Vec<u8>, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Store,
    SystemCall,
}

impl Traced {
    /// `None` when nobody may be traced here.
    fn start(name: &Name, call: &str) -> Option<Self> {
        let mut process = Process::start("cut::traced_child", format!("{} {call}", &**name));
        let tid = process.ready().parse().unwrap();
        if tid == 0 {
            println!("SKIP what needs ptrace, which is refused here");
            return None;
        }
        // SAFETY: nobody cuts the files.
        let map = |path| unsafe { Mmap::map(&File::open(path).unwrap()).unwrap() };
        let (header, ring) = (map(name.header()), map(name.ring(0)));
        let held = (header.to_vec(), ring.to_vec());
        let traced = Self { process, tid, header, ring, held };
        assert_eq!(traced.wait(), libc::SIGSTOP);
        // SAFETY: its own tracer, and it is stopped.
        done(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, traced.tid, 0, libc::PTRACE_O_TRACESYSGOOD) } as i32);
        Some(traced)
    }

    /// The signal that it has stopped with.
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: room for the status.
        done(unsafe { libc::waitpid(self.tid, &mut status, libc::__WALL) });
        assert!(libc::WIFSTOPPED(status), "it has ended: {status:#x}");
        libc::WSTOPSIG(status)
    }

    /// Lets it go on by an instruction, or to a system call: `false` when the call is over.
    fn step(&self, by: By) -> bool {
        let request = if by == By::Store { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_SYSCALL };
        // SAFETY: its own tracer, and it is stopped.
        done(unsafe { libc::ptrace(request, self.tid, 0, 0) } as i32);
        match self.wait() {
            libc::SIGSTOP => false,
            signal => {
                assert_eq!(signal & 0x7f, libc::SIGTRAP);
                true
            }
        }
    }

    /// Kills it where it is.
    fn kill(&self) {
        // SAFETY: our own process; its thread ends for its tracer first, and only then for everybody.
        unsafe {
            done(libc::kill(self.process.id() as i32, libc::SIGKILL));
            libc::waitpid(self.tid, std::ptr::null_mut(), libc::__WALL);
        }
    }

    /// Whether the files have changed since that was asked last.
    fn has_stored(&mut self) -> bool {
        let is_other = self.held.0 != *self.header || self.held.1 != *self.ring;
        if is_other {
            self.held = (self.header.to_vec(), self.ring.to_vec());
        }
        is_other
    }

    /// Goes on to the step of this number that stores or is a system call, from 1: `false` when there are not so many.
    fn go_to(&mut self, by: By, number: usize) -> bool {
        let mut steps = 0;
        while steps < number {
            if !self.step(by) {
                return false;
            }
            steps += usize::from(by == By::SystemCall || self.has_stored());
        }
        true
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a peer's mirror would give: the newest frame, as the header has it.
fn check_as_peer(header: &[u8], ring: &[u8]) {
    let number = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().unwrap());
    let newest = number(1318) as usize - 1;
    let frame = &ring[FRAMES as usize * 8 + newest * WORDS * 8..][..WORDS * 8];
    let is = u64::from_ne_bytes(frame[..8].try_into().unwrap());
    check_frames(frame, WORDS, is);
    assert_eq!(is % u64::from(FRAMES), newest as u64);
    let time = f64::from_ne_bytes(ring[newest * 8..][..8].try_into().unwrap());
    assert_eq!(time, is as f64 / 1024.0);
}

/// Stopped behind every instruction of a write, it shows whole frames.
#[test]
fn behind_every_instruction() {
    for (call, count) in [("single", 1), ("split", 3)] {
        let name = Name::new("instructions");
        let Some(mut traced) = Traced::start(&name, call) else { return };
        let (mut reader, mut again) = (Reader::new(name.mirror()), Reader::new(name.mirror()));
        reader.drain();
        let (mut steps, mut stores, mut read) = (0, 0, 0);
        while traced.step(By::Store) {
            steps += 1;
            stores += u32::from(traced.has_stored());
            let span = reader.next(usize::MAX).unwrap().span;
            assert!(span.count == 0 || told(span) == (BEFORE, count, 0), "{span:?} behind {steps} instructions");
            read += span.count;
            again.mirror.seek(0).unwrap();
            let span = again.next(usize::MAX).unwrap().span;
            let (oldest, newest) = (BEFORE - u64::from(FRAMES), BEFORE + read as u64);
            assert_eq!(span.first + span.count as u64, newest, "behind {steps} instructions");
            assert!([oldest, oldest + count as u64].contains(&span.first), "behind {steps} instructions");
            check_as_peer(&traced.header, &traced.ring);
        }
        assert_eq!(read, count);
        println!("{call}: {steps} instructions, {stores} of which stored");
    }
}

/// Kills a writer behind a step of a call. What is left must be whole, and known to be left; the next writer goes on.
fn killed(call: &str, by: By, number: usize) -> Option<bool> {
    let name = Name::new("cut");
    let mut traced = Traced::start(&name, call)?;
    let mut reader = Reader::new(name.mirror());
    reader.drain();
    let is_cut = traced.go_to(by, number);
    drop(traced);
    let where_it_was = || format!("{call}, cut behind {by:?} {number}");
    if !is_cut {
        return Some(false);
    }
    let stage = until("its end", || {
        reader.drain();
        match reader.mirror.wait(1, Some(Duration::from_millis(1))).unwrap() {
            Awaited::Nothing => None,
            over => Some(over),
        }
    });
    let may_have_ended = call == "close" || call == "detach";
    assert!(stage == Awaited::Dead || stage == Awaited::Ended && may_have_ended, "{}: {stage:?}", where_it_was());
    let written = reader.mirror.info().unwrap().written;
    let expected = if call == "single" { 1 } else { 3 };
    assert!([BEFORE, BEFORE + expected].contains(&written), "{}: {written} frames", where_it_was());
    assert_eq!((reader.read, reader.lost), (written - (BEFORE - u64::from(FRAMES)), 0), "{}", where_it_was());
    match reader.mirror.metadata() {
        Ok(found) => assert!(found == metadata("before") || found == metadata("after"), "{}", where_it_was()),
        Err(error) => assert!(matches!(error, Error::NoMetadata), "{}: {error}", where_it_was()),
    }
    // One who comes now finds the same, unless nothing is left to be found.
    let mut late = Reader::new(name.mirror());
    late.drain();
    assert!(late.read <= u64::from(FRAMES), "{}", where_it_was());

    let stream = name.numbered(FRAMES + 1);
    write(&stream, 4);
    let numbers = until("the next writer's frames", || Some(reader.numbers()).filter(|numbers| !numbers.is_empty()));
    let first = stream.info().unwrap().written - 4;
    assert_eq!(numbers, (first..first + 4).collect::<Vec<_>>(), "{}", where_it_was());
    assert_eq!(reader.lost, 0, "{}", where_it_was());
    check_as_peer_frames(&name, &stream);
    stream.close().unwrap();
    assert!(name.files().is_empty(), "{}: {:?}", where_it_was(), name.files());
    Some(true)
}

/// That the header names the next writer's ring, whole.
fn check_as_peer_frames(name: &Name, stream: &CircBuf) {
    let header = std::fs::read(name.header()).unwrap();
    let generation = u32::from_ne_bytes(header[278..282].try_into().unwrap());
    assert_eq!((header[8], generation), (1, stream.info().unwrap().generation));
    let ring = std::fs::read(name.ring(generation)).unwrap();
    let index = u64::from_ne_bytes(header[1318..1326].try_into().unwrap());
    assert_eq!(index, 4);
    let first = stream.info().unwrap().written - 4;
    check_frames(&ring[(FRAMES as usize + 1) * 8..][..4 * WORDS * 8], WORDS, first);
}

/// Kills writers behind each of these steps of a call in turn.
fn cut(call: &str, by: By) {
    let mut cuts = 0;
    for number in 1.. {
        match killed(call, by, number) {
            Some(true) => cuts += 1,
            Some(false) => break,
            None => return,
        }
    }
    assert!(cuts > 0, "{call} was never cut by {by:?}");
    println!("{call}: cut {cuts} times, by {by:?}");
}

#[test]
fn behind_every_store() {
    for call in ["single", "split", "configure", "metadata", "remove", "detach", "close"] {
        cut(call, By::Store);
    }
}

#[test]
fn behind_every_system_call() {
    for call in ["configure", "metadata", "remove", "close"] {
        cut(call, By::SystemCall);
    }
}
