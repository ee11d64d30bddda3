//! The end of a ring, whatever it has at work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use shmhot::hotpath::{OpKind, Options};

use crate::support::{Harness, PATIENCE, in_child, listener, pair, resident_kib, small};

/// Arms everything that a ring can have at work, on two pairs of connections.
fn busy_ring(pairs: &[(i32, TcpStream)], megabyte: &[u8]) -> Harness {
    let harness = Harness::new(Options { n_bufs: 512, buf_size: 8192, ..small() });
    harness.must(|ring| {
        for (fd, _) in pairs {
            ring.submit_recv(*fd)?;
            ring.send(*fd, megabyte, false)?; // more than the socket takes: it stays at work
            ring.set_idle_timeout(*fd, Duration::from_secs(60))?;
        }
        ring.submit_timeout(1, Duration::from_secs(60));
        ring.flush()
    });
    harness
}

#[test]
fn freeing_with_everything_in_flight_gives_all_memory_back() {
    in_child("freeing::everything_in_flight_child");
}

#[test]
#[ignore = "a part of freeing_with_everything_in_flight_gives_all_memory_back"]
fn everything_in_flight_child() {
    let megabyte = vec![1u8; 8 << 20];
    let (listener, address) = listener();
    let mut after_warm_up = 0;
    for round in 0..500 {
        let pairs: Vec<_> = (0..2).map(|_| pair()).collect();
        let harness = busy_ring(&pairs, &megabyte);
        harness.must(|ring| ring.submit_accept(listener.as_raw_fd()));
        let _waiting = TcpStream::connect(address).unwrap();
        harness.must(|ring| ring.flush());
        assert!(harness.must(|ring| Ok(ring.stats())).in_flight >= 5);
        for (_, client) in &pairs {
            (&*client).write_all(b"unread").unwrap();
        }
        drop(harness);
        for (fd, _) in pairs {
            // SAFETY: the test's own descriptor, which the ring was not asked to close.
            assert_eq!(unsafe { libc::close(fd) }, 0);
        }
        if round == 50 {
            after_warm_up = resident_kib();
        }
    }
    let grown = resident_kib().saturating_sub(after_warm_up);
    assert!(grown < 20_000, "{grown} KiB more after 450 rounds of 20 MiB each");
}

#[test]
fn sockets_that_nobody_was_told_of_are_closed() {
    let (listener, address) = listener();
    let harness = Harness::new(small());
    harness.must(|ring| ring.submit_accept(listener.as_raw_fd()));
    harness.must(|ring| ring.flush());
    let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(20));
    drop(harness);
    drop(listener);
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = client.read(&mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "still open");
        assert!(!matches!(end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "still open");
    }
}

#[test]
fn descriptors_that_wait_to_be_closed_are_closed() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    harness.must(|ring| ring.submit_close(fd, None)); // neither is ever submitted
    drop(harness);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_ring_can_be_freed_on_another_thread_and_unused() {
    drop(Harness::new(small()));
    let pairs = [pair(), pair()];
    let harness = busy_ring(&pairs, &[1; 100]);
    std::thread::scope(|scope| {
        scope.spawn(move || drop(harness)).join().unwrap();
    });
    for (fd, _) in pairs {
        // SAFETY: the test's own descriptor.
        assert_eq!(unsafe { libc::close(fd) }, 0);
    }
}

#[test]
fn the_owner_may_be_gone_before_its_ring() {
    let (fd, mut client) = pair();
    let harness = Harness::new(small());
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                harness.must(|ring| ring.submit_recv(fd));
                client.write_all(b"x").unwrap();
                harness.expect(OpKind::Recv);
            })
            .join()
            .unwrap();
    });
    drop(harness);
    // SAFETY: the test's own descriptor.
    assert_eq!(unsafe { libc::close(fd) }, 0);
}
