//! The backend on io_uring: turns what a ring wants into submission entries, and answers into events.
//!
//! Nothing here decides anything about connections. What an operation needs in memory until it is answered belongs
//! to the caller (`outbox`, `buffers`); what it needs until it is submitted (gather lists, timespecs) lives here.
#![allow(unsafe_code)]

mod buffer_ring;
mod setup;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use super::buffers::Buffers;
use super::error::{Error, Result};
use super::options::Options;
use super::outbox::Segment;
use super::stats::Stats;
use super::token::{Purpose, Token};
use buffer_ring::BufferRing;

pub(super) use setup::{features, probe};

/// The buffer group of the one pool that a ring has.
const GROUP: u16 = 0;
/// Pieces that one gathered send takes.
pub(super) const MAX_SEGMENTS: usize = 64;
/// Entries that one connection may need at once: two cancels, send, close.
pub(super) const MAX_STEPS: usize = 4;

/// A send of so little finds room in its socket, as a rule, and is answered while it is submitted.
pub(super) const PROMPT_BYTES: u64 = 16 << 10;
/// How long a wait puts its trust in that rule, at most.
const PROMPT_TIME: Duration = Duration::from_millis(1);
static PROMPT_TIMESPEC: Timespec = Timespec::new().nsec(PROMPT_TIME.subsec_nanos());

const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// An answer of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) token: Token,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Event {
    /// The buffer that the kernel has used up for this answer.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// Whether the operation goes on.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }
}

/// How a call of [`Uring::enter`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// As asked.
    Done,
    /// A signal came.
    Interrupted,
    /// The time is over.
    TimedOut,
    /// The kernel wants its completions taken first, or has no memory at the moment.
    Busy,
}

/// A gather list; the kernel reads it while it takes the submission, not later.
struct Gather {
    header: libc::msghdr,
    segments: [Segment; MAX_SEGMENTS],
}

pub(super) struct Uring {
    ring: IoUring,
    buffer_ring: BufferRing,
    #[allow(clippy::vec_box)] // queued entries hold their addresses while the list grows
    gathers: Vec<Box<Gather>>,
    gathers_used: usize,
    alarm: Box<Timespec>,
    multishot_receive: bool,
    /// Answers that are going to be there as soon as what is queued is submitted, and that nobody waits for. A wait is
    /// for something beyond them: else it would end at once, only to be begun again.
    prompt: usize,
    /// A timeout is pending that ends such a wait if the rule has failed. One for many waits: a timer for each would
    /// cost more, under a hypervisor, than all the rest of the wait.
    guard: Option<Instant>,
    /// When the alarm goes off.
    alarm_at: Option<Instant>,
    broken: bool,
    pub(super) stats: Stats,
}

// SAFETY: the raw pointers inside (gather lists, the kernel's rings) are owned by this value and follow it.
unsafe impl Send for Uring {}

impl Uring {
    pub(super) fn new(options: &Options, buffers: &Buffers) -> Result<Self> {
        let ring = setup::make_ring(options)?;
        let buffer_ring = BufferRing::new(&ring, buffers)?;
        Ok(Self {
            ring,
            buffer_ring,
            gathers: Vec::new(),
            gathers_used: 0,
            alarm: Box::new(Timespec::new()),
            multishot_receive: true,
            prompt: 0,
            guard: None,
            alarm_at: None,
            broken: false,
            stats: Stats::default(),
        })
    }

    /// Lets operations in. From here on a single-issuer ring belongs to the calling thread.
    pub(super) fn enable(&mut self) -> Result<()> {
        self.ring.submitter().register_enable_rings().map_err(|e| Error::system("enabling the ring", e))
    }

