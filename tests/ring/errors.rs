//! What a caller can do wrong, and is told.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::Duration;

use shmhot::hotpath::{Error, OpKind, Options, SharedRing};
use shmhot::status::{Failure, SHMHOT_EFORK, SHMHOT_ETHREAD, SHMHOT_EUNHEALTHY};

use crate::support::{Harness, PATIENCE, in_child, listener, pair, small};

fn refused(options: Options) -> (i32, String) {
    let error = SharedRing::new(options).map(|_| ()).expect_err("these sizes cannot be had");
    (error.status(), error.to_string())
}

#[test]
fn bad_sizes_are_named() {
    for n_bufs in [0, 3, 65536] {
        let (status, text) = refused(Options { n_bufs, ..small() });
        assert_eq!(status, -libc::EINVAL);
        assert_eq!(text, format!("n_bufs is {n_bufs}, and must be a power of two, 1 to 32768"));
    }
    for queue_depth in [0, 32769, u32::MAX] {
        let (status, text) = refused(Options { queue_depth, ..small() });
        assert!(status == -libc::EINVAL && text.starts_with("queue_depth is"), "{text}");
    }
    for buf_size in [0, (1 << 30) + 1, u32::MAX] {
        let (status, text) = refused(Options { buf_size, ..small() });
        assert!(status == -libc::EINVAL && text.starts_with("buf_size is"), "{text}");
    }
    let (status, text) = refused(Options { n_bufs: 32768, buf_size: 1 << 30, ..small() });
    assert!(status == -libc::ENOMEM && text.contains("n_bufs receive buffers"), "{status} {text}");
}

#[test]
fn odd_sizes_work() {
    for (queue_depth, n_bufs, buf_size) in [(1, 1, 1), (3, 2, 7), (1000, 32768, 16)] {
        let harness = Harness::new(Options { queue_depth, n_bufs, buf_size, ..small() });
        let (listener, address) = listener();
        let (fd, client) = harness.accept_one(&listener, address);
        let mut written = &client;
        std::io::Write::write_all(&mut written, b"twenty-three bytes here").unwrap();
        let mut bytes = Vec::new();
        harness.until("all bytes", |harness, completion| {
            if completion.op_kind == OpKind::Recv as u8 {
                bytes.extend(harness.take_bytes(completion));
            }
            bytes.len() == 23
        });
        assert_eq!(bytes, b"twenty-three bytes here");
        harness.closes(fd);
    }
}

#[test]
fn another_thread_is_refused_and_the_maker_need_not_be_the_owner() {
    let harness = Harness::new(small());
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(harness.wait(0, Duration::ZERO).is_empty())).join().unwrap();
        // That thread is gone; the ring is still its.
        let error = harness.with(|ring| ring.flush()).expect_err("another thread");
        assert_eq!(error.status(), SHMHOT_ETHREAD);
        harness.ring.wake().unwrap();
    });
}

