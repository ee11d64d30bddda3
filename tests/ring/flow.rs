//! Many bytes and many connections: all of them, in order, with too few buffers and with slow peers.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use shmhot::hotpath::{Completion, OpKind, Options};

use crate::support::{Harness, PATIENCE, Random, is_pattern, listener, pair, pattern, read_to_end, small};

/// Reads what must be the first `len` bytes of the pattern.
fn read_pattern(stream: &mut TcpStream, len: usize) {
    let mut bytes = vec![0; 1 << 16];
    let mut at = 0;
    while at < len {
        let got = stream.read(&mut bytes[..(1 << 16).min(len - at)]).unwrap();
        assert!(got > 0, "the stream ended at {at} of {len}");
        assert!(is_pattern(&bytes[..got], at), "wrong bytes at {at}");
        at += got;
    }
}

/// Writes the first `len` bytes of the pattern in odd chunks.
fn write_pattern(stream: &mut TcpStream, len: usize, seed: u64) {
    let mut random = Random(seed | 1);
    let mut at = 0;
    while at < len {
        let from = at % pattern().len();
        let chunk = (1 + random.below(50_000)).min(len - at).min(pattern().len() - from);
        stream.write_all(&pattern()[from..from + chunk]).unwrap();
        at += chunk;
    }
}

#[test]
fn four_buffers_serve_sixty_four_clients() {
    const EACH: usize = 1 << 20;
    let harness = Harness::new(Options { n_bufs: 4, ..small() });
    let mut connections: Vec<_> = (0..64).map(|_| pair()).collect();
    let mut received: HashMap<RawFd, usize> = HashMap::new();
    for (fd, _) in &connections {
        harness.must(|ring| ring.submit_recv(*fd));
    }
    std::thread::scope(|scope| {
        for (fd, client) in &mut connections {
            let seed = *fd as u64;
            scope.spawn(move || write_pattern(client, EACH, seed));
        }
        // Buffers are kept for a while, so that the kernel runs out of them.
        let mut held: Vec<Completion> = Vec::new();
        let mut done = 0;
        harness.until("64 MiB", |harness, completion| {
            held.push(completion);
            if held.len() == 4 {
                for completion in held.drain(..) {
                    let at = received.entry(completion.fd).or_default();
                    let bytes = harness.take_bytes(completion);
                    assert!(is_pattern(&bytes, *at), "{} at {at}", completion.fd);
                    *at += bytes.len();
                    done += bytes.len();
                }
            }
            done + held.iter().map(|completion| completion.result as usize).sum::<usize>() == 64 * EACH
        });
    });
    assert!(harness.must(|ring| Ok(ring.stats())).starvations > 0);
    assert!(received.len() == 64);
}

#[test]
fn a_free_buffer_finds_who_has_something_to_fill_it_with() {
    let harness = Harness::new(Options { n_bufs: 1, ..small() });
    let (holder, mut client) = pair();
    harness.must(|ring| ring.submit_recv(holder));
    client.write_all(b"x").unwrap();
    let held = harness.expect(OpKind::Recv);
    // Many that wait for a buffer before the one that needs it.
    let idle: Vec<_> = (0..20).map(|_| pair()).collect();
    let (busy, mut client) = pair();
    client.write_all(b"y").unwrap();
    for (fd, _) in &idle {
        harness.must(|ring| ring.submit_recv(*fd));
    }
    harness.must(|ring| ring.submit_recv(busy));
    harness.expect_nothing_for(Duration::from_millis(5));
    harness.must(|ring| ring.release(held.buf_id));
    let got = harness.wait(1, PATIENCE);
    assert!(got.len() == 1 && got[0].fd == busy, "{got:?}");
    harness.take_bytes(got[0]);
    for fd in idle.iter().map(|(fd, _)| *fd).chain([holder, busy]) {
        harness.closes(fd);
    }
}

