//! Whether a process that was seen earlier is still there: numbers of processes come back.

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::OnceLock;

/// What tells a process from all others, before and after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since the boot.
    pub(crate) started: u64,
    /// The boot.
    pub(crate) boot: u64,
}

impl ProcessId {
    /// The process that has this number now, `None` if there is none. An error is neither.
    pub(crate) fn of(pid: u32) -> io::Result<Option<Self>> {
        let stat = match fs::read(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
                fs::metadata("/proc/self")?; // there is a /proc to ask
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let started = started(&stat).ok_or(io::Error::from_raw_os_error(libc::EPROTO))?;
        Ok(started.map(|started| Self { pid, started, boot: boot() }))
    }

    /// Whether it has certainly ended: one that has ended and was not waited for has.
    pub(crate) fn is_dead(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now != Some(self))
    }
}

/// The 22nd field of /proc/PID/stat; `Some(None)` when the third says that the process is over and the 20th that no
/// thread of it goes on. The second one, its name, may hold anything, and ends at the last parenthesis.
fn started(stat: &[u8]) -> Option<Option<u64>> {
    let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace();
    let is_over = matches!(fields.next()?, "Z" | "X" | "x");
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some((!is_over || threads > 1).then_some(started))
}

fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_living_from_the_dead() {
        let me = ProcessId::of(std::process::id()).unwrap().expect("this process");
        assert!(!me.is_dead() && me.boot != 0);
        assert!(ProcessId { started: me.started + 1, ..me }.is_dead(), "another one of the same number");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let seen = ProcessId::of(child.id()).unwrap();
        while ProcessId::of(child.id()).unwrap().is_some() {
            std::thread::yield_now();
        }
        assert!(seen.is_none_or(ProcessId::is_dead), "it has ended, though nobody has waited for it");
        child.wait().expect("its end");
    }

    #[test]
    fn any_name_will_do() {
        let rest = b" S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 0 99 5";
        for name in [&b"7 (plain)"[..], b"7 (a) Z (b)", b"7 (w\xc3)"] {
            assert_eq!(started(&[name, rest].concat()), Some(Some(99)));
        }
        let over = |threads: &str| format!("7 (x) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 {threads} 0 99 5");
        assert_eq!(started(over("1").as_bytes()), Some(None));
        assert_eq!(started(over("3").as_bytes()), Some(Some(99)), "only its first thread has ended");
        assert_eq!(started(b"7 (x"), None);
    }
}
