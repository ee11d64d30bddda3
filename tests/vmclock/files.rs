//! What a path can lead to, how pages come into being, and what is left when handles are closed.

use std::ffi::{CStr, CString};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;

use shmhot::status::{Failure, SHMHOT_EFORK};
use shmhot::vmclock::*;

use crate::support::*;

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Makes what it is given into a result of libc.
#[track_caller]
fn done(result: i32) {
    assert_ne!(result, -1, "{}", std::io::Error::last_os_error());
}

fn create(path: &Path) -> Result<Writer> {
    Writer::create(path, Writer::DEFAULT_MODE)
}

#[test]
fn what_cannot_hold_a_page() {
    let folder = Folder::new("kinds");
    let (directory, fifo, socket) = (folder.join("directory"), folder.join("fifo"), folder.join("socket"));
    fs::create_dir(&directory).unwrap();
    // SAFETY: a C string, which stays for the call.
    done(unsafe { libc::mkfifo(c_string(&fifo).as_ptr(), 0o600) });
    let _listener = UnixListener::bind(&socket).unwrap();

    // An open that waits for the other end of a FIFO would wait forever.
    let (sender, receiver) = mpsc::channel();
    let paths = [directory.clone(), fifo.clone(), socket.clone()];
    std::thread::spawn(move || {
        for path in paths {
            let opened = BOTH.map(|checked| open(&path, checked).map_err(|error| error.status()).err());
            let created = create(&path).map_err(|error| error.status()).err();
            sender.send((path, opened, created)).unwrap();
        }
    });
    for (path, reader, writer) in [
        (directory, -libc::EINVAL, -libc::EISDIR),
        (fifo, -libc::EINVAL, -libc::EINVAL),
        (socket, -libc::ENXIO, -libc::ENXIO),
    ] {
        let answer = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{} makes it hang", path.display()));
        assert_eq!(answer, (path, [Some(reader); 2], Some(writer)));
    }
}

#[test]
fn devices_that_are_no_clock() {
    for checked in BOTH {
        expect(open(Path::new("/dev/zero"), checked), libc::EPROTO);
        let error = open(Path::new("/dev/null"), checked).expect_err("a page in /dev/null");
        assert!([-libc::ENODEV, -libc::EPROTO].contains(&error.status()), "{error}");
        expect(open(Path::new("/proc/self/status"), checked), libc::EPROTO);
    }
}

#[test]
fn missing() {
    let folder = Folder::new("missing");
    for checked in BOTH {
        expect(open(&folder.join("page"), checked), libc::ENOENT);
        expect(open(Path::new(""), checked), libc::ENOENT);
    }
    expect(create(&folder.join("folder/page")), libc::ENOENT);
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn links() {
    let folder = Folder::new("links");
    let (page, link, nowhere) = (folder.join("page"), folder.join("link"), folder.join("nowhere"));
    let (a, b) = (folder.join("a"), folder.join("b"));
    symlink(&b, &a).unwrap();
    symlink(&a, &b).unwrap();
    symlink(&page, &link).unwrap();
    symlink("missing", &nowhere).unwrap();
    create(&page).unwrap().write(&numbered(1)).unwrap();
    for checked in BOTH {
        expect(open(&a, checked), libc::ELOOP);
        expect(open(&nowhere, checked), libc::ENOENT);
        assert_eq!(open(&link, checked).unwrap().snapshot().unwrap().disruption_marker, 1);
    }
    for path in [&a, &link, &nowhere] {
        expect(create(path), libc::ELOOP);
    }
    assert!(!folder.join("missing").exists());
}

#[test]
fn without_permission() {
    in_child("files::without_permission_child");
}

#[test]
#[ignore = "a part of without_permission"]
fn without_permission_child() {
    let folder = Folder::new("permission");
    let (page, foreign) = (folder.join("page"), folder.join("foreign"));
    for path in [&page, &foreign] {
        fs::write(path, raw(&sound(), 4096, 4096)).unwrap();
    }
    fs::set_permissions(&page, Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&foreign, Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(page.parent().unwrap(), Permissions::from_mode(0o555)).unwrap();
    std::thread::spawn(move || {
        // Root may do everything, so this thread becomes nobody: the bare system call concerns no other thread.
        // SAFETY: changes nothing but the thread's user.
        if unsafe { libc::geteuid() } == 0 && unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) } != 0
        {
            println!("SKIP without permission: root here, and cannot be anybody else");
            return;
        }
        for checked in BOTH {
            expect(open(&page, checked), libc::EACCES);
            assert_eq!(open(&foreign, checked).unwrap().snapshot().unwrap(), sound());
        }
        for path in [&page, &foreign, &page.with_file_name("new")] {
            expect(create(path), libc::EACCES);
        }
    })
    .join()
    .unwrap();
    fs::set_permissions(folder.join(""), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_full_disk() {
    in_child("files::full_disk_child");
}

#[test]
#[ignore = "a part of a_full_disk"]
fn full_disk_child() {
    let folder = Folder::new("full");
    let mount = Mount::of_one_page(&folder.join(""));
    let errno = if mount.is_some() {
        File::create(folder.join("filler")).unwrap().write_all(&[1; 4096]).unwrap();
        libc::ENOSPC
    } else if limit_file_size(104) {
        libc::EFBIG
    } else {
        println!("SKIP a full disk: neither a file system nor a limit of our own is to be had");
        return;
    };
    let before = folder.names();
    expect(create(&folder.join("page")), errno);
    assert_eq!(folder.names(), before, "something was left behind");
}

/// A file system of a single page, which only this process sees.
struct Mount(CString);

impl Mount {
    fn of_one_page(folder: &Path) -> Option<Self> {
        let folder = c_string(folder);
        let mount = |source: &CStr, target: &CStr, kind: &CStr, flags, data: &CStr| {
            // SAFETY: C strings, which stay for the call; the last one is what tmpfs takes.
            unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) == 0 }
        };
        // SAFETY: gives the calling thread, which is the one that goes on, mounts of its own.
        let mounted = unsafe { libc::unshare(libc::CLONE_NEWNS) == 0 }
            && mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")
            && mount(c"tmpfs", &folder, c"tmpfs", 0, c"size=4k");
        mounted.then_some(Self(folder))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: a C string, which stays for the call.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

fn limit_file_size(bytes: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the limit stays for the call; the signal is ignored by its own number.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &limit) == 0
    }
}

