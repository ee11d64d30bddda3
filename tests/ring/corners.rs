//! Where two things meet: a late answer and a new connection, a cancellation and what was faster, one wait and many wishes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use shmhot::hotpath::{F_ENDED, F_MORE, OpKind, Options, Segment};
use shmhot::status::Failure;

use crate::support::{Harness, PATIENCE, listener, pair, small};

const CANCELED: i64 = -(libc::ECANCELED as i64);

fn nap(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Fills a socket from outside the ring, so that what is sent through the ring has to wait.
fn fill(fd: RawFd) {
    let junk = vec![0u8; 1 << 16];
    let mut full = 0;
    while full < 3 {
        // SAFETY: readable memory of that length.
        let sent = unsafe { libc::send(fd, junk.as_ptr().cast(), junk.len(), libc::MSG_DONTWAIT) };
        full = if sent < 0 { full + 1 } else { 0 };
        if sent < 0 {
            nap(10);
        }
    }
}

/// Has `fd` receive something that stays in the ring, behind more completions than one look takes.
fn with_a_receive_behind(end: impl FnOnce(&Harness, RawFd)) -> Vec<shmhot::hotpath::Completion> {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    let (other, _other_client) = pair();
    harness.must(|ring| {
        ring.submit_recv(fd)?;
        ring.flush()
    });
    client.write_all(b"old secret").unwrap();
    nap(20);
    harness.must(|ring| {
        for _ in 0..3 {
            ring.send(other, b"loud", false)?;
        }
        ring.flush()
    });
    harness.must(|ring| ring.wait(1, Some(PATIENCE), &mut [std::mem::MaybeUninit::uninit(); 1]));
    end(&harness, fd);
    let mut rest = Vec::new();
    loop {
        let told = harness.wait(1, Duration::from_millis(30));
        if told.is_empty() {
            break;
        }
        rest.extend(told);
    }
    assert_eq!(harness.must(|ring| Ok(ring.stats())).buffers_held, 0);
    rest
}

#[test]
fn what_was_received_before_the_end_is_not_told_after_it() {
    let rest = with_a_receive_behind(|harness, fd| harness.must(|ring| ring.forget(fd)));
    assert!(rest.iter().all(|told| told.op_kind == OpKind::Send as u8), "{rest:?}");
    let rest = with_a_receive_behind(|harness, fd| harness.must(|ring| ring.submit_close(fd, None)));
    assert!(rest.iter().all(|told| told.op_kind != OpKind::Recv as u8), "{rest:?}");
    assert!(rest.iter().any(|told| told.op_kind == OpKind::Close as u8));
}

#[test]
fn a_wait_for_many_looks_after_the_ring_meanwhile() {
    let harness = Harness::new(small());
    let (closed, _client) = pair();
    harness.must(|ring| ring.submit_recv(closed));
    harness.closes(closed); // from now on a first receive is for one answer
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    for _ in 0..100 {
        harness.must(|ring| ring.send(fd, &[7; 10], true)); // more than one operation takes
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 1000];
            client.read_exact(&mut bytes).unwrap();
            client.write_all(b"a").unwrap();
            nap(20);
            client.write_all(b"b").unwrap();
        });
        assert_eq!(harness.wait(2, PATIENCE).len(), 2);
    });
}

#[test]
fn a_wake_ends_a_wait_for_many() {
    let harness = Harness::new(small());
    harness.must(|ring| ring.flush());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nap(20);
            harness.ring.wake().unwrap();
        });
        assert_eq!(harness.wait(5, PATIENCE).len(), 1);
        scope.spawn(|| {
            nap(20);
            harness.ring.force_unhealthy();
        });
        assert_eq!(harness.wait(5, PATIENCE).len(), 1);
    });
}

#[test]
fn slow_readers_do_not_hold_up_the_news_of_others() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    let slow: Vec<_> = (0..3).map(|_| pair()).collect();
    for (fd, _) in &slow {
        fill(*fd);
    }
    harness.must(|ring| ring.submit_recv(fd));
    for round in 0..100u8 {
        // As lonely a client as there can be; and now and then somebody who does not read.
        client.write_all(&[round]).unwrap();
        let got = harness.expect(OpKind::Recv);
        assert_eq!(harness.take_bytes(got), [round]);
        harness.must(|ring| ring.send(fd, &[round], true));
        if round % 10 == 9 {
            nap(3);
            for (fd, _) in &slow[..1 + usize::from(round) % 3] {
                harness.must(|ring| ring.send(*fd, b"small", true));
            }
            assert!(harness.wait(1, Duration::from_millis(5)).is_empty());
        }
    }
}

