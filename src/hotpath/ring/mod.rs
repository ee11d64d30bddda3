//! The ring: commands change what connections are wanted to do, [`Ring::wait`] brings the kernel in line with that
//! and hands out what has happened.
//!
//! A command never talks to the kernel. It notes a wish in the [`Connection`] and puts the connection on the list of
//! those to look at; `reconcile` compares wishes with what is at work in the kernel and queues the operations that are
//! missing. Arming a receive anew, continuing a short send, resuming after a starvation, closing once all is sent: all
//! of it is that one comparison.

mod answers;
mod commands;
mod deadlines;
mod reconcile;

use std::collections::{HashMap, VecDeque};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::buffers::Buffers;
use super::completion::{Completion, F_ENDED, OpKind};
use super::connections::{Connections, Role, Slot, Step};
use super::error::{Error, Result};
use super::options::Options;
use super::outbox::Outbox;
use super::stats::Stats;
use super::timers::{TimerId, Timers};
use super::token::{Purpose, Token};
use super::uring::{Entered, Event, Uring};
use super::waker::Waker;
use crate::sys::{self, Clock, EventFd, ProcessEpoch, thread_number};
use deadlines::{Deadline, Drain, nanoseconds};

/// How long a ring that is dropped waits for the kernel to let go of its memory.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A completion that waits to be handed out.
#[derive(Debug)]
struct Told {
    completion: Completion,
    /// The connection it is about, if it is not to be told when that ends before.
    of: Option<Token>,
    /// Of a send: its bytes are the caller's.
    borrowed: bool,
    /// Not to be handed out together with what comes before.
    starts_batch: bool,
}

/// A socket ring. It belongs to the thread that uses it first (see [`Options::any_thread`]).
#[derive(Debug)]
pub struct Ring {
    // What the kernel may still use when the ring goes: see `drop`.
    backend: ManuallyDrop<Uring>,
    buffers: ManuallyDrop<Buffers>,
    outbox: ManuallyDrop<Outbox>,
    connections: Connections,
    /// Connections to reconcile.
    dirty: VecDeque<Slot>,
    /// Connections that wait for a buffer, the longest first.
    starved: VecDeque<Slot>,
    /// Completions to hand out.
    ready: VecDeque<Told>,
    /// Answers of the kernel, while they are being looked at.
    events: Vec<Event>,
    timers: Timers<Deadline>,
    user_timers: HashMap<i64, TimerId>,
    clock: Clock,
    /// When the kernel is going to wake us for a timer.
    alarm: Option<u64>,
    /// Connections with an idle timeout.
    idlers: usize,
    /// Time of the last look at the kernel's answers; kept while there are `idlers`.
    now: u64,
    waker: Arc<Waker>,
    watching: bool,
    /// A wake has come since the last wait began.
    woken: bool,
    /// We have made the event descriptor readable ourselves.
    signalled: bool,
    /// Waits in a row that brought a single completion.
    lonely: u32,
    /// Listeners that wait for a descriptor to become free.
    resting: usize,
    /// The host closes connections through the ring, not by itself.
    closes: bool,
    drain: Drain,
    stats: Stats,
    options: Options,
    /// Number of the thread that drives it, 0 before there is one.
    owner: u64,
    /// The process that made it.
    epoch: ProcessEpoch,
}

impl Ring {
    /// Makes a ring. Nothing runs, and no thread owns it, before the first call.
    pub(super) fn new(options: Options) -> Result<Self> {
        let buffers = Buffers::new(&options)?;
        let backend = Uring::new(&options, &buffers)?;
        Ok(Self {
            backend: ManuallyDrop::new(backend),
            buffers: ManuallyDrop::new(buffers),
            outbox: ManuallyDrop::new(Outbox::new()),
            connections: Connections::new(),
            dirty: VecDeque::new(),
            starved: VecDeque::new(),
            ready: VecDeque::new(),
            events: Vec::new(),
            timers: Timers::new(),
            user_timers: HashMap::new(),
            clock: Clock::start(),
            alarm: None,
            idlers: 0,
            now: 0,
            waker: Arc::new(Waker::new()?),
            watching: false,
            woken: false,
            signalled: false,
            lonely: 0,
            resting: 0,
            closes: false,
            drain: Drain::Off,
            stats: Stats::default(),
            options,
            owner: 0,
            epoch: ProcessEpoch::current(),
        })
    }

