//! Connections: how they begin and end, and that nothing of one reaches another.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use shmhot::hotpath::{F_ENDED, F_MORE, OpKind, Options};
use shmhot::status::Failure;

use crate::support::{Harness, PATIENCE, in_child, listener, pair, read_to_end, small};

#[test]
fn a_connection_from_its_accept_to_its_close() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let (fd, mut client) = harness.accept_one(&listener, address);
    // SAFETY: asks about an open descriptor.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
    for word in [&b"one"[..], b"two", b"three"] {
        client.write_all(word).unwrap();
        let got = harness.expect(OpKind::Recv);
        assert_eq!((got.fd, got.flags & F_MORE), (fd, F_MORE), "a receive goes on by itself");
        assert_eq!(harness.take_bytes(got), word);
        harness.must(|ring| ring.send(fd, word, false));
        assert_eq!(harness.expect(OpKind::Send).result, word.len() as i64);
        let mut back = vec![0; word.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, word);
    }
    client.shutdown(Shutdown::Write).unwrap();
    let end = harness.expect(OpKind::Recv);
    assert_eq!((end.result, end.buf_id, end.flags & F_MORE), (0, -1, 0));
    harness.closes(fd);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(harness.must(|ring| Ok(ring.stats())).connections, 0);
}

#[test]
fn a_reused_number_never_sees_its_predecessor() {
    in_child("lifecycle::reused_number_child");
}

#[test]
#[ignore = "a part of a_reused_number_never_sees_its_predecessor"]
fn reused_number_child() {
    let harness = Harness::new(Options { n_bufs: 8, ..small() });
    let (listener, address) = listener();
    harness.must(|ring| ring.submit_accept(listener.as_raw_fd()));
    let mut last = -1;
    let mut reused = 0;
    for round in 0..1000u32 {
        let mut client = TcpStream::connect(address).unwrap();
        let mut fd = -1;
        harness.until("the accept", |harness, completion| {
            if completion.op_kind == OpKind::Recv as u8 {
                // The host has closed this number without a word: its last ones may come until it is accepted anew.
                assert_eq!((round % 3, completion.fd), (2, last));
                if completion.result > 0 {
                    assert_eq!(harness.take_bytes(completion), b"late");
                }
            } else {
                assert_eq!(completion.op_kind, OpKind::Accept as u8);
                fd = completion.result as RawFd;
            }
            fd >= 0
        });
        reused += u32::from(fd == last);
        last = fd;
        harness.must(|ring| ring.submit_recv(fd));
        client.write_all(&round.to_ne_bytes()).unwrap();
        let got = harness.expect(OpKind::Recv);
        assert_eq!(harness.take_bytes(got), round.to_ne_bytes(), "round {round}");
        // A late word of this client, which nobody is to hear.
        client.write_all(b"late").unwrap();
        match round % 3 {
            0 => {
                harness.must(|ring| ring.forget(fd));
                // SAFETY: forgotten: the number is ours to close.
                unsafe { libc::close(fd) };
            }
            // A host that closes without a word: the accept of the next one tells.
            // SAFETY: the number is ours to close.
            1 => unsafe {
                libc::close(fd);
            },
            _ => {
                harness.must(|ring| ring.submit_close(fd, None));
                harness.until("the close", |_, completion| completion.op_kind == OpKind::Close as u8);
            }
        }
    }
    assert!(reused > 900, "only {reused} times the same number");
    let stats = harness.must(|ring| Ok(ring.stats()));
    assert_eq!(stats.buffers_held, 0);
    // Every buffer is still there: they all get used once more.
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    let mut held = Vec::new();
    while held.len() < 8 {
        client.write_all(b"x").unwrap();
        held.push(harness.expect(OpKind::Recv).buf_id);
    }
    held.sort_unstable();
    assert_eq!(held, (0..8).collect::<Vec<_>>());
    harness.closes(fd);
}

/// What a caller does about a connection that is gone already must not hit the one that has its number now.
#[test]
fn late_commands_do_not_reach_the_successor_of_a_number() {
    in_child("lifecycle::late_commands_child");
}