#[test]
fn a_new_page() {
    let folder = Folder::new("new");
    let path = folder.join("page");
    for (mode, expected) in [(Writer::DEFAULT_MODE, 0o644), (0o600, 0o600), (0o666, 0o666)] {
        let writer = Writer::create(&path, mode).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o7777, file.len()), (expected, 4096));
        assert_eq!(folder.names(), [".page.lock", "page"]);
        let clock = open(&path, false).unwrap();
        let page = clock.snapshot().unwrap();
        assert_eq!((page.version, page.seq_count, page.clock_status), (1, 0, VMCLOCK_STATUS_UNKNOWN));
        expect(clock.now(), libc::ENODATA);
        writer.write(&numbered(3)).unwrap();
        assert_eq!(clock.snapshot().unwrap(), Snapshot { seq_count: 2, ..numbered(3) });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, raw(&Snapshot { seq_count: 2, ..numbered(3) }, 4096, 4096));
        writer.remove().unwrap();
        assert_eq!(folder.names(), [""; 0]);
        assert_eq!(clock.snapshot().unwrap().disruption_marker, 3, "who has it open keeps the last page");
    }
}

#[test]
fn one_writer_at_a_time() {
    let folder = Folder::new("busy");
    let path = folder.join("page");
    let first = create(&path).unwrap();
    expect(create(&path), libc::EBUSY);
    first.write(&numbered(1)).unwrap();
    drop(first);
    let second = create(&path).unwrap();
    assert_eq!(open(&path, false).unwrap().snapshot().unwrap(), Snapshot { seq_count: 2, ..numbered(1) });

    // Somebody else's file under the name is not removed.
    fs::rename(&path, folder.join("elsewhere")).unwrap();
    fs::write(&path, "not a page").unwrap();
    second.remove().unwrap();
    assert_eq!(folder.names(), ["elsewhere", "page"]);
}

#[test]
fn a_reader_cannot_keep_the_writer_out() {
    let folder = Folder::new("locked");
    let path = folder.join("page");
    drop(create(&path).unwrap());
    let reader = File::open(&path).unwrap();
    // SAFETY: a descriptor that is open.
    done(unsafe { libc::flock(reader.as_raw_fd(), libc::LOCK_EX) });
    create(&path).unwrap().remove().unwrap();
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn what_a_killed_writer_has_left_is_replaced() {
    let folder = Folder::new("left");
    let path = folder.join("page");
    for left in [".page.lock", ".page.new"] {
        fs::write(folder.join(left), "").unwrap();
    }
    create(&path).unwrap().remove().unwrap();
    assert_eq!(folder.names(), [".page.new"], "needed only where there are no nameless files");
}

#[test]
fn another_users_page_is_not_adopted() {
    let folder = Folder::new("foreign");
    let path = folder.join("page");
    drop(create(&path).unwrap());
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a C string.
    if unsafe { libc::chown(name.as_ptr(), 65_534, 65_534) } != 0 {
        println!("SKIP another user's page: only root can make one");
        return;
    }
    expect(create(&path), libc::EPERM);
}

#[test]
fn processes_that_begin_at_once_make_one_page() {
    let folder = Folder::new("race");
    let path = folder.join("page");
    for _ in 0..200 {
        let writers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| create(&path))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (made, refused): (Vec<_>, Vec<_>) = writers.into_iter().partition(std::result::Result::is_ok);
        assert_eq!(made.len(), 1);
        refused.into_iter().for_each(|refusal| expect(refusal, libc::EBUSY));
        made.into_iter().for_each(|writer| writer.unwrap().remove().unwrap());
        assert_eq!(folder.names(), [""; 0]);
    }
}

