//! Whose a name is: one writer at a time, files of nobody else, links, full disks, and forks.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use shmhot::circbuf::*;
use shmhot::status::Failure;

use crate::support::*;

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn one_writer_at_a_time() {
    let name = Name::new("busy");
    let stream = name.numbered(10);
    let error = CircBuf::create(&name, Options::default()).unwrap_err();
    assert_eq!(error.status(), -libc::EBUSY);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    write(&stream, 3);
    assert_eq!(Reader::new(name.mirror()).numbers(), [0, 1, 2], "nothing was touched");
    stream.detach().unwrap();
    drop(name.create(Options::default()));
}

/// Another layout is a new stream: its header cannot be gone on with.
#[test]
fn another_layout() {
    let name = Name::new("relayout");
    let mut reader = Reader::new(name.mirror());
    for layout in [Layout::V2, Layout::V0, Layout::V1, Layout::V2] {
        let stream = name.create(Options { layout, ..Options::default() });
        stream.configure(&numbers(10), 0.0).unwrap();
        write(&stream, 2);
        let read = until("the frames", || Some(reader.numbers()).filter(|numbers| !numbers.is_empty()));
        assert_eq!(read, [0, 1]);
        assert_eq!(reader.mirror.info().unwrap().layout, Some(layout));
        stream.detach().unwrap();
    }
    name.create(Options::default()).close().unwrap();
    assert!(name.files().is_empty(), "{:?}", name.files());
}

#[test]
fn permissions() {
    for (asked, given) in [(None, 0o600), (Some(0o644), 0o644)] {
        let name = Name::new("mode");
        let mode_of_all = asked.unwrap_or(Options::default().mode);
        let stream = name.create(Options { mode: mode_of_all, ..Options::default() });
        stream.configure(&numbers(10), 0.0).unwrap();
        stream.set_metadata(Some(&Metadata::default())).unwrap();
        for path in [name.header(), name.ring(0), name.metadata(1)] {
            assert_eq!(mode(path), given);
        }
        assert_eq!(mode(name.lock()), 0o600);
    }
}

/// A link is not followed, and what is no file is not opened for good.
#[test]
fn links_and_what_is_no_file() {
    let (name, other) = (Name::new("links"), Name::new("target"));
    let target = other.header();
    fs::write(&target, b"somebody's").unwrap();
    for path in [name.header(), name.lock()] {
        symlink(&target, &path).unwrap();
        expect(CircBuf::create(&name, Options::default()), libc::ELOOP);
        fs::remove_file(path).unwrap();
    }
    for path in [name.ring(0), name.metadata(1)] {
        symlink(&target, path).unwrap();
    }
    let stream = name.numbered(10);
    stream.set_metadata(Some(&Metadata::default())).unwrap();
    stream.close().unwrap();
    assert!(name.files().is_empty());
    assert_eq!(fs::read(&target).unwrap(), b"somebody's");

    let path = name.header();
    fs::create_dir(&path).unwrap();
    expect(CircBuf::create(&name, Options::default()), libc::EISDIR);
    expect(name.mirror().format(), libc::EINVAL);
    fs::remove_dir(&path).unwrap();
    let fifo = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a path.
    done(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) });
    expect(CircBuf::create(&name, Options::default()), libc::EINVAL);
    expect(name.mirror().format(), libc::EINVAL);
}

#[test]
fn another_user() {
    in_child("files::another_user_child");
}

#[test]
#[ignore = "a part of another_user"]
fn another_user_child() {
    let (name, private) = (Name::new("of-root"), Name::new("private"));
    let stream = name.create(Options { mode: 0o644, ..Options::default() });
    stream.configure(&numbers(10), 0.0).unwrap();
    write(&stream, 2);
    let left = Name::new("left");
    drop(fs::write(left.header(), b"what somebody has left"));
    fs::set_permissions(left.header(), Permissions::from_mode(0o666)).unwrap();
    let hidden = private.numbered(10);
    let reading = || {
        // Root may do everything, so this thread becomes nobody: the bare system call concerns no other thread.
        // SAFETY: changes nothing but the thread's user.
        if unsafe { libc::geteuid() } == 0 && unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) } != 0
        {
            println!("SKIP another user: root here, and cannot be anybody else");
            return;
        }
        assert!(OpenOptions::new().write(true).open(name.header()).is_err(), "it may be written to");
        let mut reader = Reader::new(name.mirror());
        assert_eq!(reader.numbers(), [0, 1]);
        expect(CircBuf::create(&name, Options::default()), libc::EACCES);
        expect(CircBuf::create(&left, Options::default()), libc::EPERM);
        expect(private.mirror().format(), libc::EACCES);
        // Nobody wakes it, so it looks now and then.
        say_ready("");
        assert_eq!(reader.mirror.wait(1, Some(PATIENCE)).unwrap(), Awaited::Frames(1));
        assert_eq!(reader.numbers(), [2]);
        assert_eq!(reader.mirror.wait(1, Some(Duration::from_millis(10))).unwrap(), Awaited::Nothing);
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(reading);
        std::thread::sleep(Duration::from_millis(100));
        write(&stream, 1);
        reader.join().unwrap();
    });
    drop(hidden);
}