#[test]
fn ten_thousand_sends_in_a_row_arrive_whole_and_in_order() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    let mut random = Random(7);
    let mut sizes = Vec::new();
    let mut at = 0;
    while sizes.len() < 10_000 {
        let size = random.below(300).min(pattern().len() - at % pattern().len());
        let bytes = &pattern()[at % pattern().len()..][..size];
        let sent = if sizes.len() % 2 == 0 {
            harness.with(|ring| ring.send(fd, bytes, false))
        } else {
            let (first, second) = bytes.split_at(size / 2);
            let segments = [first, second].map(|half| shmhot::hotpath::Segment::new(half.as_ptr(), half.len()));
            // SAFETY: the pattern is static.
            harness.with(|ring| unsafe { ring.send_borrowed(fd, &segments, false, None) })
        };
        sent.unwrap();
        sizes.push(size as i64);
        at += size;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| read_pattern(&mut client, at));
        let mut told = Vec::new();
        harness.until("all sends", |_, completion| {
            assert_eq!(completion.op_kind, OpKind::Send as u8);
            told.push(completion.result);
            told.len() == sizes.len()
        });
        assert_eq!(told, sizes);
    });
    harness.closes(fd);
}

#[test]
fn a_peer_that_never_reads_stops_nobody_else() {
    let harness = Harness::new(small());
    let (stuck, _never_read) = pair();
    let (fd, mut client) = pair();
    harness.must(|ring| ring.send(stuck, &vec![1; 8 << 20], false));
    for round in 0..1000u32 {
        harness.must(|ring| ring.send(fd, &round.to_ne_bytes(), true));
        harness.wait(0, Duration::ZERO);
        let mut bytes = [0; 4];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, round.to_ne_bytes());
    }
    harness.must(|ring| ring.submit_close(stuck, Some(Duration::ZERO)));
    assert_eq!(harness.expect(OpKind::Send).result, -i64::from(libc::ECANCELED));
    assert_eq!(harness.expect(OpKind::Close).result, 0);
    harness.closes(fd);
}

#[test]
fn completions_that_overflow_the_queue_are_not_lost() {
    // Room for 64 completions in the kernel's queue, and 400 connections that all have something to say.
    let harness = Harness::new(Options { queue_depth: 1, n_bufs: 512, buf_size: 64, ..small() });
    let connections: Vec<_> = (0..400).map(|_| pair()).collect();
    for (fd, _) in &connections {
        harness.must(|ring| ring.submit_recv(*fd));
    }
    harness.must(|ring| ring.flush());
    let mut words: HashMap<RawFd, Vec<u8>> = HashMap::new();
    for round in 0..3u8 {
        for (_, client) in &connections {
            (&*client).write_all(&[round]).unwrap();
        }
        let mut seen = 0;
        harness.until("all words", |harness, completion| {
            words.entry(completion.fd).or_default().extend(harness.take_bytes(completion));
            seen += 1;
            seen == connections.len()
        });
    }
    assert!(words.values().all(|word| word == &[0, 1, 2]));
    for (fd, _) in &connections {
        harness.closes(*fd);
    }
}

/// Echoes whatever comes on connections that `listener` gives, until each has sent `bytes` bytes.
fn echo(harness: &Harness, listener: RawFd, clients: usize, zero_copy: bool) {
    harness.must(|ring| ring.submit_accept(listener));
    let mut open = clients;
    harness.until("the end of all connections", |harness, completion| {
        match completion.op_kind {
            kind if kind == OpKind::Accept as u8 => harness.must(|ring| ring.submit_recv(completion.result as RawFd)),
            kind if kind == OpKind::Recv as u8 && completion.result > 0 => harness.must(|ring| {
                let (fd, id) = (completion.fd, completion.buf_id);
                if zero_copy {
                    return ring.send_buffer(fd, id, 0, completion.result as u32, true);
                }
                let (base, len) = ring.buffer(id)?;
                // SAFETY: the buffer is held until the release below.
                ring.send(fd, unsafe { std::slice::from_raw_parts(base, len as usize) }, true)?;
                ring.release(id)
            }),
            kind if kind == OpKind::Recv as u8 => {
                assert_eq!(completion.result, 0);
                harness.must(|ring| ring.submit_close(completion.fd, None));
            }
            kind => {
                assert_eq!((kind, completion.result), (OpKind::Close as u8, 0));
                open -= 1;
            }
        }
        open == 0
    });
}

