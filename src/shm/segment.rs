//! Files that processes share: made whole, opened without surprises, measured before they are trusted.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use super::lock::hidden;
use super::words::{Fence, ReadWords};
use crate::sys;

/// Bytes of a device that can be mapped: it does not say, and gives a page.
const DEVICE_LEN: u64 = 4096;

/// An open file, or a device of memory.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    is_device: bool,
}

impl Segment {
    /// Opens what is there for reading. What can hold no memory, such as a directory or a FIFO, is `EINVAL`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().read(true), path, 0)
    }

    /// The same for reading and writing; a link is not followed.
    pub(crate) fn open_writable(path: &Path) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().read(true).write(true), path, libc::O_NOFOLLOW)
    }

    fn open_with(options: &mut OpenOptions, path: &Path, flags: i32) -> io::Result<Self> {
        // O_NONBLOCK: opening a FIFO would wait for its other end.
        let file = options.custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_char_device() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { file, is_device: kind.is_char_device() })
    }

    /// Makes a file of `len` bytes that appears under its name with this content and zeros behind it, or not at all. The
    /// caller holds its [`super::Lock`].
    ///
    /// `AlreadyExists` when something has the name, be it a link that leads nowhere.
    pub(crate) fn create(path: &Path, mode: u32, content: &[u8], len: u64) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let nameless = OpenOptions::new().read(true).write(true).mode(0o0).custom_flags(libc::O_TMPFILE).open(folder);
        let made = nameless.and_then(|file| {
            let segment = Self { file, is_device: false };
            segment.fill(mode, content, len)?;
            sys::link_open_file(&segment.file, path)?;
            Ok(segment)
        });
        match made {
            // This file system has no nameless files, or there is no /proc to name them by.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT)
                ) =>
            {
                Self::create_by_another_name(path, mode, content, len)
            }
            made => made,
        }
    }

    /// Killed in here, it leaves a hidden file, which the next one replaces.
    fn create_by_another_name(path: &Path, mode: u32, content: &[u8], len: u64) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::Error::from_raw_os_error(libc::EISDIR))?;
        let other = path.with_file_name(hidden(name, ".new"));
        match std::fs::remove_file(&other) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o0).open(&other)?;
        let segment = Self { file, is_device: false };
        let made = segment.fill(mode, content, len).and_then(|()| std::fs::hard_link(&other, path));
        std::fs::remove_file(&other)?;
        made.map(|()| segment)
    }

    fn fill(&self, mode: u32, content: &[u8], len: u64) -> io::Result<()> {
        (&self.file).write_all(content)?; // and so a full disk shows now, not as SIGBUS later
        self.grow(len)?;
        self.set_mode(mode)
    }

    /// Sets its permissions, whatever the umask.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    /// Whether it belongs to the user that this process acts for.
    pub(crate) fn is_own(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.uid() == sys::effective_user())
    }

    /// Whether this is the file that the path names.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        is_at(&self.file, path)
    }

    /// Whether the path names another file by now: not when it names none.
    pub(crate) fn is_replaced_at(&self, path: &Path) -> io::Result<bool> {
        match std::fs::symlink_metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) != self.identity()?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the file system set blocks aside for a part of the file, so that a full disk is an error now, and not SIGBUS
    /// later. File systems that cannot do so are believed.
    pub(crate) fn allocate(&self, offset: u64, len: usize) -> io::Result<()> {
        match sys::allocate(&self.file, offset, len as u64) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
            result => result,
        }
    }

    /// Makes the file longer, by zeros whose blocks are set aside first.
    pub(crate) fn grow(&self, len: u64) -> io::Result<()> {
        let old = self.len()?;
        let more = usize::try_from(len.saturating_sub(old)).unwrap_or(usize::MAX);
        if more > 0 {
            let grown = self.allocate(old, more).and_then(|()| self.file.set_len(len));
            if grown.is_err() {
                let _ = self.file.set_len(old); // gives back what was set aside behind the end
            }
            return grown;
        }
        Ok(())
    }

    /// Overwrites a part of the file by zeros.
    pub(crate) fn zero(&self, offset: u64, len: usize) -> io::Result<()> {
        self.file.write_all_at(&vec![0; len], offset)
    }

    /// Bytes of a part of the file; `UnexpectedEof` when it was cut.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let file = self.file.metadata()?;
        Ok((file.dev(), file.ino()))
    }

    /// Bytes that can be mapped or read at the moment.
    pub(crate) fn len(&self) -> io::Result<u64> {
        if self.is_device { Ok(DEVICE_LEN) } else { Ok(self.file.metadata()?.len()) }
    }

    pub(crate) fn is_device(&self) -> bool {
        self.is_device
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl AsRawFd for Segment {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// Whether an open file is the one that the path names.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Words of a file that are read by system calls: if the file was cut, a load is `UnexpectedEof`.
#[derive(Debug)]
pub(crate) struct FileWords<'a>(pub(crate) &'a Segment);

impl ReadWords for FileWords<'_> {
    type Error = io::Error;

    fn load<const N: usize>(&self, at: usize) -> io::Result<[u64; N]> {
        let mut bytes = [[0u8; 8]; N];
        self.0.file.read_exact_at(bytes.as_flattened_mut(), at as u64 * 8)?;
        Ok(bytes.map(u64::from_ne_bytes))
    }

    fn acquire(&self, _: Fence) {
        fence(Ordering::Acquire);
    }
}