    /// Has the kernel signal `fd` for every backlog of completions.
    pub(super) fn register_event(&mut self, fd: RawFd) -> Result<()> {
        self.ring.submitter().register_eventfd(fd).map_err(|e| Error::system("registering an eventfd", e))
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    // Operations. Each takes one entry, for which `room` has been made.

    /// Whether `n` more entries fit, after a flush if need be.
    pub(super) fn room(&mut self, n: usize) -> bool {
        let queue = self.ring.submission();
        if queue.capacity() - queue.len() >= n {
            return true;
        }
        drop(queue);
        self.stats.queue_full_flushes += 1;
        let _ = self.enter(0, None); // what matters is whether there is room now
        let queue = self.ring.submission();
        queue.capacity() - queue.len() >= n
    }

    pub(super) fn accept(&mut self, token: Token, fd: RawFd) {
        self.push(token, opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build());
    }

    /// Receives once or until cancelled; says which of both it became.
    pub(super) fn receive(&mut self, token: Token, fd: RawFd, multishot: bool) -> bool {
        let multishot = multishot && self.multishot_receive;
        let entry = if multishot {
            opcode::RecvMulti::new(Fd(fd), GROUP).build()
        } else {
            opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0).buf_group(GROUP).build().flags(Flags::BUFFER_SELECT)
        };
        self.push(token, entry);
        multishot
    }

    /// This kernel knows no multishot receive.
    pub(super) fn give_up_multishot(&mut self) {
        self.multishot_receive = false;
    }