#[test]
fn no_room() {
    in_child("files::no_room_child");
}

#[test]
#[ignore = "a part of no_room"]
fn no_room_child() {
    // A small /dev/shm, for this thread alone.
    // SAFETY: strings, and system calls that concern this thread.
    let is_small = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(c"small".as_ptr(), c"/dev/shm".as_ptr(), c"tmpfs".as_ptr(), 0, c"size=64k".as_ptr().cast())
                == 0
    };
    if !is_small {
        println!("SKIP no room: no /dev/shm of our own is to be had");
        return;
    }
    let name = Name::new("full");
    let stream = name.numbered(100);
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    assert_eq!(reader.numbers(), [0, 1, 2]);
    let files = name.files();
    for _ in 0..3 {
        expect(stream.configure(&numbers(10_000), 0.0), libc::ENOSPC);
        let huge = format!(r#"{{"key": "{}"}}"#, "x".repeat(100_000));
        expect(stream.set_metadata(Some(&Metadata::from_json(&huge).unwrap())), libc::ENOSPC);
    }
    assert_eq!(name.files(), files, "something was left");
    write(&stream, 3);
    assert_eq!(reader.numbers(), [3, 4, 5], "the stream is as it was");
    assert!(stream.configure(&numbers(200), 0.0).unwrap());
    write(&stream, 1);
    assert_eq!(reader.numbers(), [6]);
    let other = Name::new("more");
    fs::write("/dev/shm/filler", vec![0; 1 << 20]).unwrap_err();
    expect(CircBuf::create(&other, Options::default()), libc::ENOSPC);
    assert!(!other.header().exists());
}

#[test]
fn after_a_fork() {
    in_child("files::after_a_fork_child");
}

#[test]
#[ignore = "a part of after_a_fork"]
fn after_a_fork_child() {
    let name = Name::new("fork");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    reader.drain();
    write(&stream, 2);
    // SAFETY: the child uses what it has, and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let refused = is_refused(stream.write(&Source::Contiguous(&[0; 64]), None))
                && is_refused(stream.configure(&numbers(11), 0.0))
                && is_refused(stream.set_metadata(None))
                && is_refused(stream.reserve(1))
                && is_refused(stream.commit(0))
                && is_refused(stream.info())
                && is_refused(stream.ring())
                && is_refused(stream.close());
            let busy = CircBuf::create(&name, Options::default()).is_err_and(|error| error.status() == -libc::EBUSY);
            let read = reader.numbers() == [3, 4];
            // SAFETY: ends the child without what belongs to the parent.
            unsafe { libc::_exit(i32::from(!refused) | i32::from(!busy) << 1 | i32::from(!read) << 2) }
        }
        child => {
            done(child);
            let mut status = 0;
            // SAFETY: our own child, and room for its status.
            done(unsafe { libc::waitpid(child, &mut status, 0) });
            assert_eq!(libc::WEXITSTATUS(status), 0, "1: it wrote, 2: it took the name, 4: it could not read");
            write(&stream, 1);
            assert_eq!(reader.numbers(), [3, 4, 5], "the parent's mirror has a position of its own");
        }
    }
    // The lock is the child's, too, as long as it lives.
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    done(unsafe { libc::pipe(ends.as_mut_ptr()) });
    // SAFETY: the child waits for its parent to close the pipe, and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::close(ends[1]);
            libc::read(ends[0], [0u8].as_mut_ptr().cast(), 1);
            libc::_exit(0);
        }
    }
    done(child);
    std::mem::forget(stream); // as if this process had been killed
    expect(CircBuf::create(&name, Options::default()), libc::EBUSY);
    // SAFETY: our own child and descriptors.
    unsafe {
        libc::close(ends[1]);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}