#[test]
fn the_event_descriptor_minds_an_earlier_timer() {
    let harness = Harness::new(small());
    let event_fd = harness.must(|ring| ring.event_fd());
    let readable = |ms: i32| {
        let mut poll = libc::pollfd { fd: event_fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd.
        unsafe { libc::poll(&mut poll, 1, ms) == 1 }
    };
    let set = |id, after| {
        harness.must(|ring| {
            ring.submit_timeout(id, after);
            Ok(())
        });
    };
    set(1, PATIENCE * 2);
    while readable(20) {
        assert!(harness.wait(0, Duration::ZERO).is_empty());
    }
    set(2, Duration::from_millis(20));
    let mut told = Vec::new();
    while told.is_empty() {
        assert!(readable(PATIENCE.as_millis() as i32));
        told = harness.wait(0, Duration::ZERO);
    }
    assert_eq!(told[0].result, 2);
}

#[test]
fn a_buffer_that_is_being_sent_is_nobody_elses() {
    let harness = Harness::new(Options { n_bufs: 1, ..small() });
    let (fd, mut client) = pair();
    let (slow, mut slow_client) = pair();
    fill(slow);
    harness.must(|ring| ring.submit_recv(fd));
    client.write_all(b"first").unwrap();
    let got = harness.expect(OpKind::Recv);
    harness.must(|ring| {
        ring.send_buffer(slow, got.buf_id, 0, 5, true)?;
        ring.flush()
    });
    let busy = |result: shmhot::hotpath::Result<()>| assert_eq!(result.expect_err("lent").status(), -libc::EBUSY);
    busy(harness.with(|ring| ring.release(got.buf_id)));
    busy(harness.with(|ring| ring.send_buffer(fd, got.buf_id, 0, 5, true)));
    client.write_all(b"SECRT").unwrap();
    harness.expect_silence(); // there is no buffer for it
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut all = Vec::new();
            let mut bytes = vec![0; 1 << 16];
            while !all.ends_with(b"first") {
                let count = slow_client.read(&mut bytes).unwrap();
                all.extend_from_slice(&bytes[..count]);
            }
        });
        let got = harness.expect(OpKind::Recv);
        assert_eq!(harness.take_bytes(got), b"SECRT");
    });
}

#[test]
fn a_cancelled_send_takes_none_along_that_comes_after_it() {
    let harness = Harness::new(small());
    let (fd, _client) = pair();
    fill(fd);
    harness.must(|ring| {
        ring.send(fd, b"A", false)?;
        ring.flush()?;
        ring.cancel(fd, 1 << OpKind::Send as u32)
    });
    let early = harness.with(|ring| ring.send(fd, b"B", false)).expect_err("the cancellation is under way");
    assert_eq!(early.status(), -libc::EBUSY);
    assert_eq!(harness.expect(OpKind::Send).result, CANCELED);
    harness.must(|ring| ring.send(fd, b"B", false));
    harness.expect_silence();
}

#[test]
fn a_receive_has_one_last_word() {
    // Bytes that are faster than the cancellation.
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    let last_words = |harness: &Harness| {
        let mut last = Vec::new();
        loop {
            let told = harness.wait(1, Duration::from_millis(30));
            if told.is_empty() {
                return last;
            }
            for completion in told {
                if completion.buf_id >= 0 {
                    harness.must(|ring| ring.release(completion.buf_id));
                }
                if completion.flags & F_MORE == 0 {
                    last.push(completion.result);
                }
            }
        }
    };
    for _ in 0..2 {
        harness.must(|ring| {
            ring.submit_recv(fd)?;
            ring.flush()
        });
        client.write_all(b"a").unwrap();
        nap(10);
        harness.must(|ring| {
            ring.flush()?;
            ring.cancel(fd, 1 << OpKind::Recv as u32)
        });
        let last = last_words(&harness);
        assert_eq!(last.len(), 1, "{last:?}");
        // Cancelled and wanted again in one turn: both are told of, each for itself.
        harness.must(|ring| {
            ring.submit_recv(fd)?;
            ring.flush()?;
            ring.cancel(fd, 1 << OpKind::Recv as u32)?;
            ring.submit_recv(fd)
        });
        assert_eq!(last_words(&harness), [CANCELED]);
        // A pause is no cancellation.
        harness.must(|ring| ring.pause(fd));
        assert!(last_words(&harness).is_empty());
        harness.must(|ring| {
            ring.resume(fd)?;
            ring.cancel(fd, 0)
        });
        assert_eq!(last_words(&harness), [CANCELED]);
        // Once more, with receives that start for one answer.
        let (other, _client) = pair();
        harness.must(|ring| ring.submit_recv(other));
        harness.closes(other);
    }
}