    /// Binds the ring to the calling thread. Comes before every other call, once.
    pub(super) fn enable(&mut self) -> Result<()> {
        self.backend.enable()?;
        self.owner = thread_number();
        Ok(())
    }

    /// What wakes this ring from other threads.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Submits everything queued, waits until `min_complete` completions are there, a signal comes or `timeout`
    /// (None: no limit) is over, and hands out as many as fit: their number, 0 included.
    pub fn wait(
        &mut self,
        min_complete: usize,
        timeout: Option<Duration>,
        out: &mut [MaybeUninit<Completion>],
    ) -> Result<usize> {
        let want = min_complete.min(out.len());
        let only_look = want == 0 || timeout == Some(Duration::ZERO);
        let deadline =
            timeout.filter(|_| !only_look).map(|timeout| self.clock.now().saturating_add(nanoseconds(timeout)));
        if let Some(event_fd) = self.waker.outside() {
            event_fd.clear(); // before looking: what comes later signals anew
            self.signalled = false;
            self.stats.syscalls += 1;
        }
        self.woken = false;
        self.start_watching();
        self.settle(); // what was asked for since the last wait
        self.harvest(out.len());
        let mut entered = None;
        loop {
            let enough = self.ready.len() >= want || self.woken;
            if enough || only_look {
                if entered.is_none() && self.backend.has_work() {
                    self.backend.enter(0, None)?;
                    self.harvest(out.len());
                }
                break;
            }
            if entered.is_some_and(|entered| entered != Entered::Done) {
                break; // a signal, or the end of the time
            }
            self.settle(); // what the answers so far have made necessary
            // The kernel is only ever asked for one: the answers before the last may need something done, too. And for
            // none while there are buffers for those who wait for them: some have nothing to fill them with.
            let missing = usize::from(self.ready.len() < want && !self.can_feed());
            let left = deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(self.clock.now())));
            entered = Some(self.backend.enter(missing, left)?);
            let had = self.ready.len();
            self.harvest(out.len());
            if entered == Some(Entered::Busy) && self.ready.len() == had {
                return Err(Error::System { doing: "io_uring_enter", errno: libc::EAGAIN });
            }
        }
        let count = self.hand_out(out);
        self.lonely = if count == 1 { self.lonely.saturating_add(1) } else { 0 };
        Ok(count)
    }

    fn hand_out(&mut self, out: &mut [MaybeUninit<Completion>]) -> usize {
        let mut count = 0;
        while count < out.len()
            && let Some(told) = self.ready.front()
            && (count == 0 || !told.starts_batch)
        {
            let told = told.completion;
            self.ready.pop_front();
            if told.op_kind == OpKind::Accept as u8 && told.result >= 0 {
                self.connections.introduce(told.result as RawFd);
            }
            out[count].write(told);
            count += 1;
        }
        count
    }

    /// Submits everything queued, without waiting or looking.
    pub fn flush(&mut self) -> Result<()> {
        self.start_watching();
        self.settle();
        if self.backend.has_work() && self.backend.enter(0, None)? == Entered::Busy {
            return Err(Error::System { doing: "io_uring_enter", errno: libc::EAGAIN });
        }
        Ok(())
    }

    /// A descriptor that is readable while there is something to do: completions to take, commands to submit.
    pub fn event_fd(&mut self) -> Result<RawFd> {
        if let Some(event_fd) = self.waker.outside() {
            return Ok(event_fd.as_raw_fd());
        }
        let event_fd = EventFd::new().map_err(|e| Error::system("making an eventfd", e))?;
        self.backend.register_event(event_fd.as_raw_fd())?;
        Ok(self.waker.watch_outside(event_fd).as_raw_fd())
    }

    /// Comes after every call from outside: who sleeps on the event descriptor must not miss what is left to do here,
    /// be it completions to take or commands to submit.
    pub(super) fn leave(&mut self) {
        let Some(event_fd) = self.waker.outside() else { return };
        let no_alarm = self.timers.next().is_some_and(|next| self.alarm.is_none_or(|alarm| next < alarm));
        if !self.signalled
            && (!self.ready.is_empty()
                || !self.dirty.is_empty()
                || self.can_feed()
                || no_alarm
                || self.backend.has_work()
                || self.backend.has_events())
        {
            event_fd.signal();
            self.signalled = true;
            self.stats.syscalls += 1;
        }
    }

    /// Whether the kernel refuses to go on with this ring.
    pub(super) fn is_broken(&self) -> bool {
        self.backend.is_broken()
    }

    /// Counters since the ring was made.
    pub fn stats(&self) -> Stats {
        let backend = &self.backend.stats;
        Stats {
            syscalls: self.stats.syscalls + backend.syscalls,
            submissions: backend.submissions,
            completions: backend.completions,
            queue_full_flushes: backend.queue_full_flushes,
            cq_overflows: backend.cq_overflows,
            buffers_held: self.buffers.held_count().into(),
            connections: self.connections.streams as u64,
            in_flight: self.in_flight(),
            ..self.stats
        }
    }

    fn in_flight(&self) -> u64 {
        self.connections.iter().map(|(_, connection)| u64::from(connection.in_flight())).sum()
    }

    /// The connection of `fd`, a new one if it has none, which is not being closed.
    fn open(&mut self, fd: RawFd, role: Role) -> Result<Slot> {
        match self.connections.find(fd) {
            Some(_) => self.known(fd),
            None => self.begin(fd, role),
        }
    }

    /// The same, for what is no beginning: a late word about a connection that the ring has closed is not for whatever
    /// has its number now.
    fn reach(&mut self, fd: RawFd) -> Result<Slot> {
        if self.connections.was_closed(fd) {
            return Err(Error::state(
                libc::ENOENT,
                fd,
                "the ring has closed it; if you opened that number anew, call forget first",
            ));
        }
        self.open(fd, Role::Stream)
    }

    /// The connection of `fd`, of which the caller knows.
    fn met(&self, fd: RawFd) -> Result<Slot> {
        match self.connections.find(fd) {
            Some(slot) if self.connections[slot].introduced => Ok(slot),
            Some(_) => Err(Error::state(
                libc::ENOENT,
                fd,
                "its last connection is closed, and its next one was not told of yet",
            )),
            None if fd < 0 => Err(Error::BadDescriptor(fd)),
            None => Err(Error::state(libc::ENOENT, fd, "the ring does not know it")),
        }
    }

    /// The same, unless it is being closed.
    fn known(&self, fd: RawFd) -> Result<Slot> {
        let slot = self.met(fd)?;
        match self.connections[slot].close {
            Step::Idle => Ok(slot),
            _ => Err(Error::state(libc::ESHUTDOWN, fd, "it is being closed")),
        }
    }

    /// A connection whose sending half is open.
    fn sending(&mut self, fd: RawFd) -> Result<Slot> {
        let slot = self.reach(fd)?;
        let connection = &self.connections[slot];
        if connection.role == Role::Listener {
            return Err(Error::state(libc::ENOTCONN, fd, "it is a listener"));
        }
        if connection.send_error != 0 {
            return Err(Error::state(libc::EPIPE, fd, "a send on it has failed: nothing can follow it"));
        }
        if connection.shutdown != Step::Idle {
            return Err(Error::state(libc::EPIPE, fd, "its sending half is shut down"));
        }
        if connection.drop_sends {
            return Err(Error::state(libc::EBUSY, fd, "its sends are being cancelled: go on when they have completed"));
        }
        Ok(slot)
    }

    /// A connection that `len` more bytes may be queued on.
    fn writable(&mut self, fd: RawFd, len: u64) -> Result<Slot> {
        let slot = self.sending(fd)?;
        let connection = &self.connections[slot];
        for (queued, bound) in [
            (connection.queue.weight(), self.options.max_queued_bytes),
            (self.outbox.weight(), self.options.max_queued_total),
        ] {
            if queued > 0 && queued.saturating_add(len) > bound {
                self.stats.sends_refused += 1;
                return Err(Error::Backlog { fd, queued, bound });
            }
        }
        Ok(slot)
    }

    fn begin(&mut self, fd: RawFd, role: Role) -> Result<Slot> {
        // A number never seen before makes a table grow, so it has to be one.
        if fd < 0 || (self.connections.is_new_number(fd) && !sys::is_open(fd)) {
            return Err(Error::BadDescriptor(fd));
        }
        let slot = self.connections.begin(fd, role)?;
        let slots = self.connections.slots();
        for list in [&mut self.dirty, &mut self.starved] {
            if list.capacity() < slots && list.try_reserve(slots - list.len()).is_err() {
                self.connections.end(slot);
                self.connections.retire(slot);
                return Err(Error::out_of_memory("adding a connection"));
            }
        }
        Ok(slot)
    }

    /// Ends the generation of a connection. The kernel is asked for what it still has at the next reconciliation.
    fn end(&mut self, slot: Slot) {
        self.clear_idle(slot);
        if let Some(timer) = self.connections[slot].close_timer.take() {
            self.timers.remove(timer);
        }
        if self.connections[slot].connect == Step::Wanted {
            self.connections[slot].connect = Step::Idle;
        }
        self.end_rest(slot);
        self.connections[slot].inbound.starved = false;
        let closed = self.connections[slot].close == Step::Flying;
        self.connections.end(slot);
        if !closed {
            self.withdraw(slot); // of a closed one all was told, and is true
        }
        self.drop_sends(slot);
        self.touch(slot);
        self.check_drained();
    }

    /// The kernel says that there is no such connection: then the ring does not have it either.
    fn end_if_not_there(&mut self, slot: Slot, result: i32) {
        if matches!(-result, libc::EBADF | libc::ENOTSOCK) {
            self.end(slot);
        }
    }

    fn touch(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// Tells something that is to be known in any case.
    fn tell(&mut self, completion: Completion) {
        self.ready.push_back(Told { completion, of: None, borrowed: false, starts_batch: false });
    }

    /// Tells something about a connection, unless that ends before it is handed out.
    fn tell_of(&mut self, slot: Slot, completion: Completion, borrowed: bool) {
        let of = Some(self.connections.token(slot, Purpose::Inbound));
        self.ready.push_back(Told { completion, of, borrowed, starts_batch: false });
    }

    /// A number has come back. What the caller is told of it, and does about it, is about its last connection until
    /// it has been told of this one: so the two do not share a batch.
    fn tell_accepted(&mut self, completion: Completion) {
        let is_about = |told: &Told| {
            let before = &told.completion;
            i64::from(before.fd) == completion.result
                || (before.op_kind == OpKind::Accept as u8 && before.result == completion.result)
        };
        let starts_batch = self.ready.iter().any(is_about);
        self.ready.push_back(Told { completion, of: None, borrowed: false, starts_batch });
    }

    /// Takes back what was not handed out yet of a connection that receives no more, or has ended.
    fn withdraw(&mut self, slot: Slot) {
        let of = Some(self.connections.token(slot, Purpose::Inbound));
        let ended = self.connections[slot].ended;
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain_mut(|told| {
            if told.of != of {
                return true;
            }
            if told.completion.op_kind == OpKind::Recv as u8 {
                self.stats.stale_dropped += 1;
                let _ = self.release(told.completion.buf_id); // not every receive has one
                return false;
            }
            told.completion.flags |= if ended { F_ENDED } else { 0 };
            !ended || told.borrowed
        });
        self.ready = ready;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let forked = !self.epoch.is_current();
        let quiet = !forked && self.shut_down();
        // SAFETY: taken once, and never used again.
        #[allow(unsafe_code)]
        let (backend, buffers, outbox) = unsafe {
            (
                ManuallyDrop::take(&mut self.backend),
                ManuallyDrop::take(&mut self.buffers),
                ManuallyDrop::take(&mut self.outbox),
            )
        };
        if forked {
            backend.abandon(); // the mappings are not there
        } else {
            drop(backend);
            if !quiet {
                std::mem::forget((buffers, outbox)); // the kernel may still write to these, and read
            }
        }
    }
}

impl Ring {
    /// Ends everything that the kernel has at work, so that its memory can go; whether that worked. Only the thread
    /// that drives the ring may talk to the kernel for it; a ring that nobody has used has nothing at work.
    fn shut_down(&mut self) -> bool {
        let owner = self.options.any_thread || self.owner == thread_number();
        let deadline = self.clock.now() + nanoseconds(LAST_WAIT);
        self.harvest(usize::MAX);
        while owner && self.in_flight() > 0 && self.clock.now() < deadline {
            if self.backend.room(1) {
                self.backend.cancel_all(Token::of_ring(Purpose::CancelAll));
            }
            if self.backend.enter(1, Some(Duration::from_millis(20))).is_err() {
                break;
            }
            self.harvest(usize::MAX);
        }
        // Sockets that nobody was told of, and those that we were to close.
        for told in self.ready.drain(..) {
            let told = told.completion;
            if told.op_kind == OpKind::Accept as u8 && told.result >= 0 {
                sys::close(told.result as RawFd);
            }
        }
        for (_, connection) in self.connections.iter() {
            if !connection.ended && connection.close == Step::Wanted {
                sys::close(connection.fd);
            }
        }
        self.in_flight() == 0
    }
}
