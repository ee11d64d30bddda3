//! Waits: how long, for what, and what ends them.

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shmhot::hotpath::{F_MORE, OpKind};

use crate::support::{Harness, PATIENCE, pair, small};

#[test]
fn timeouts_are_kept() {
    let harness = Harness::new(small());
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(harness.wait(1, Duration::ZERO).is_empty());
    }
    let looks = harness.must(|ring| Ok(ring.stats())).syscalls;
    assert!(looks < 10, "{looks} system calls for looking at nothing");
    assert!(harness.wait(1, Duration::from_millis(50)).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(harness.wait(0, PATIENCE).is_empty(), "to wait for nothing is not to wait");
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_wait_is_for_so_many_and_gives_no_more_than_fit() {
    let harness = Harness::new(small());
    let pairs: Vec<_> = (0..9).map(|_| pair()).collect();
    for (fd, _) in &pairs {
        harness.must(|ring| ring.submit_recv(*fd));
    }
    harness.must(|ring| ring.flush());
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (_, client) in &pairs {
                std::thread::sleep(Duration::from_millis(10));
                (&*client).write_all(b"x").unwrap();
            }
        });
        let words = harness.wait(9, PATIENCE);
        assert!(words.len() == 9 && start.elapsed() >= Duration::from_millis(75));
        for word in words {
            harness.take_bytes(word);
        }
    });
    for (_, client) in &pairs {
        (&*client).write_all(b"y").unwrap();
    }
    let mut out = [std::mem::MaybeUninit::uninit(); 3];
    let mut got = Vec::new();
    while got.len() < 9 {
        let count = harness.must(|ring| ring.wait(100, Some(PATIENCE), &mut out));
        assert!((1..=3).contains(&count));
        // SAFETY: `wait` has written the first `count`.
        got.extend(out[..count].iter().map(|c| unsafe { c.assume_init() }.fd));
    }
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 9);
    for (fd, _) in &pairs {
        harness.closes(*fd);
    }
}

/// A handler that does nothing but interrupt system calls.
fn on_signal(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a handler that is safe in any context, for a signal that no other test uses.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_every_millisecond_do_no_harm() {
    on_signal(libc::SIGUSR1);
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    // SAFETY: asks for the calling thread.
    let target = unsafe { libc::pthread_self() };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: the target is the scope's own thread, which waits for this one.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let (start, mut empty) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(500) {
            empty += usize::from(harness.wait(1, PATIENCE).is_empty());
        }
        assert!(empty > 50, "only {empty} waits were ended by some 500 signals");
        for round in 0..200u8 {
            client.write_all(&[round]).unwrap();
            harness.until("a byte", |harness, completion| {
                assert_eq!(harness.take_bytes(completion), [round]);
                true
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(harness.ring.is_healthy());
    harness.closes(fd);
}

#[test]
fn a_wake_from_another_thread_ends_a_wait_once() {
    let harness = Harness::new(small());
    harness.ring.wake().unwrap(); // before anybody waits
    assert_eq!(harness.expect(OpKind::Wake).fd, -1);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            let waker = scope.spawn(|| {
                for _ in 0..10 {
                    harness.ring.wake().unwrap();
                }
            });
            harness.expect(OpKind::Wake);
            waker.join().unwrap();
            while !harness.wait(1, Duration::from_millis(1)).is_empty() {}
        }
    });
    harness.expect_silence();
}

fn is_readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
}