#[test]
fn any_thread_may_drive_a_ring_made_for_it_one_at_a_time() {
    let harness = Harness::new(Options { any_thread: true, ..small() });
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    std::thread::scope(|scope| {
        for round in 0..20u8 {
            let harness = &harness;
            // Each of these threads ends with its receive armed: the next one goes on with it.
            let mut writer = client.try_clone().unwrap();
            scope
                .spawn(move || {
                    std::io::Write::write_all(&mut writer, &[round]).unwrap();
                    let got = harness.expect(OpKind::Recv);
                    assert_eq!(harness.take_bytes(got), [round]);
                    harness.must(|ring| ring.send(fd, &[round], true));
                    harness.must(|ring| ring.flush());
                })
                .join()
                .unwrap();
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
        // Two at once: one waits, the other is told so.
        let waiting = scope.spawn(|| harness.expect(OpKind::Wake));
        let busy = loop {
            match harness.with(|ring| ring.flush()) {
                Err(error) => break error,
                Ok(()) => std::thread::yield_now(),
            }
        };
        assert_eq!(busy.status(), -libc::EBUSY);
        harness.ring.wake().unwrap();
        waiting.join().unwrap();
    });
    harness.closes(fd);
}

#[test]
fn a_forked_child_is_refused_and_does_no_harm() {
    let harness = Harness::new(small());
    let (listener, address) = listener();
    let (fd, mut client) = harness.accept_one(&listener, address);
    // SAFETY: the child calls only the ring, which refuses, and drops its handle.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = harness.with(|ring| ring.flush()).is_err_and(|error| error.status() == SHMHOT_EFORK);
        let wake = harness.ring.wake().is_err_and(|error| error.status() == SHMHOT_EFORK);
        drop(harness);
        // SAFETY: ends the child without running anything else.
        unsafe { libc::_exit(if refused && wake { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child was not refused");
    std::io::Write::write_all(&mut client, b"still here").unwrap();
    let got = harness.expect(OpKind::Recv);
    assert_eq!(harness.take_bytes(got), b"still here");
    harness.closes(fd);
}

#[test]
fn buffers_are_released_once_and_only_by_who_holds_them() {
    let harness = Harness::new(small());
    let (fd, mut client) = pair();
    harness.must(|ring| ring.submit_recv(fd));
    std::io::Write::write_all(&mut client, b"x").unwrap();
    let got = harness.expect(OpKind::Recv);
    for id in [-1, 16, i32::MAX, i32::MIN] {
        let error = harness.with(|ring| ring.release(id)).expect_err("out of range");
        assert_eq!(error.status(), -libc::EINVAL);
    }
    harness.must(|ring| ring.release(got.buf_id));
    for id in 0..16 {
        let error = harness.with(|ring| ring.release(id)).expect_err("not held");
        assert_eq!(error.status(), -libc::EALREADY, "{error}");
        assert!(harness.with(|ring| ring.buffer(id)).is_err());
    }
    // Nothing was given twice: what follows comes through each buffer once.
    let mut seen = [0; 16];
    for _ in 0..16 {
        std::io::Write::write_all(&mut client, b"y").unwrap();
        seen[harness.expect(OpKind::Recv).buf_id as usize] += 1;
    }
    assert_eq!(seen, [1; 16]);
    harness.closes(fd);
}

#[test]
fn what_makes_no_sense_on_a_descriptor_is_refused() {
    let harness = Harness::new(small());
    let (listener, _) = listener();
    let (fd, _client) = pair();
    let status = |result: Result<(), Error>| result.expect_err("refused").status();
    assert_eq!(status(harness.with(|ring| ring.submit_recv(-1))), -libc::EBADF);
    assert_eq!(status(harness.with(|ring| ring.submit_accept(i32::MIN))), -libc::EBADF);
    assert_eq!(status(harness.with(|ring| ring.submit_recv(i32::MAX))), -libc::EBADF);
    assert_eq!(status(harness.with(|ring| ring.send(1 << 30, b"x", false))), -libc::EBADF);
    assert_eq!(status(harness.with(|ring| ring.forget(fd))), -libc::ENOENT);
    assert_eq!(status(harness.with(|ring| ring.cancel(fd, 0))), -libc::ENOENT);
    assert_eq!(status(harness.with(|ring| ring.pause(fd))), -libc::ENOENT);
    assert_eq!(status(harness.with(|ring| ring.cancel_timeout(7))), -libc::ENOENT);
    assert_eq!(status(harness.with(|ring| ring.submit_connect(fd, &[0; 200]))), -libc::EINVAL);
    harness.must(|ring| ring.submit_recv(fd));
    assert_eq!(status(harness.with(|ring| ring.submit_recv(fd))), -libc::EALREADY);
    assert_eq!(status(harness.with(|ring| ring.submit_accept(fd))), -libc::EINVAL);
    harness.must(|ring| ring.submit_accept(listener.as_raw_fd()));
    assert_eq!(status(harness.with(|ring| ring.submit_accept(listener.as_raw_fd()))), -libc::EALREADY);
    assert_eq!(status(harness.with(|ring| ring.send(listener.as_raw_fd(), b"x", false))), -libc::ENOTCONN);
    harness.must(|ring| ring.submit_close(fd, None));
    assert_eq!(status(harness.with(|ring| ring.send(fd, b"x", false))), -libc::ESHUTDOWN);
    assert_eq!(status(harness.with(|ring| ring.submit_recv(fd))), -libc::ESHUTDOWN);
    assert_eq!(harness.expect(OpKind::Close).result, 0);
    assert_eq!(status(harness.with(|ring| ring.send(fd, b"x", false))), -libc::ENOENT);
    assert_eq!(status(harness.with(|ring| ring.submit_close(fd, None))), -libc::ENOENT);
    assert_eq!(status(harness.with(|ring| ring.set_idle_timeout(fd, PATIENCE))), -libc::ENOENT);
    harness.must(|ring| ring.forget(fd));
    assert_eq!(status(harness.with(|ring| ring.forget(fd))), -libc::ENOENT);
    // What is no socket says so by its completion.
    let file = std::fs::File::open("/dev/null").unwrap();
    harness.must(|ring| ring.submit_recv(file.as_raw_fd()));
    assert_eq!(harness.expect(OpKind::Recv).result, -i64::from(libc::ENOTSOCK));
}

#[test]
fn a_call_inside_a_call_is_refused() {
    let harness = Harness::new(small());
    let inner = harness.must(|_| Ok(harness.with(|ring| ring.flush()).map_err(|error| error.status())));
    assert_eq!(inner, Err(-libc::EBUSY));
    harness.must(|ring| ring.flush());
}

#[test]
fn a_ring_that_was_given_up_refuses_and_ends_its_wait() {
    let harness = Harness::new(small());
    std::thread::scope(|scope| {
        let owner = scope.spawn(|| {
            assert_eq!(harness.wait(1, PATIENCE).len(), 1);
            harness.with(|ring| ring.flush()).expect_err("unhealthy").status()
        });
        std::thread::sleep(Duration::from_millis(20));
        harness.ring.force_unhealthy();
        assert_eq!(owner.join().unwrap(), SHMHOT_EUNHEALTHY);
    });
    assert!(!harness.ring.is_healthy());
}

#[test]
fn a_panic_inside_gives_the_ring_up() {
    let harness = Harness::new(small());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        harness.must(|_| -> shmhot::hotpath::Result<()> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    assert!(!harness.ring.is_healthy());
}

#[test]
fn too_much_to_send_is_refused_and_later_taken() {
    let harness = Harness::new(Options { max_queued_bytes: 100_000, max_queued_total: 150_000, ..small() });
    let (fd, mut client) = pair();
    let (other, mut other_client) = pair();
    let megabyte = vec![7u8; 1 << 20];
    harness.must(|ring| ring.send(fd, &megabyte, false)); // nothing was queued: taken, however much it is
    let error = harness.with(|ring| ring.send(fd, b"x", false)).expect_err("the connection's bound");
    assert_eq!(error.status(), -libc::EAGAIN);
    assert!(harness.with(|ring| ring.send(other, b"x", false)).is_err(), "the ring's bound");
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        client.read_exact(&mut bytes).unwrap();
        client
    });
    assert_eq!(harness.expect(OpKind::Send).result, 1 << 20);
    let client = reader.join().unwrap();
    harness.must(|ring| ring.send(other, b"x", false));
    assert_eq!(harness.expect(OpKind::Send).result, 1);
    other_client.read_exact(&mut [0]).unwrap();
    assert_eq!(harness.must(|ring| Ok(ring.stats())).sends_refused, 2);
    drop(client);
    harness.closes(fd);
    harness.closes(other);
}

/// Has the kernel refuse io_uring_setup to this thread, as sandboxes do.
fn refuse_io_uring(errno: i32) {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: a well-formed program, which lives during the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

#[test]
fn a_sandbox_that_refuses_io_uring_is_named() {
    assert!(shmhot::hotpath::supported());
    for (errno, part) in [(libc::EPERM, "sandbox"), (libc::ENOSYS, "no io_uring"), (libc::ENOMEM, "RLIMIT_MEMLOCK")] {
        std::thread::spawn(move || {
            refuse_io_uring(errno);
            assert!(!shmhot::hotpath::supported());
            let error = shmhot::hotpath::probe().expect_err("refused");
            assert_eq!(error.status(), -errno);
            assert!(error.to_string().contains(part), "{error}");
            let (status, text) = refused(small());
            assert_eq!((status, text), (-errno, error.to_string()));
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_ring_whose_descriptor_was_closed_says_so_and_is_given_up() {
    in_child("errors::closed_descriptor_child");
}

#[test]
#[ignore = "a part of a_ring_whose_descriptor_was_closed_says_so_and_is_given_up"]
fn closed_descriptor_child() {
    let harness = Harness::new(small());
    harness.must(|ring| ring.flush());
    for fd in 3..64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        if link.is_ok_and(|link| link.to_string_lossy().contains("[io_uring]")) {
            // SAFETY: what a careless host does; nothing else uses the number in this process.
            unsafe { libc::close(fd) };
        }
    }
    harness.ring.wake().unwrap();
    let error =
        harness.with(|ring| ring.wait(1, Some(PATIENCE), &mut [std::mem::MaybeUninit::uninit(); 4])).expect_err("gone");
    assert_eq!(error.status(), -libc::EBADF, "{error}");
    assert!(!harness.ring.is_healthy());
    assert_eq!(harness.with(|ring| ring.flush()).expect_err("gone").status(), SHMHOT_EUNHEALTHY);
}