fn echo_pattern(options: Options, clients: usize, each: usize, zero_copy: bool) {
    let harness = Harness::new(options);
    let (listener, address) = listener();
    std::thread::scope(|scope| {
        for seed in 0..clients as u64 {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut writer = client.try_clone().unwrap();
            scope.spawn(move || {
                write_pattern(&mut writer, each, seed + 1);
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                read_pattern(&mut client, each);
                assert!(read_to_end(&mut client).is_empty());
            });
        }
        // The clients' deadlines are per read; all of it may take longer than the patience of one wait.
        echo(&harness, listener.as_raw_fd(), clients, zero_copy);
    });
    let stats = harness.must(|ring| Ok(ring.stats()));
    assert_eq!((stats.buffers_held, stats.connections), (0, 0));
}

#[test]
fn a_gibibyte_comes_back_as_it_was_sent() {
    echo_pattern(
        Options { n_bufs: 256, buf_size: 16384, max_queued_bytes: 1 << 32, max_queued_total: 1 << 32, ..small() },
        4,
        256 << 20,
        false,
    );
}

#[test]
fn a_gibibyte_comes_back_without_a_copy_through_few_buffers() {
    echo_pattern(Options { n_bufs: 16, buf_size: 10_007, ..small() }, 4, 64 << 20, true);
}

#[test]
fn ten_thousand_connections_are_open_at_once() {
    const CONNECTIONS: usize = 10_000;
    raise_descriptor_limit();
    let harness = Harness::new(Options { queue_depth: 1024, n_bufs: 256, buf_size: 512, ..small() });
    let (listener, address) = listener();
    // SAFETY: a listener of our own; a longer queue for the onrush.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 4096) }, 0);
    harness.must(|ring| ring.submit_accept(listener.as_raw_fd()));
    harness.must(|ring| ring.flush());
    // The other ends live in a process of their own, since one may not have 20,000 descriptors.
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "flow::many_clients_child", "--ignored", "--nocapture"])
        .env("SHMHOT_TEST_ADDRESS", address.to_string())
        .env("SHMHOT_TEST_CONNECTIONS", CONNECTIONS.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut accepted, mut most, mut echoed, mut closed) = (0, 0, 0, 0);
    harness.until("ten thousand connections", |harness, completion| {
        match completion.op_kind {
            1 => {
                assert!(completion.result >= 0, "{completion:?}");
                accepted += 1;
                most = most.max(accepted - closed);
                harness.must(|ring| ring.submit_recv(completion.result as RawFd));
            }
            2 if completion.result > 0 => {
                echoed += 1;
                harness
                    .must(|ring| ring.send_buffer(completion.fd, completion.buf_id, 0, completion.result as u32, true));
            }
            2 => harness.must(|ring| ring.submit_close(completion.fd, None)),
            _ => closed += 1,
        }
        closed == CONNECTIONS
    });
    assert!(clients.wait().unwrap().success());
    assert_eq!((accepted, most, echoed), (CONNECTIONS, CONNECTIONS, CONNECTIONS));
}

#[test]
#[ignore = "a part of ten_thousand_connections_are_open_at_once"]
fn many_clients_child() {
    raise_descriptor_limit();
    let address = std::env::var("SHMHOT_TEST_ADDRESS").expect("started by its test");
    let count: usize = std::env::var("SHMHOT_TEST_CONNECTIONS").unwrap().parse().unwrap();
    let mut clients: Vec<_> = (0..count).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.write_all(&(index as u64).to_ne_bytes()).unwrap();
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), index as u64);
    }
}

fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and writes one rlimit.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max.min(20_000);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    assert!(limit.rlim_cur >= 10_100, "this test needs a limit of 10,100 descriptors (ulimit -Hn)");
}