#[test]
#[ignore = "a part of late_commands_do_not_reach_the_successor_of_a_number"]
fn late_commands_child() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let (fd, _first) = harness.accept_one(&listener, address);
    // The next client is accepted right after the first one's number has become free.
    harness.must(|ring| ring.pause(listener.as_raw_fd()));
    harness.wait(1, Duration::from_millis(20));
    let mut second = TcpStream::connect(address).unwrap();
    harness.must(|ring| {
        ring.submit_close(fd, None)?;
        ring.resume(listener.as_raw_fd())
    });
    let batch = harness.wait(2, PATIENCE);
    assert_eq!((batch.len(), batch[0].op_kind), (1, OpKind::Close as u8), "{batch:?}");
    for late in [
        harness.with(|ring| ring.submit_close(fd, Some(Duration::ZERO))),
        harness.with(|ring| ring.send(fd, b"late", true)),
        harness.with(|ring| ring.submit_recv(fd)),
        harness.with(|ring| ring.forget(fd)),
    ] {
        assert_eq!(late.expect_err("of the first connection").status(), -libc::ENOENT);
    }
    let accepted = harness.expect(OpKind::Accept);
    assert_eq!(accepted.result, i64::from(fd), "the number came back");
    harness.must(|ring| ring.submit_recv(fd));
    second.write_all(b"hello").unwrap();
    let got = harness.expect(OpKind::Recv);
    assert_eq!(harness.take_bytes(got), b"hello");
    harness.closes(fd);
}

#[test]
fn connections_that_end_while_they_wait_for_a_buffer_leave_nothing_behind() {
    let harness = Harness::new(Options { n_bufs: 1, ..small() });
    let (holder, mut client) = pair();
    harness.must(|ring| ring.submit_recv(holder));
    for round in 0..50u8 {
        client.write_all(b"x").unwrap();
        let held = harness.expect(OpKind::Recv);
        let starved: Vec<_> = (0..3).map(|_| pair()).collect();
        for (fd, client) in &starved {
            (&*client).write_all(b"unread").unwrap();
            harness.must(|ring| ring.submit_recv(*fd));
        }
        harness.expect_nothing_for(Duration::from_millis(2));
        for (fd, _) in &starved {
            harness.closes(*fd);
        }
        harness.must(|ring| ring.release(held.buf_id));
        harness.wait(0, Duration::ZERO);
        // Each of those that come after them is a connection of its own.
        let fresh: Vec<_> = (0..6).map(|_| pair()).collect();
        for (fd, _) in &fresh {
            harness.must(|ring| ring.submit_recv(*fd));
        }
        for (fd, client) in &fresh {
            (&*client).write_all(&[round]).unwrap();
            let got = harness.expect(OpKind::Recv);
            assert_eq!((got.fd, harness.take_bytes(got)), (*fd, vec![round]));
        }
        for (fd, _) in fresh {
            harness.closes(fd);
        }
    }
    harness.closes(holder);
    assert_eq!(harness.must(|ring| Ok(ring.stats())).connections, 0);
}

#[test]
fn closing_sends_everything_first() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    harness.must(|ring| ring.flush());
    let megabytes = vec![9u8; 20 << 20];
    harness.must(|ring| {
        ring.send(fd, &megabytes[..5 << 20], false)?;
        ring.submit_close(fd, Some(PATIENCE))
    });
    let reader = std::thread::spawn(move || read_to_end(&mut client).len());
    assert_eq!(harness.expect(OpKind::Send).result, 5 << 20);
    assert_eq!(harness.expect(OpKind::Close).result, 0);
    assert_eq!(reader.join().unwrap(), 5 << 20);
}

