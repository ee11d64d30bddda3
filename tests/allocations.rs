//! In the steady state nothing is allocated: neither for a request nor for a turn of the loop.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shmhot::hotpath::{OpKind, Options, SharedRing};

/// Counts what it passes on to the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    exchange(&ring, &mut clients, 1000);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(allocations, 0, "in {} requests", 1000 * CONNECTIONS);
}