/// A socket, and the address of a port on loopback as bytes.
fn dialling(port: u16) -> (RawFd, Vec<u8>) {
    // SAFETY: a new socket, and plain old data.
    unsafe {
        let mut name: libc::sockaddr_in = std::mem::zeroed();
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = port.to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let bytes = std::slice::from_raw_parts((&raw const name).cast::<u8>(), size_of_val(&name)).to_vec();
        (libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0), bytes)
    }
}

#[test]
fn connecting_sending_and_closing_in_one_breath_sends() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let (fd, name) = dialling(address.port());
    harness.must(|ring| {
        ring.submit_connect(fd, &name)?;
        ring.send(fd, b"hello", false)?;
        ring.submit_close(fd, None)
    });
    assert_eq!(harness.expect(OpKind::Send).result, 5);
    assert_eq!(harness.expect(OpKind::Close).result, 0);
    let mut said = String::new();
    listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    // Without anything to send, there is nothing to connect for.
    let (fd, name) = dialling(address.port());
    harness.must(|ring| {
        ring.submit_connect(fd, &name)?;
        ring.submit_close(fd, None)
    });
    assert_eq!(harness.expect(OpKind::Close).result, 0);
}

#[test]
fn a_connect_outlives_the_thread_that_submitted_it() {
    let harness = Harness::new(Options { any_thread: true, ..small() });
    let (listener, address) = listener();
    // A full backlog lets connects wait.
    // SAFETY: a listener of our own.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let mut fillers = Vec::new();
    while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fillers.push(filler);
    }
    let (fd, name) = dialling(address.port());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            harness.must(|ring| {
                ring.submit_connect(fd, &name)?;
                ring.flush()
            });
        });
    });
    assert!(harness.wait(1, Duration::from_millis(50)).is_empty(), "still under way");
    let _accepted: Vec<_> = fillers.iter().map(|_| listener.accept().unwrap()).collect();
    assert_eq!(harness.expect(OpKind::Connect).result, 0);
    harness.closes(fd);
}

#[test]
fn small_sends_are_bounded_too() {
    let harness = Harness::new(Options { max_queued_bytes: 1 << 20, ..small() });
    let (fd, _client) = pair();
    fill(fd);
    let taken = (0..1_000_000).take_while(|_| harness.with(|ring| ring.send(fd, b"x", true)).is_ok()).count();
    assert!((1000..10_000).contains(&taken), "{taken} sends of one byte into a mebibyte");
    let more = harness.with(|ring| ring.send(fd, b"", true)).expect_err("no bytes weigh something as well");
    assert_eq!(more.status(), -libc::EAGAIN);
}

#[test]
fn a_shutdown_says_when_not_all_was_sent_before_it() {
    let harness = Harness::new(small());
    let (fd, _client) = pair();
    fill(fd);
    harness.must(|ring| {
        ring.send(fd, b"A", false)?;
        ring.submit_shutdown(fd)?;
        ring.flush()?;
        ring.cancel(fd, 1 << OpKind::Send as u32)
    });
    assert_eq!(harness.expect(OpKind::Send).result, CANCELED);
    assert_eq!(harness.expect(OpKind::Shutdown).result, CANCELED);
}

#[test]
fn who_lent_bytes_hears_that_they_are_free() {
    static BYTES: [u8; 10] = [1; 10];
    for quiet in [false, true] {
        let harness = Harness::new(small());
        let (fd, _client) = pair();
        fill(fd);
        harness.must(|ring| {
            // SAFETY: static bytes.
            unsafe { ring.send_borrowed(fd, &[Segment::new(BYTES.as_ptr(), 10)], quiet, None) }?;
            ring.flush()?;
            ring.forget(fd)
        });
        let told = harness.expect(OpKind::Send);
        assert_eq!((told.result, told.flags), (CANCELED, F_ENDED));
    }
}

#[test]
fn rings_may_change_places() {
    // Whatever safe code does with a ring, what the kernel has of it stays.
    let (one, other) = (Harness::new(small()), Harness::new(small()));
    let (fd, mut client) = pair();
    one.must(|ring| {
        ring.submit_recv(fd)?;
        ring.flush()
    });
    one.must(|ring| {
        other.with(|second| {
            std::mem::swap(ring, second);
            Ok(())
        })
    });
    drop(one);
    client.write_all(b"hello").unwrap();
    let start = Instant::now();
    let mut got = Vec::new();
    while got.is_empty() && start.elapsed() < PATIENCE {
        got = other.wait(1, Duration::from_millis(20));
    }
    assert_eq!(other.take_bytes(got[0]), b"hello");
    drop(other);
}