#[test]
fn closing_has_a_deadline_when_asked_for() {
    let harness = Harness::new(Options { max_queued_bytes: 1 << 30, ..small() });
    let (fd, mut client) = pair();
    let (other, other_client) = pair();
    let megabytes = vec![9u8; 20 << 20];
    let start = Instant::now();
    harness.must(|ring| {
        ring.submit_recv(fd)?;
        ring.send(fd, &megabytes, false)?;
        ring.send(fd, b"behind it", true)?; // quiet, but a failure is told
        ring.submit_close(fd, Some(Duration::from_millis(60)))
    });
    assert_eq!(harness.expect(OpKind::Send).result, -i64::from(libc::ECANCELED));
    assert_eq!(harness.expect(OpKind::Send).result, -i64::from(libc::ECANCELED));
    assert_eq!(harness.expect(OpKind::Close).result, -i64::from(libc::ETIMEDOUT));
    assert!(start.elapsed() >= Duration::from_millis(60) && start.elapsed() < PATIENCE);
    assert!(read_to_end(&mut client).len() < megabytes.len());
    // At once, also after a close that waits.
    harness.must(|ring| {
        ring.send(other, &megabytes, false)?;
        ring.submit_close(other, None)
    });
    harness.expect_silence();
    harness.must(|ring| ring.submit_close(other, Some(Duration::ZERO)));
    assert_eq!(harness.expect(OpKind::Send).result, -i64::from(libc::ECANCELED));
    assert_eq!(harness.expect(OpKind::Close).result, 0);
    drop(other_client);
}

#[test]
fn a_half_closed_connection_goes_on_in_the_other_direction() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| {
        ring.submit_recv(fd)?;
        ring.send(fd, b"last words", false)?;
        ring.submit_shutdown(fd)
    });
    assert_eq!(harness.expect(OpKind::Send).result, 10);
    assert_eq!(harness.expect(OpKind::Shutdown).result, 0);
    assert_eq!(read_to_end(&mut client), b"last words");
    let error = harness.with(|ring| ring.send(fd, b"more", false)).expect_err("shut down");
    assert_eq!(error.status(), -libc::EPIPE);
    client.write_all(b"still listening?").unwrap();
    let got = harness.expect(OpKind::Recv);
    assert_eq!(harness.take_bytes(got), b"still listening?");
    drop(client);
    assert_eq!(harness.expect(OpKind::Recv).result, 0);
    harness.closes(fd);
}

#[test]
fn a_reset_is_an_error_of_the_receive_and_of_sends() {
    let harness = Harness::new(small());
    let (fd, client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    harness.must(|ring| ring.flush());
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: a linger of the right size; closing resets.
    unsafe {
        let size = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size);
    }
    drop(client);
    let reset = harness.expect(OpKind::Recv);
    assert_eq!((reset.result, reset.flags & F_MORE), (-i64::from(libc::ECONNRESET), 0));
    harness.must(|ring| ring.send(fd, b"hello?", true)); // no SIGPIPE: this process would be gone
    assert_eq!(harness.expect(OpKind::Send).result, -i64::from(libc::EPIPE));
    assert!(harness.with(|ring| ring.send(fd, b"hello?", false)).is_err_and(|error| error.status() == -libc::EPIPE));
    harness.closes(fd);
}

fn tcp_socket() -> OwnedFd {
    // SAFETY: a new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)) }
}

/// The address of a port on loopback.
fn ipv4(port: u16) -> libc::sockaddr_in {
    // SAFETY: an all-zero sockaddr_in is valid.
    let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = port.to_be();
    name.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    name
}

#[test]
fn connecting_takes_sends_and_receives_along() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let connecting = |harness: &Harness, port: u16| {
        let (fd, name) = (tcp_socket().into_raw_fd(), ipv4(port));
        // SAFETY: plain old data.
        let name = unsafe { std::slice::from_raw_parts((&raw const name).cast::<u8>(), size_of_val(&name)) };
        harness.must(|ring| ring.submit_connect(fd, name));
        fd
    };
    let fd = connecting(&harness, address.port());
    harness.must(|ring| {
        ring.send(fd, b"ping", true)?;
        ring.submit_recv(fd)
    });
    assert_eq!(harness.expect(OpKind::Connect).result, 0);
    harness.wait(0, Duration::ZERO);
    let (mut server, _) = listener.accept().unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    server.write_all(b"pong").unwrap();
    let got = harness.expect(OpKind::Recv);
    assert_eq!(harness.take_bytes(got), b"pong");
    harness.closes(fd);
    // To nobody.
    drop(listener);
    let fd = connecting(&harness, address.port());
    harness.must(|ring| ring.send(fd, b"ping", false));
    let mut results = Vec::new();
    harness.until("both answers", |_, completion| {
        results.push((completion.op_kind, completion.result));
        results.len() == 2
    });
    let refused = -i64::from(libc::ECONNREFUSED);
    assert_eq!(results, [(OpKind::Connect as u8, refused), (OpKind::Send as u8, refused)]);
    harness.closes(fd);
}