    /// Sends the segments, whose bytes stay in place until the answer; at least one, at most [`MAX_SEGMENTS`].
    /// `chained`: the next operation runs only if all of it was sent; then that is answered and this is not, else this
    /// is and that is not (the kernel leaves out what follows a failure that was to be silent).
    pub(super) fn send(&mut self, token: Token, fd: RawFd, segments: &[Segment], chained: bool) {
        let entry = match segments {
            [one] => opcode::Send::new(Fd(fd), one.base(), one.len() as u32).flags(SEND_FLAGS).build(),
            many => opcode::SendMsg::new(Fd(fd), self.gather(many)).flags(SEND_FLAGS as u32).build(),
        };
        self.push(token, if chained { entry.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS) } else { entry });
    }

    /// The answer to the operation just queued is going to be prompt, and nothing depends on it.
    pub(super) fn expect_prompt(&mut self) {
        self.prompt += 1;
    }

    fn gather(&mut self, segments: &[Segment]) -> *const libc::msghdr {
        if self.gathers_used == self.gathers.len() {
            // SAFETY: a msghdr of zeros is an empty one.
            let header = unsafe { std::mem::zeroed() };
            self.gathers.push(Box::new(Gather { header, segments: [Segment::new(std::ptr::null(), 0); MAX_SEGMENTS] }));
        }
        let gather = &mut self.gathers[self.gathers_used];
        self.gathers_used += 1;
        gather.segments[..segments.len()].copy_from_slice(segments);
        gather.header.msg_iov = gather.segments.as_mut_ptr().cast(); // a Segment is laid out as an iovec
        gather.header.msg_iovlen = segments.len();
        &gather.header
    }

    pub(super) fn connect(&mut self, token: Token, fd: RawFd, address: &[u8]) {
        let entry = opcode::Connect::new(Fd(fd), address.as_ptr().cast(), address.len() as libc::socklen_t);
        self.push(token, entry.build());
    }

    pub(super) fn close(&mut self, token: Token, fd: RawFd) {
        self.push(token, opcode::Close::new(Fd(fd)).build());
    }

    /// Cancels what was submitted as `target`. Only a failure is answered.
    pub(super) fn cancel(&mut self, token: Token, target: Token) {
        self.push(token, opcode::AsyncCancel::new(target.0).build().flags(Flags::SKIP_SUCCESS));
    }

    pub(super) fn cancel_all(&mut self, token: Token) {
        self.push(token, opcode::AsyncCancel2::new(CancelBuilder::any().all()).build());
    }

    /// Answers each time that `fd` becomes readable.
    pub(super) fn watch(&mut self, token: Token, fd: RawFd) {
        self.push(token, opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build());
    }

    /// Answers after `delay`; with `update`, moves the one that is set already.
    pub(super) fn alarm(&mut self, token: Token, delay: Duration, update: Option<Token>) {
        *self.alarm = Timespec::from(delay);
        self.alarm_at = Instant::now().checked_add(delay);
        let time: *const Timespec = &*self.alarm;
        let entry = match update {
            None => opcode::Timeout::new(time).build(),
            Some(pending) => opcode::TimeoutUpdate::new(pending.0, time).flags(TimeoutFlags::empty()).build(),
        };
        self.push(token, entry);
    }

    fn push(&mut self, token: Token, entry: Entry) {
        self.stats.submissions += 1;
        // SAFETY: what the entry points to stays valid as the caller of the operation above promises; see the module.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(token.0)) };
        debug_assert!(pushed.is_ok(), "no room was made");
    }

    /// Gives a buffer (back) to the kernel.
    pub(super) fn give_buffer(&mut self, buffers: &Buffers, id: u16) {
        self.buffer_ring.give(buffers, id);
    }

    // Entering the kernel.

    /// Whether entering would do anything but wait: entries are queued, or the kernel has answers to hand out.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is queued and waits until `want` answers are there, at most for `timeout` (None: no limit).
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> Result<Entered> {
        self.stats.syscalls += 1;
        let want = if want > 0 { want + self.guard() } else { 0 };
        self.prompt = 0;
        let entered = if want == 0 {
            // A wait with a timeout of zero costs a timer in the kernel; this only runs what is ready.
            let queued = self.queued();
            // SAFETY: no argument is passed.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None) }
        } else if let Some(timeout) = timeout {
            let time = Timespec::from(timeout);
            self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&time))
        } else {
            self.ring.submitter().submit_and_wait(want)
        };
        if self.gathers_used > 0 && self.queued() == 0 {
            self.gathers_used = 0;
        }
        match entered {
            // What ended the wait early is not told when something was submitted as well. A timeout of ours does, too.
            Ok(submitted) if submitted > 0 && self.queued() == 0 && self.ring.completion().len() < want => {
                Ok(if self.timer_fired() { Entered::Done } else { Entered::Interrupted })
            }
            Ok(_) => Ok(Entered::Done),
            Err(e) => match e.raw_os_error() {
                Some(libc::EINTR) => Ok(Entered::Interrupted),
                Some(libc::ETIME) => Ok(Entered::TimedOut),
                Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => Ok(Entered::Busy),
                _ => {
                    self.broken = true;
                    Err(Error::system("io_uring_enter", e))
                }
            },
        }
    }

    /// Whether entering has failed in a way that will not pass.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// How many prompt answers a wait may leave out of account: one. A guard that went off before the kernel began to
    /// wait does not end that wait; but its own answer then stands for the one that did not come.
    fn guard(&mut self) -> usize {
        if self.prompt != 1 {
            return 0;
        }
        if self.guard.is_none() {
            let queue = self.ring.submission();
            if queue.is_full() {
                return 0;
            }
            drop(queue);
            self.guard = Some(Instant::now() + PROMPT_TIME);
            self.push(Token::of_ring(Purpose::Guard), opcode::Timeout::new(&PROMPT_TIMESPEC).build());
        }
        1
    }

    /// Whether a timeout of ours has fired, be its answer here yet or not.
    fn timer_fired(&self) -> bool {
        [self.guard, self.alarm_at].into_iter().flatten().any(|at| Instant::now() >= at)
    }

    fn queued(&mut self) -> u32 {
        self.ring.submission().len() as u32
    }

    /// Whether answers wait to be taken.
    pub(super) fn has_events(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().cq_overflow()
    }

    /// Takes up to `events.len()` answers.
    pub(super) fn take(&mut self, events: &mut Vec<Event>, max: usize) {
        if self.ring.submission().cq_overflow() {
            self.stats.cq_overflows += 1;
        }
        let enough = events.len() + max;
        let mut queue = self.ring.completion();
        while events.len() < enough
            && let Some(entry) = queue.next()
        {
            self.stats.completions += 1;
            let token = Token(entry.user_data());
            match token.purpose() {
                Some(Purpose::Guard) => self.guard = None,
                purpose => {
                    if purpose == Some(Purpose::Alarm) {
                        self.alarm_at = None;
                    }
                    events.push(Event { token, result: entry.result(), flags: entry.flags() });
                }
            }
        }
    }

    /// In a forked child: closes this process's copy of the descriptor and touches nothing else.
    pub(super) fn abandon(self) {
        let fd = self.ring.as_raw_fd();
        std::mem::forget(self);
        crate::sys::close(fd);
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("fd", &self.raw_fd()).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// For messages: what the kernel said.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