#[test]
fn the_event_descriptor_is_readable_while_there_is_something_to_do() {
    let harness = Harness::new(small());
    let event_fd = harness.must(|ring| ring.event_fd());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    assert!(is_readable(event_fd, 0), "a command waits to be submitted");
    assert!(harness.wait(0, Duration::ZERO).is_empty());
    assert!(!is_readable(event_fd, 20));
    for round in 0..100 {
        // All that this thread does is sleep on the descriptor and look.
        client.write_all(b"a").unwrap();
        let mut got = Vec::new();
        while got.is_empty() {
            assert!(is_readable(event_fd, PATIENCE.as_millis() as i32), "round {round}");
            got = harness.wait(0, Duration::ZERO);
        }
        assert_eq!(got.len(), 1);
        harness.take_bytes(got[0]);
    }
    // More than fits into one look: still readable.
    let others: Vec<_> = (0..3).map(|_| pair()).collect();
    for (fd, _) in &others {
        harness.must(|ring| ring.submit_recv(*fd));
    }
    assert!(harness.wait(0, Duration::ZERO).is_empty());
    for (_, client) in &others {
        (&*client).write_all(b"b").unwrap();
    }
    let mut one = [std::mem::MaybeUninit::uninit()];
    for _ in &others {
        assert!(is_readable(event_fd, PATIENCE.as_millis() as i32));
        while harness.must(|ring| ring.wait(0, Some(Duration::ZERO), &mut one)) == 0 {}
    }
    // Timers and wakes make it readable too.
    assert!(harness.wait(0, Duration::ZERO).is_empty());
    harness.must(|ring| {
        ring.submit_timeout(5, Duration::from_millis(10));
        ring.submit_timeout(6, Duration::from_millis(40));
        ring.flush()
    });
    let mut fired = Vec::new();
    while fired.len() < 2 {
        assert!(is_readable(event_fd, PATIENCE.as_millis() as i32));
        fired.extend(harness.wait(0, Duration::ZERO).iter().map(|completion| completion.result));
    }
    assert_eq!(fired, [5, 6]);
    while is_readable(event_fd, 0) {
        assert!(harness.wait(0, Duration::ZERO).is_empty());
    }
    for _ in 0..10 {
        harness.ring.wake().unwrap();
        let mut got = Vec::new();
        while got.is_empty() {
            assert!(is_readable(event_fd, PATIENCE.as_millis() as i32));
            got = harness.wait(0, Duration::ZERO);
        }
        assert_eq!(got[0].op_kind, OpKind::Wake as u8);
        client.write_all(b"c").unwrap();
        while harness.wait(0, Duration::ZERO).is_empty() {}
    }
    harness.closes(fd);
    for (fd, _) in others {
        harness.closes(fd);
    }
}

#[test]
fn timeouts_come_in_order_and_can_be_moved_and_taken_back() {
    let harness = Harness::new(small());
    let start = Instant::now();
    harness.must(|ring| {
        for (id, ms) in [(1, 60), (2, 20), (3, 40), (4, 30), (-5, 10), (1, 50)] {
            ring.submit_timeout(id, Duration::from_millis(ms));
        }
        ring.cancel_timeout(4)
    });
    let mut order = Vec::new();
    harness.until("four timeouts", |_, completion| {
        assert_eq!((completion.op_kind, completion.fd), (OpKind::Timeout as u8, -1));
        order.push(completion.result);
        order.len() == 4
    });
    assert_eq!(order, [-5, 2, 3, 1]);
    assert!(start.elapsed() >= Duration::from_millis(50));
    harness.expect_silence();
}

#[test]
fn silence_is_told_once_and_again_after_the_next_word() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    harness.must(|ring| ring.set_idle_timeout(fd, Duration::from_millis(80)));
    for _ in 0..6 {
        // Words at intervals below the timeout keep it from firing.
        client.write_all(b"a").unwrap();
        let got = harness.expect(OpKind::Recv);
        harness.take_bytes(got);
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..2 {
        let start = Instant::now();
        let told = harness.expect(OpKind::Recv);
        assert_eq!((told.fd, told.result, told.flags), (fd, -i64::from(libc::ETIMEDOUT), F_MORE));
        assert!(start.elapsed() < PATIENCE);
        assert!(harness.wait(1, Duration::from_millis(120)).is_empty(), "told once");
        client.write_all(b"b").unwrap();
        let got = harness.expect(OpKind::Recv);
        harness.take_bytes(got);
    }
    harness.must(|ring| ring.set_idle_timeout(fd, Duration::ZERO));
    assert!(harness.wait(1, Duration::from_millis(120)).is_empty(), "turned off");
    harness.closes(fd);
}

#[test]
fn a_full_submission_queue_flushes_by_itself() {
    let harness = Harness::new(shmhot::hotpath::Options { queue_depth: 4, ..small() });
    let pairs: Vec<_> = (0..100).map(|_| pair()).collect();
    for (fd, _) in &pairs {
        harness.must(|ring| ring.submit_recv(*fd));
        harness.must(|ring| ring.send(*fd, b"hello", true));
    }
    harness.must(|ring| ring.flush());
    for (_, client) in &pairs {
        let mut bytes = [0; 5];
        std::io::Read::read_exact(&mut &*client, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        (&*client).write_all(b"x").unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    harness.until("all of them", |harness, completion| {
        seen.insert(completion.fd);
        harness.take_bytes(completion);
        seen.len() == pairs.len()
    });
    assert!(harness.must(|ring| Ok(ring.stats())).queue_full_flushes > 0);
    for (fd, client) in pairs {
        assert!(client.as_raw_fd() >= 0);
        harness.closes(fd);
    }
}