#[test]
fn cancelling_ends_each_operation_with_its_completion() {
    let harness = Harness::new(small());
    let (listener, _) = listener();
    let (fd, mut client) = pair();
    harness.must(|ring| {
        ring.submit_accept(listener.as_raw_fd())?;
        ring.submit_recv(fd)?;
        ring.flush()?;
        ring.cancel(listener.as_raw_fd(), 0)?;
        ring.cancel(fd, 1 << OpKind::Recv as u32)
    });
    let mut cancelled = Vec::new();
    harness.until("both", |_, completion| {
        assert_eq!((completion.result, completion.flags & F_MORE), (-i64::from(libc::ECANCELED), 0));
        cancelled.push(completion.op_kind);
        cancelled.len() == 2
    });
    cancelled.sort_unstable();
    assert_eq!(cancelled, [OpKind::Accept as u8, OpKind::Recv as u8]);
    // Both may be submitted anew; nothing was lost meanwhile.
    client.write_all(b"kept").unwrap();
    harness.expect_silence();
    harness.must(|ring| ring.submit_recv(fd));
    let got = harness.expect(OpKind::Recv);
    assert_eq!(harness.take_bytes(got), b"kept");
    // A send that is half out.
    let megabytes = vec![3u8; 8 << 20];
    harness.must(|ring| ring.send(fd, &megabytes, false));
    harness.expect_silence();
    harness.must(|ring| ring.cancel(fd, 1 << OpKind::Send as u32));
    assert_eq!(harness.expect(OpKind::Send).result, -i64::from(libc::ECANCELED));
    let error = harness.with(|ring| ring.send(fd, b"x", false)).expect_err("the stream is torn");
    assert_eq!(error.status(), -libc::EPIPE);
    harness.closes(fd);
}

#[test]
fn a_paused_receive_leaves_the_bytes_in_the_socket() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    client.write_all(b"first").unwrap();
    let got = harness.expect(OpKind::Recv);
    harness.take_bytes(got);
    for _ in 0..20 {
        harness.must(|ring| ring.pause(fd));
        harness.wait(1, Duration::from_millis(2));
        client.write_all(b"second").unwrap();
        assert!(harness.wait(1, Duration::from_millis(5)).is_empty());
        harness.must(|ring| ring.resume(fd));
        let got = harness.expect(OpKind::Recv);
        assert_eq!(harness.take_bytes(got), b"second");
    }
    // Pausing and resuming at once changes nothing.
    harness.must(|ring| ring.pause(fd));
    harness.must(|ring| ring.resume(fd));
    client.write_all(b"third").unwrap();
    let got = harness.expect(OpKind::Recv);
    assert_eq!(harness.take_bytes(got), b"third");
    harness.closes(fd);
}

#[test]
fn draining_tells_when_the_last_one_is_gone() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let (fd, client) = harness.accept_one(&listener, address);
    harness.must(|ring| {
        ring.drain(None);
        Ok(())
    });
    harness.expect_silence();
    assert!(harness.with(|ring| ring.submit_accept(listener.as_raw_fd())).is_err());
    let _not_accepted = TcpStream::connect(address).unwrap();
    harness.expect_silence();
    drop(client);
    assert_eq!(harness.expect(OpKind::Recv).result, 0);
    harness.must(|ring| ring.submit_close(fd, None));
    assert_eq!(harness.expect(OpKind::Close).fd, fd);
    assert_eq!(harness.expect(OpKind::Drain).result, 0);
    // With a deadline, those who are left are counted.
    let harness = Harness::new(small());
    let (fd, _client) = pair();
    harness.must(|ring| {
        ring.submit_recv(fd)?;
        ring.drain(Some(Duration::from_millis(30)));
        Ok(())
    });
    assert_eq!(harness.expect(OpKind::Drain).result, 1);
    harness.closes(fd);
}

