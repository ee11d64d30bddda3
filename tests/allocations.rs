//! In the steady state nothing is allocated: neither for a request nor for a turn of the loop, nor for a frame.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::time::Duration;

use shmhot::circbuf::{Awaited, CircBuf, Dtype, Format, Mirror, MirrorOptions, Source};
use shmhot::hotpath::{OpKind, Options, SharedRing};

/// Counts what it passes on to the system's allocator, for each thread: tests run beside each other.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count_one() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

/// Allocations of this thread in what it does.
fn allocations_in(does: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    does();
    ALLOCATIONS.get() - before
}

// SAFETY: passes everything on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 32;

/// One request on every connection and its answer, in pieces of all kinds: `rounds` times. The clients are here too, so
/// that no other thread's allocations are counted.
fn exchange(ring: &SharedRing, clients: &mut [TcpStream], rounds: usize) {
    let mut out = [MaybeUninit::uninit(); 64];
    let mut answer = [0u8; 320];
    for round in 0..rounds {
        for client in clients.iter_mut() {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        }
        let mut answered = 0;
        while answered < clients.len() {
            let count = ring.with(|ring| ring.wait(1, Some(Duration::from_secs(10)), &mut out)).unwrap();
            assert!(count > 0);
            for completion in &out[..count] {
                // SAFETY: `wait` has written the first `count`.
                let completion = unsafe { completion.assume_init() };
                assert_eq!(completion.op_kind, OpKind::Recv as u8);
                ring.with(|ring| {
                    ring.send(completion.fd, &answer[..100], true)?;
                    ring.send(completion.fd, &answer[..200 - round % 100], true)?;
                    ring.send_buffer(completion.fd, completion.buf_id, 0, (round % 18) as u32, true)
                })
                .unwrap();
                answered += 1;
            }
        }
        ring.with(|ring| ring.flush()).unwrap();
        for client in clients.iter_mut() {
            client.read_exact(&mut answer[..300 - round % 100 + round % 18]).unwrap();
        }
    }
}

#[test]
fn the_steady_state_allocates_nothing() {
    let ring = SharedRing::new(Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let fd = listener.accept().unwrap().0.into_raw_fd();
        ring.with(|ring| {
            ring.submit_recv(fd)?;
            ring.set_idle_timeout(fd, Duration::from_secs(60))
        })
        .unwrap();
    }
    exchange(&ring, &mut clients, 300);
    let allocations = allocations_in(|| exchange(&ring, &mut clients, 1000));
    assert_eq!(allocations, 0, "in {} requests", 1000 * CONNECTIONS);
}

#[test]
fn frames_allocate_nothing() {
    let name = format!("shmhot-test/allocations/{}", std::process::id());
    let stream = CircBuf::create(&name, shmhot::circbuf::Options::default()).unwrap();
    let dtype = Dtype::new(b'f').unwrap();
    let format = Format { dtype, frame_shape: vec![64], frames: 1000, rate: 1000.0, key: "key".into() };
    stream.configure(&format, 0.0).unwrap();
    let mirror = Mirror::open(&name, MirrorOptions::default()).unwrap();
    mirror.format().unwrap();
    let (frames, times) = ([1; 10 * 256], [0.0; 10]);
    let mut room = [MaybeUninit::uninit(); 10 * 256];
    let mut times_read = [MaybeUninit::uninit(); 10];
    let allocations = allocations_in(|| {
        for _ in 0..1000 {
            stream.write(&Source::Contiguous(&frames), None).unwrap();
            stream.write(&Source::Contiguous(&frames), Some(&times)).unwrap();
            stream.reserve(10).unwrap();
            stream.commit(10).unwrap();
            assert_eq!(mirror.wait(30, None).unwrap(), Awaited::Frames(30));
            assert_eq!(mirror.read(&mut room, Some(&mut times_read), 10).unwrap().count, 10);
            let view = mirror.view(20).unwrap().expect("a stream");
            assert_eq!(view.span.count, 20);
            assert!(mirror.is_intact(&view.span).unwrap());
        }
    });
    assert_eq!(allocations, 0, "in 1000 rounds");
}