#[test]
fn posix_shared_memory() {
    let name = CString::new(format!("/shmhot-test-posix-{}", std::process::id())).unwrap();
    // SAFETY: a C string, which stays for the call.
    let fd = unsafe { libc::shm_open(name.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600) };
    done(fd);
    // SAFETY: the descriptor is new, and nobody else's.
    let mut memory = unsafe { File::from_raw_fd(fd) };
    memory.write_all(&raw(&sound(), 4096, 4096)).unwrap();
    let path = Path::new("/dev/shm").join(&name.to_str().unwrap()[1..]);
    let opened = BOTH.map(|checked| open(&path, checked).and_then(|clock| clock.snapshot()));
    // SAFETY: as above.
    done(unsafe { libc::shm_unlink(name.as_ptr()) });
    opened.into_iter().for_each(|page| assert_eq!(page.unwrap(), sound()));
}

#[test]
fn after_a_fork() {
    in_child("files::after_a_fork_child");
}

#[test]
#[ignore = "a part of after_a_fork"]
fn after_a_fork_child() {
    let folder = Folder::new("fork");
    let path = folder.join("page");
    let writer = create(&path).unwrap();
    writer.write(&numbered(1)).unwrap();
    let clocks = BOTH.map(|checked| open(&path, checked).unwrap());
    // SAFETY: the child only reads shared memory, asks the writer, and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let reads = clocks.iter().all(|clock| clock.snapshot().is_ok_and(|page| page.disruption_marker == 1));
            let refused = writer.write(&numbered(2)).is_err_and(|error| error.status() == SHMHOT_EFORK)
                && writer.remove().is_err_and(|error| error.status() == SHMHOT_EFORK);
            // SAFETY: ends the child without what belongs to the parent.
            unsafe { libc::_exit(i32::from(!reads) | i32::from(!refused) << 1) }
        }
        child => {
            done(child);
            let mut status = 0;
            // SAFETY: our own child, and room for its status.
            done(unsafe { libc::waitpid(child, &mut status, 0) });
            assert_eq!(status, 0, "1: its reader failed, 2: its writer wrote");
            assert_eq!(clocks[0].snapshot().unwrap().disruption_marker, 1);
            writer.write(&numbered(3)).unwrap();
        }
    }
}

#[test]
fn nothing_leaks() {
    in_child("files::leaks_child");
}

#[test]
#[ignore = "a part of nothing_leaks"]
fn leaks_child() {
    let folder = Folder::new("leaks");
    let (path, broken) = (folder.join("page"), folder.join("broken"));
    let writer = create(&path).unwrap();
    writer.write(&sound()).unwrap();
    fs::write(&broken, raw(&Snapshot { version: 2, ..sound() }, 4096, 4096)).unwrap();
    let before = holdings();
    for round in 0..100_000 {
        let clock = open(&path, round % 2 == 0).unwrap();
        clock.snapshot().unwrap();
        drop(clock);
        assert!(open(&broken, round % 2 == 0).is_err());
    }
    for round in 0..2_000 {
        let new = folder.join("new");
        let made = create(&new).unwrap();
        made.write(&sound()).unwrap();
        if round % 2 == 0 {
            made.remove().unwrap()
        } else {
            drop(made)
        }
        expect(create(&path), libc::EBUSY);
        expect(create(&broken), libc::EPROTO);
    }
    assert_eq!(holdings(), before, "descriptors, mappings");
}

#[test]
fn descriptors_end_with_exec() {
    let folder = Folder::new("exec");
    let path = folder.join("page");
    let _handles = (create(&path).unwrap(), open(&path, false).unwrap(), open(&path, true).unwrap());
    let listing = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&listing.stdout).contains("shmhot-test-exec"));
}