#[test]
fn forgetting_tells_when_borrowed_bytes_are_free() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    let megabytes = vec![5u8; 8 << 20];
    let segments = [shmhot::hotpath::Segment::new(megabytes.as_ptr(), megabytes.len())];
    harness.must(|ring| {
        ring.submit_recv(fd)?;
        // SAFETY: the bytes live to the end of the test, after the completion.
        unsafe { ring.send_borrowed(fd, &segments, false, None) }?;
        ring.flush()?;
        ring.forget(fd)?;
        ring.flush()
    });
    // SAFETY: forgotten: ours to close.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    let told = harness.expect(OpKind::Send);
    assert_eq!((told.result, told.flags), (-i64::from(libc::ECANCELED), F_ENDED));
    assert!(read_to_end(&mut client).len() < megabytes.len(), "and the peer sees the end of the stream");
    harness.expect_silence();
}

#[test]
fn the_client_that_a_closed_listener_left_behind_is_not_leaked() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let listener_fd = listener.into_raw_fd();
    harness.must(|ring| ring.submit_accept(listener_fd));
    harness.must(|ring| ring.flush());
    let mut client = TcpStream::connect(address).unwrap();
    harness.must(|ring| ring.submit_close(listener_fd, None));
    harness.until("the close", |_, completion| {
        // Either side of the race: accepted before, then it is ours; or after, then it is closed for us.
        if completion.op_kind == OpKind::Accept as u8 {
            // SAFETY: accepted for us.
            unsafe { libc::close(completion.result as RawFd) };
        }
        completion.op_kind == OpKind::Close as u8
    });
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(read_to_end(&mut client).is_empty());
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn accepting_goes_on_after_the_process_ran_out_of_descriptors() {
    in_child("lifecycle::out_of_descriptors_child");
}

#[test]
#[ignore = "a part of accepting_goes_on_after_the_process_ran_out_of_descriptors"]
fn out_of_descriptors_child() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let clients: Vec<_> = (0..5).map(|_| tcp_socket()).collect();
    // Room for four more. The kernel looks at the limit when an accept is submitted.
    let limit = libc::rlimit { rlim_cur: clients[4].as_raw_fd() as u64 + 5, rlim_max: 4096 };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    harness.must(|ring| ring.submit_accept(listener.as_raw_fd()));
    harness.must(|ring| ring.flush());
    let name = ipv4(address.port());
    for client in &clients {
        // SAFETY: a socket and an address of the right size.
        let connected =
            unsafe { libc::connect(client.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as u32) };
        assert_eq!(connected, 0);
    }
    let accepted: Vec<_> = std::iter::repeat_with(|| harness.expect(OpKind::Accept).result as RawFd).take(4).collect();
    let told = harness.expect(OpKind::Accept);
    assert_eq!((told.result, told.flags & F_MORE), (-i64::from(libc::EMFILE), F_MORE));
    let before = harness.must(|ring| Ok(ring.stats())).submissions;
    assert!(harness.wait(1, Duration::from_millis(50)).is_empty(), "no spinning");
    assert!(harness.must(|ring| Ok(ring.stats())).submissions - before < 5);
    harness.must(|ring| ring.submit_close(accepted[0], None));
    let mut seen = Vec::new();
    harness.until("the close and the accept", |_, completion| {
        seen.push((completion.op_kind, completion.result >= 0));
        seen.contains(&(OpKind::Close as u8, true)) && seen.contains(&(OpKind::Accept as u8, true))
    });
    drop(clients);
}

/// Sockets of a host may be non-blocking; the ring does not mind.
#[test]
fn non_blocking_sockets_work() {
    let harness = Harness::new(small());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (fd, mut client) = harness.accept_one(&listener, listener.local_addr().unwrap());
    // SAFETY: an open descriptor.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    client.write_all(b"hello").unwrap();
    let got = harness.expect(OpKind::Recv);
    harness.take_bytes(got);
    let megabytes = vec![4u8; 8 << 20];
    harness.must(|ring| ring.send(fd, &megabytes, false));
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 8 << 20];
        client.read_exact(&mut bytes).unwrap();
    });
    assert_eq!(harness.expect(OpKind::Send).result, 8 << 20);
    reader.join().unwrap();
    harness.closes(fd);
}
