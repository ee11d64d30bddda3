//! Whether a process that was seen earlier is still there: numbers of processes come back.

use std::fs;

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
    /// The process that has this number now, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: started(pid)?, boot: boot() })
    }

    /// Whether it still runs; one that has ended and was not waited for does not.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The 22nd field of /proc/PID/stat, unless the third one says that it is over. The second one, its name, may hold
/// anything, and ends at the last parenthesis.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(started)
}

fn boot() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_living_from_the_dead() {
        let me = ProcessId::of(std::process::id()).expect("this process");
        assert!(me.is_alive() && me.boot != 0);
        assert!(!ProcessId { started: me.started + 1, ..me }.is_alive(), "another one of the same number");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let seen = ProcessId::of(child.id());
        while ProcessId::of(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(seen.is_none_or(|seen| !seen.is_alive()), "it has ended, though nobody has waited for it");
        child.wait().expect("its end");
    }
}
