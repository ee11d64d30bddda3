//! The ring: commands change what connections are wanted to do, [`Ring::wait`] brings the kernel in line with that
//! and hands out what has happened.
//!
//! A command never talks to the kernel. It notes a wish in the [`Connection`] and puts the connection on the list of
//! those to look at; [`Ring::reconcile`] compares wishes with what is at work in the kernel and queues the operations
//! that are missing. Arming a receive anew, continuing a short send, resuming after a starvation, closing once all
//! is sent: all of it is that one comparison.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::buffers::Buffers;
use super::completion::{Completion, F_ENDED, F_MORE, OpKind};
use super::connections::{Connections, Role, Slot, Step};
use super::error::{Error, Result};
use super::options::Options;
use super::outbox::{Outbox, Report, Segment};
use super::stats::Stats;
use super::timers::{TimerId, Timers};
use super::token::{Purpose, Token};
use super::uring::{Entered, Event, MAX_SEGMENTS, MAX_STEPS, PROMPT_BYTES, Uring};
use super::waker::Waker;
use crate::sys::{self, Clock};

/// How long an accept waits after the process ran out of descriptors or memory, unless a close frees one before.
const REST: Duration = Duration::from_millis(100);
/// How long a ring that is dropped waits for the kernel to let go of its memory.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What a deadline is for.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    User(i64),
    /// The connection has been silent for long enough, perhaps.
    Idle(Token),
    /// What has not been sent by now is not sent.
    Close(Token),
    /// Accepting may be tried again.
    Rested(Token),
    Drain,
}

/// A socket ring. It belongs to the thread that uses it first (see [`Options::any_thread`]).
#[derive(Debug)]
pub struct Ring {
    backend: Uring,
    buffers: Buffers,
    connections: Connections,
    outbox: Outbox,
    /// Connections to reconcile.
    dirty: VecDeque<Slot>,
    /// Connections that wait for a buffer, the longest first.
    starved: VecDeque<Slot>,
    /// Completions to hand out.
    ready: VecDeque<Completion>,
    /// Completions ever put there, and those of them that end what is handed out at once.
    told: u64,
    breaks: VecDeque<u64>,
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
    /// We have made the event descriptor readable ourselves.
    signalled: bool,
    /// Listeners that wait for a descriptor to become free.
    resting: usize,
    /// The host closes connections through the ring, not by itself.
    closes: bool,
    draining: bool,
    drain_timer: Option<TimerId>,
    stats: Stats,
    options: Options,
}

impl Ring {
    /// Makes a ring. Nothing runs, and no thread owns it, before the first call.
    pub fn new(options: Options) -> Result<Self> {
        let buffers = Buffers::new(&options)?;
        let backend = Uring::new(&options, &buffers)?;
        Ok(Self {
            backend,
            buffers,
            connections: Connections::new(),
            outbox: Outbox::new(),
            dirty: VecDeque::new(),
            starved: VecDeque::new(),
            ready: VecDeque::new(),
            told: 0,
            breaks: VecDeque::new(),
            events: Vec::new(),
            timers: Timers::new(),
            user_timers: HashMap::new(),
            clock: Clock::start(),
            alarm: None,
            idlers: 0,
            now: 0,
            waker: Arc::new(Waker::new()?),
            watching: false,
            signalled: false,
            resting: 0,
            closes: false,
            draining: false,
            drain_timer: None,
            stats: Stats::default(),
            options,
        })
    }

    /// Binds the ring to the calling thread. Comes before every other call, once.
    pub(super) fn enable(&mut self) -> Result<()> {
        self.backend.enable()
    }

    /// What wakes this ring from other threads.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    // Commands.

    /// Accepts connections on `listener` until cancelled, each told by a completion.
    pub fn submit_accept(&mut self, listener: RawFd) -> Result<()> {
        if self.draining {
            return Err(Error::Draining);
        }
        self.start_inbound(listener, Role::Listener)
    }

    /// Receives on `fd` until the end of the stream, each piece told by a completion that lends a buffer.
    pub fn submit_recv(&mut self, fd: RawFd) -> Result<()> {
        self.start_inbound(fd, Role::Stream)
    }

    fn start_inbound(&mut self, fd: RawFd, role: Role) -> Result<()> {
        let mut slot = self.open(fd, role)?;
        if self.connections[slot].role != role {
            let inbound = &self.connections[slot].inbound;
            if inbound.wanted || inbound.armed || !self.connections[slot].queue.is_empty() {
                return Err(state(libc::EINVAL, fd, "a descriptor is either a listener or a stream"));
            }
            self.end(slot);
            slot = self.begin(fd, role)?;
        }
        let connection = &mut self.connections[slot];
        if connection.inbound.wanted {
            let why = match role {
                Role::Listener => "it is accepting already",
                Role::Stream => {
                    "it is receiving already; after closing a descriptor yourself, call forget before its number comes back"
                }
            };
            return Err(state(libc::EALREADY, fd, why));
        }
        connection.inbound.wanted = true;
        self.touch(slot);
        Ok(())
    }

    /// Sends a copy of `bytes` after all that is queued on `fd`. `quiet`: only a failure is told.
    pub fn send(&mut self, fd: RawFd, bytes: &[u8], quiet: bool) -> Result<()> {
        let slot = self.writable(fd, bytes.len() as u64)?;
        self.outbox.push_copy(&mut self.connections[slot].queue, bytes, quiet)?;
        self.touch(slot);
        Ok(())
    }

    /// Sends bytes of the caller. The list of segments is copied, the bytes are not; `release` names a receive buffer
    /// that goes back to the kernel together with the completion.
    ///
    /// # Safety
    /// The bytes stay valid and unchanged until the completion of this send has come, or until the ring is gone.
    #[allow(unsafe_code)]
    pub unsafe fn send_borrowed(
        &mut self,
        fd: RawFd,
        segments: &[Segment],
        quiet: bool,
        release: Option<i32>,
    ) -> Result<()> {
        let Some(len) = segments.iter().try_fold(0u64, |len, segment| len.checked_add(segment.len() as u64)) else {
            return Err(Error::Argument { name: "iov_len", value: -1, must: "lengths whose sum fits into 64 bits" });
        };
        if let Some(id) = release {
            self.buffers.received(id)?;
        }
        let slot = self.writable(fd, len)?;
        let release = release.unwrap_or(-1);
        self.outbox.push_borrowed(&mut self.connections[slot].queue, segments, quiet, release)?;
        self.touch(slot);
        Ok(())
    }

    /// Sends a part of a received buffer, without a copy, and releases the buffer when that is done.
    pub fn send_buffer(&mut self, fd: RawFd, buf_id: i32, offset: u32, len: u32, quiet: bool) -> Result<()> {
        let (base, received) = self.buffers.received(buf_id)?;
        if u64::from(offset) + u64::from(len) > u64::from(received) {
            return Err(Error::Argument {
                name: "offset + len",
                value: i64::from(offset) + i64::from(len),
                must: "inside the bytes that the buffer received",
            });
        }
        let segment = Segment::new(base.wrapping_add(offset as usize), len as usize);
        // SAFETY: the slot belongs to this ring and stays the caller's until it is released below; a caller who
        // releases it before sends other bytes, of the same pool.
        #[allow(unsafe_code)]
        unsafe {
            self.send_borrowed(fd, &[segment], quiet, Some(buf_id))
        }
    }

    /// Closes `fd` once everything queued is sent, at the latest after `timeout`; what is then still queued is
    /// dropped. Its generation ends here: nothing received is told any more. A later call may shorten the time.
    pub fn submit_close(&mut self, fd: RawFd, timeout: Option<Duration>) -> Result<()> {
        let slot = match self.connections.find(fd) {
            Some(_) => self.met(fd)?,
            None => self.reach(fd)?,
        };
        let connection = &mut self.connections[slot];
        self.closes |= connection.role == Role::Stream;
        match connection.close {
            // Chained behind a send, which the time may still cut short.
            Step::Flying if connection.send == Step::Flying => {}
            Step::Flying => return Err(state(libc::EALREADY, fd, "it is being closed already")),
            _ => connection.close = Step::Wanted,
        }
        if connection.connect == Step::Wanted {
            connection.connect = Step::Idle;
        }
        if let Some(timer) = connection.close_timer.take() {
            self.timers.remove(timer);
        }
        match timeout {
            None => {}
            Some(Duration::ZERO) => self.drop_sends(slot),
            Some(timeout) => {
                let deadline = Deadline::Close(self.connections.token(slot, Purpose::Close));
                self.connections[slot].close_timer = Some(self.set_timer(timeout, deadline));
            }
        }
        self.touch(slot);
        Ok(())
    }

    /// Ends the sending half of `fd` once everything queued is sent.
    pub fn submit_shutdown(&mut self, fd: RawFd) -> Result<()> {
        let slot = self.writable(fd, 0)?;
        self.connections[slot].shutdown = Step::Wanted;
        self.touch(slot);
        Ok(())
    }

    /// Connects `fd`, a socket, to a `struct sockaddr` given as bytes. What the number meant before has ended.
    pub fn submit_connect(&mut self, fd: RawFd, address: &[u8]) -> Result<()> {
        if address.len() < 2 || address.len() > size_of::<libc::sockaddr_storage>() {
            let must = "the length of a socket address, 2 to 128";
            return Err(Error::Argument { name: "addr_len", value: address.len() as i64, must });
        }
        if self.connections.find(fd).is_some() {
            let old = self.met(fd)?;
            if self.connections[old].close == Step::Flying {
                return Err(state(libc::EALREADY, fd, "it is being closed"));
            }
            self.end(old);
        }
        let slot = self.begin(fd, Role::Stream)?;
        let connection = &mut self.connections[slot];
        connection.address.extend_from_slice(address);
        connection.connect = Step::Wanted;
        self.touch(slot);
        Ok(())
    }

    /// One completion with this id after `timeout`. A pending timeout of the same id is replaced.
    pub fn submit_timeout(&mut self, id: i64, timeout: Duration) {
        if let Some(pending) = self.user_timers.remove(&id) {
            self.timers.remove(pending);
        }
        let timer = self.set_timer(timeout, Deadline::User(id));
        self.user_timers.insert(id, timer);
    }

    /// Takes a pending timeout back.
    pub fn cancel_timeout(&mut self, id: i64) -> Result<()> {
        let timer = self.user_timers.remove(&id).ok_or(Error::NoTimeout(id))?;
        self.timers.remove(timer);
        Ok(())
    }

    /// Ends operations on `fd`: those whose [`OpKind`] is a bit of `ops`, or all if that is 0. Each ends with its
    /// completion, `-ECANCELED` unless it was faster.
    pub fn cancel(&mut self, fd: RawFd, ops: u32) -> Result<()> {
        let slot = self.known(fd)?;
        let asked = |op: OpKind| ops == 0 || ops & (1 << op as u8) != 0;
        let connection = &mut self.connections[slot];
        let mut found = false;
        let op = inbound_op(connection.role);
        if asked(op) && connection.inbound.wanted {
            found = true;
            connection.inbound.wanted = false;
            if connection.inbound.armed {
                connection.inbound.tell_cancel = true;
            } else {
                self.tell(Completion::new(op, fd, -i64::from(libc::ECANCELED)));
            }
        }
        if asked(OpKind::Connect) && matches!(self.connections[slot].connect, Step::Wanted | Step::Flying) {
            found = true;
            let connection = &mut self.connections[slot];
            if connection.connect == Step::Wanted {
                connection.connect = Step::Idle;
                self.tell(Completion::new(OpKind::Connect, fd, -i64::from(libc::ECANCELED)));
            } else {
                connection.drop_connect = true;
            }
        }
        if asked(OpKind::Send) && !self.connections[slot].queue.is_empty() {
            found = true;
            self.drop_sends(slot);
        }
        if !found {
            return Err(state(libc::ENOENT, fd, "nothing of that kind is at work on it"));
        }
        self.touch(slot);
        Ok(())
    }

    /// Stops receiving (or accepting) until [`Ring::resume`]. What is on its way already is still told.
    pub fn pause(&mut self, fd: RawFd) -> Result<()> {
        self.set_paused(fd, true)
    }

    /// Goes on after [`Ring::pause`].
    pub fn resume(&mut self, fd: RawFd) -> Result<()> {
        self.set_paused(fd, false)
    }

    fn set_paused(&mut self, fd: RawFd, paused: bool) -> Result<()> {
        let slot = self.known(fd)?;
        self.connections[slot].inbound.paused = paused;
        self.touch(slot);
        Ok(())
    }

    /// Tells, by a receive that is `-ETIMEDOUT`, when nothing was received or sent on `fd` for `timeout`: once for
    /// each silence. Zero turns it off. The connection itself stays as it is.
    pub fn set_idle_timeout(&mut self, fd: RawFd, timeout: Duration) -> Result<()> {
        let slot = self.reach(fd)?;
        self.clear_idle(slot);
        if !timeout.is_zero() {
            self.now = self.clock.now();
            self.idlers += 1;
            let connection = &mut self.connections[slot];
            connection.idle = duration_ns(timeout);
            connection.last_active = self.now;
            self.start_idle_timer(slot);
        }
        Ok(())
    }

    /// Ends the generation of `fd` for a host that closes the descriptor itself, which it does next, or has opened it
    /// anew. Nothing more is told about it, but that borrowed bytes are free.
    pub fn forget(&mut self, fd: RawFd) -> Result<()> {
        if self.connections.was_closed(fd) {
            self.connections.disown(fd);
            return Ok(());
        }
        let slot = self.met(fd)?;
        if self.connections[slot].close == Step::Flying {
            return Err(state(libc::EALREADY, fd, "the ring is closing it"));
        }
        self.end(slot);
        Ok(())
    }

    /// Stops accepting for good, and tells when the last connection has ended, or at the latest after `timeout`.
    pub fn drain(&mut self, timeout: Option<Duration>) {
        self.draining = true;
        let listeners: Vec<Slot> = (self.connections.iter())
            .filter(|(_, connection)| connection.role == Role::Listener && connection.is_open())
            .map(|(slot, _)| slot)
            .collect();
        for slot in listeners {
            self.connections[slot].inbound.wanted = false;
            self.touch(slot);
        }
        if let Some(timer) = self.drain_timer.take() {
            self.timers.remove(timer);
        }
        // Without a timeout the deadline is so far away that it only says "draining".
        let timeout = timeout.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        self.drain_timer = Some(self.set_timer(timeout, Deadline::Drain));
        self.check_drained();
    }

    // Buffers.

    /// Where the bytes of a held buffer are, and how many were received. They stay until it is released.
    pub fn buffer(&self, id: i32) -> Result<(*const u8, u32)> {
        self.buffers.received(id)
    }

    /// The whole pool: its address, the size of a buffer, the number of buffers.
    pub fn pool(&self) -> (*const u8, u32, u32) {
        (self.buffers.base(), self.buffers.buf_size(), self.buffers.count())
    }

    /// Gives a held buffer back to the kernel.
    pub fn release(&mut self, id: i32) -> Result<()> {
        let slot = self.buffers.release(id)?;
        self.backend.give_buffer(&self.buffers, slot);
        Ok(())
    }

    // Waiting.

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
            timeout.filter(|_| !only_look).map(|timeout| self.clock.now().saturating_add(duration_ns(timeout)));
        if let Some(event_fd) = self.waker.outside() {
            event_fd.clear(); // before looking: what comes later signals anew
            self.signalled = false;
            self.stats.syscalls += 1;
        }
        self.start_watching();
        self.settle(); // what was asked for since the last wait
        self.harvest(out.len());
        let mut entered = None;
        loop {
            let enough = self.ready.len() >= want;
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
            let missing = want.saturating_sub(self.ready.len());
            let left = deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(self.clock.now())));
            let how = self.backend.enter(missing, left)?;
            let had = self.ready.len();
            self.harvest(out.len());
            // A timer of ours ends a wait in the kernel, too: that is no signal.
            entered = Some(if self.backend.timer_fired() { Entered::Done } else { how });
            if how == Entered::Busy && self.ready.len() == had {
                return Err(Error::System { doing: "io_uring_enter", errno: libc::EAGAIN });
            }
        }
        Ok(self.hand_out(out))
    }

    fn hand_out(&mut self, out: &mut [MaybeUninit<Completion>]) -> usize {
        let mut count = self.ready.len().min(out.len());
        let handed_out = self.told - self.ready.len() as u64;
        if let Some(&end) = self.breaks.front()
            && end - handed_out <= count as u64
        {
            count = (end - handed_out) as usize;
            self.breaks.pop_front();
        }
        for (to, from) in out.iter_mut().zip(self.ready.drain(..count)) {
            if from.op_kind == OpKind::Accept as u8 && from.result >= 0 {
                self.connections.introduce(from.result as RawFd);
            }
            to.write(from);
        }
        count
    }

    /// Submits everything queued, without waiting or looking.
    pub fn flush(&mut self) -> Result<()> {
        self.start_watching();
        self.settle();
        if self.backend.has_work() {
            self.backend.enter(0, None)?;
        }
        Ok(())
    }

    /// A descriptor that is readable while completions wait.
    pub fn event_fd(&mut self) -> Result<RawFd> {
        if let Some(event_fd) = self.waker.outside() {
            return Ok(event_fd.as_raw_fd());
        }
        let fd = self.waker.make_outside()?.as_raw_fd();
        self.backend.register_event(fd)?;
        Ok(fd)
    }

    /// Comes after every call from outside: who sleeps on the event descriptor must not miss what is left to do here,
    /// be it completions to take or commands to submit.
    pub(super) fn leave(&mut self) {
        let Some(event_fd) = self.waker.outside() else { return };
        let no_alarm = self.alarm.is_none() && !self.timers.is_empty();
        if !self.signalled
            && (!self.ready.is_empty()
                || !self.dirty.is_empty()
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
            buffers_held: self.buffers.held().into(),
            connections: self.connections.streams as u64,
            in_flight: self.in_flight(),
            ..self.stats
        }
    }

    fn in_flight(&self) -> u64 {
        self.connections.iter().map(|(_, connection)| u64::from(connection.in_flight())).sum()
    }

    // Connections.

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
            return Err(state(
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
            Some(_) => {
                Err(state(libc::ENOENT, fd, "its last connection is closed, and its next one was not told of yet"))
            }
            None if fd < 0 => Err(Error::BadDescriptor(fd)),
            None => Err(state(libc::ENOENT, fd, "the ring does not know it")),
        }
    }

    /// The same, unless it is being closed.
    fn known(&self, fd: RawFd) -> Result<Slot> {
        let slot = self.met(fd)?;
        match self.connections[slot].close {
            Step::Idle => Ok(slot),
            _ => Err(state(libc::ESHUTDOWN, fd, "it is being closed")),
        }
    }

    /// A connection that `len` more bytes may be queued on.
    fn writable(&mut self, fd: RawFd, len: u64) -> Result<Slot> {
        let slot = self.reach(fd)?;
        let connection = &self.connections[slot];
        if connection.role == Role::Listener {
            return Err(state(libc::ENOTCONN, fd, "it is a listener"));
        }
        if connection.send_error != 0 {
            return Err(state(libc::EPIPE, fd, "a send on it has failed: nothing can follow it"));
        }
        if connection.shutdown != Step::Idle {
            return Err(state(libc::EPIPE, fd, "its sending half is shut down"));
        }
        let backlog = |queued: u64, bound: u64| queued > 0 && queued.saturating_add(len) > bound && len > 0;
        for (queued, bound) in [
            (connection.queue.bytes, self.options.max_queued_bytes),
            (self.outbox.bytes, self.options.max_queued_total),
        ] {
            if backlog(queued, bound) {
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
        self.connections.end(slot);
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

    fn tell(&mut self, completion: Completion) {
        self.told += 1;
        self.ready.push_back(completion);
    }

    /// A number has come back. What the caller is told of it, and does about it, is about its last connection until
    /// it has been told of this one: so the two do not share a batch.
    fn tell_accepted(&mut self, completion: Completion) {
        let fd = completion.result as RawFd;
        let is_about = |told: &Completion| {
            told.fd == fd || (told.op_kind == OpKind::Accept as u8 && told.result == completion.result)
        };
        if self.ready.iter().any(is_about) {
            self.breaks.push_back(self.told);
        }
        self.tell(completion);
    }

    // Reconciling: from wishes to operations.

    fn settle(&mut self) {
        self.reconcile();
        self.arm_alarm();
    }

    fn reconcile(&mut self) {
        // As many starved connections go on as there are buffers for.
        let mut available = self.buffers.count() - self.buffers.held();
        while available > 0
            && let Some(slot) = self.starved.pop_front()
        {
            if std::mem::take(&mut self.connections[slot].inbound.starved) {
                available -= 1;
                self.touch(slot);
            }
        }
        while !self.dirty.is_empty() && self.backend.room(MAX_STEPS) {
            if let Some(slot) = self.dirty.pop_front() {
                self.connections[slot].dirty = false;
                self.reconcile_one(slot);
            }
        }
    }

    fn reconcile_one(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        let (fd, open) = (connection.fd, connection.is_open());

        if connection.connect == Step::Wanted && open {
            connection.connect = Step::Flying;
            self.backend.connect(self.connections.token(slot, Purpose::Connect), fd, &self.connections[slot].address);
        } else if connection.connect == Step::Flying
            && !connection.connect_cancelling
            && (connection.drop_connect || !open)
        {
            connection.connect_cancelling = true;
            self.backend.cancel(
                self.connections.token(slot, Purpose::CancelConnect),
                self.connections.token(slot, Purpose::Connect),
            );
        }

        let connection = &mut self.connections[slot];
        let connecting = matches!(connection.connect, Step::Wanted | Step::Flying);
        let inbound = &connection.inbound;
        let arm = open && inbound.wanted && !inbound.paused && !inbound.starved && !inbound.resting && !connecting;
        if arm && !inbound.armed {
            self.arm_inbound(slot);
        } else if !arm && inbound.armed && !inbound.cancelling {
            self.connections[slot].inbound.cancelling = true;
            self.backend.cancel(
                self.connections.token(slot, Purpose::CancelInbound),
                self.connections.token(slot, Purpose::Inbound),
            );
        }

        let connection = &self.connections[slot];
        if connection.send == Step::Flying {
            if connection.drop_sends && !connection.send_cancelling {
                self.connections[slot].send_cancelling = true;
                self.backend.cancel(
                    self.connections.token(slot, Purpose::CancelSend),
                    self.connections.token(slot, Purpose::Send),
                );
            }
        } else if !connection.ended && !connecting {
            self.finish_sends(slot); // those of no bytes
            if self.connections[slot].queue.is_empty() {
                self.finish_sending_half(slot);
            } else {
                self.submit_sends(slot);
            }
        }

        let connection = &self.connections[slot];
        if connection.ended && connection.in_flight() == 0 {
            self.connections.retire(slot);
        }
    }

    fn arm_inbound(&mut self, slot: Slot) {
        let token = self.connections.token(slot, Purpose::Inbound);
        let connection = &mut self.connections[slot];
        connection.inbound.armed = true;
        match connection.role {
            Role::Listener => {
                connection.inbound.multishot = true;
                self.backend.accept(token, connection.fd);
            }
            Role::Stream => {
                // Many a client wants one answer and no more; its connection is then closed without a receive to
                // cancel. Not for hosts that close by themselves: a receive must not be armed anew on a number that
                // they may have closed meanwhile.
                let multishot = connection.inbound.warm || !self.closes;
                connection.inbound.multishot = self.backend.receive(token, connection.fd, multishot);
            }
        }
    }

    /// Sends as much of the queue as one operation takes. When that is all and the connection is to be closed, the
    /// close is chained to it; a send that stays short breaks the chain, and both are done again for the rest.
    fn submit_sends(&mut self, slot: Slot) {
        let mut segments = [Segment::new(std::ptr::null(), 0); MAX_SEGMENTS];
        let connection = &mut self.connections[slot];
        let (count, bytes) = self.outbox.gather(&connection.queue, &mut segments);
        let last =
            connection.close == Step::Wanted && connection.shutdown != Step::Wanted && bytes == connection.queue.bytes;
        connection.send = Step::Flying;
        connection.flying = bytes;
        let fd = connection.fd;
        // Nothing is to be told or done when this is sent, unless it fails.
        let idle = connection.queue.loud == 0 && bytes == connection.queue.bytes && connection.shutdown != Step::Wanted;
        self.backend.send(self.connections.token(slot, Purpose::Send), fd, &segments[..count], last);
        if idle && bytes <= PROMPT_BYTES && self.starved.is_empty() {
            self.backend.expect_prompt();
        }
        if last {
            self.submit_close_operation(slot);
        }
    }

    /// Everything is sent: shuts down or closes if that is wanted.
    fn finish_sending_half(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if connection.shutdown == Step::Wanted {
            connection.shutdown = Step::Done;
            let fd = connection.fd;
            let result =
                sys::shutdown_write(fd).map_or_else(|e| -i64::from(e.raw_os_error().unwrap_or(libc::EIO)), |()| 0);
            self.stats.syscalls += 1;
            self.tell(Completion::new(OpKind::Shutdown, fd, result));
        }
        if self.connections[slot].close == Step::Wanted {
            self.submit_close_operation(slot);
        }
    }

    fn submit_close_operation(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        connection.close = Step::Flying;
        let fd = connection.fd;
        self.backend.close(self.connections.token(slot, Purpose::Close), fd);
    }

    // Harvesting: from the kernel's answers to completions.

    /// Looks at the kernel's answers until `cap` completions are ready.
    fn harvest(&mut self, cap: usize) {
        while self.ready.len() < cap {
            let mut events = std::mem::take(&mut self.events);
            self.backend.take(&mut events, cap - self.ready.len());
            let none = events.is_empty();
            if !none && self.idlers > 0 {
                self.now = self.clock.now();
            }
            for event in events.drain(..) {
                self.complete(event);
            }
            self.events = events;
            if none {
                break;
            }
        }
        if self.alarm.is_none() && !self.timers.is_empty() {
            self.fire_timers();
        }
    }

    fn complete(&mut self, event: Event) {
        match event.token.purpose() {
            Some(Purpose::Wake) => self.on_wake(event),
            Some(Purpose::Alarm) => self.alarm = None,
            None | Some(Purpose::AlarmUpdate | Purpose::CancelAll | Purpose::Guard) => {}
            Some(purpose) => {
                let Some(slot) = self.connections.resolve(event.token) else { return };
                match (purpose, self.connections[slot].role) {
                    (Purpose::Inbound, Role::Listener) => self.on_accept(slot, event),
                    (Purpose::Inbound, Role::Stream) => self.on_receive(slot, event),
                    (Purpose::Send, _) => self.on_send(slot, event.result),
                    (Purpose::Connect, _) => self.on_connect(slot, event.result),
                    (Purpose::Close, _) => self.on_close(slot, event.result),
                    _ => self.on_cancel_failed(slot, purpose, event.result),
                }
                let connection = &self.connections[slot];
                if connection.ended && !connection.dirty && connection.in_flight() == 0 {
                    self.touch(slot);
                }
            }
        }
    }

    fn on_accept(&mut self, slot: Slot, event: Event) {
        let more = self.note_inbound_answer(slot, event);
        let listener = self.connections[slot].fd;
        let open = self.connections[slot].is_open();
        let wanted = open && self.connections[slot].inbound.wanted;
        let goes_on = if wanted { F_MORE } else { 0 };
        let told =
            |result: i64| Completion::new(OpKind::Accept, listener, result).with_flags(event.flags & !F_MORE | goes_on);
        match event.result {
            accepted if accepted >= 0 => {
                if !open {
                    self.stats.stale_dropped += 1;
                    sys::close(accepted);
                    return;
                }
                match self.succeed(accepted) {
                    Ok(()) => self.tell_accepted(told(accepted.into())),
                    Err(_) => {
                        sys::close(accepted);
                        self.tell(told(-i64::from(libc::ENOMEM)));
                    }
                }
            }
            _ if more || !open => {}
            _ if -event.result == libc::ECANCELED => self.on_inbound_cancelled(slot, event),
            // The kernel has no room for another connection: told, and tried again in a moment.
            _ if matches!(-event.result, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) && wanted => {
                self.connections[slot].inbound.resting = true;
                self.resting += 1;
                let token = self.connections.token(slot, Purpose::Inbound);
                self.set_timer(REST, Deadline::Rested(token));
                self.tell(told(event.result.into()));
            }
            _ if is_of_one_client(-event.result) => {} // the next one, please
            // The listener is of no use: the caller's error, told once.
            _ => {
                self.connections[slot].inbound.wanted = false;
                self.tell(told(event.result.into()).with_flags(0));
                self.end_if_not_there(slot, event.result);
            }
        }
    }

    /// Starts the generation of a number that was just accepted, in place of any that had it.
    fn succeed(&mut self, fd: RawFd) -> Result<()> {
        if let Some(old) = self.connections.find(fd) {
            if self.connections[old].close == Step::Flying {
                self.tell_closed(old, 0); // it is closed, the number is back: only the answer is late
            } else {
                self.end(old);
            }
        }
        let slot = self.begin(fd, Role::Stream)?;
        self.connections[slot].introduced = false;
        Ok(())
    }

    fn on_receive(&mut self, slot: Slot, event: Event) {
        let buffer = event.buffer();
        let more = self.note_inbound_answer(slot, event);
        let connection = &mut self.connections[slot];
        let fd = connection.fd;
        if event.result > 0
            && let Some(id) = buffer
        {
            if !connection.is_open() {
                self.stats.stale_dropped += 1;
                self.backend.give_buffer(&self.buffers, id);
                return;
            }
            connection.inbound.warm = true;
            self.buffers.take(id, event.result as u32);
            self.note_activity(slot);
            // A receive goes on by itself, until it is cancelled.
            let goes_on = if self.connections[slot].inbound.wanted { F_MORE } else { 0 };
            let flags = event.flags & !F_MORE | goes_on;
            self.tell(Completion::new(OpKind::Recv, fd, event.result.into()).with_buffer(id).with_flags(flags));
            return;
        }
        if let Some(id) = buffer {
            self.backend.give_buffer(&self.buffers, id); // nothing is in it
        }
        if more || !connection.is_open() {
            return;
        }
        match -event.result {
            libc::ENOBUFS => {
                self.stats.starvations += 1;
                self.connections[slot].inbound.starved = true;
                self.starved.push_back(slot);
            }
            libc::ECANCELED => self.on_inbound_cancelled(slot, event),
            libc::EINTR | libc::EAGAIN => {}
            libc::EINVAL if self.connections[slot].inbound.multishot => self.backend.give_up_multishot(),
            _ => {
                // The end of the stream, or an error: either way the last word of this receive.
                self.connections[slot].inbound.wanted = false;
                // That the host has closed the number is no news to it.
                if !(self.connections[slot].inbound.warm && event.result == -libc::EBADF) {
                    self.tell(Completion::new(OpKind::Recv, fd, event.result.into()).with_flags(event.flags & !F_MORE));
                }
                self.end_if_not_there(slot, event.result);
            }
        }
    }

    /// What every answer to an accept or a receive means for its being armed; whether it goes on.
    fn note_inbound_answer(&mut self, slot: Slot, event: Event) -> bool {
        let more = event.more();
        if !more {
            let inbound = &mut self.connections[slot].inbound;
            inbound.armed = false;
            inbound.cancelling = false;
            if inbound.wanted {
                self.stats.rearms += u64::from(inbound.multishot);
                self.touch(slot);
            }
        }
        more
    }

    fn on_inbound_cancelled(&mut self, slot: Slot, event: Event) {
        let connection = &mut self.connections[slot];
        // Else it was a pause, or the thread that had submitted it is gone: armed anew when it is wanted.
        if std::mem::take(&mut connection.inbound.tell_cancel) {
            let told = Completion::new(inbound_op(connection.role), connection.fd, event.result.into());
            self.tell(told);
        }
    }

    fn on_send(&mut self, slot: Slot, result: i32) {
        let connection = &mut self.connections[slot];
        let asked = std::mem::take(&mut connection.flying);
        connection.send = Step::Idle;
        connection.send_cancelling = false;
        match result {
            // A send of something never gives nothing.
            0 => self.fail_sends(slot, libc::EIO),
            sent if sent > 0 => {
                self.stats.short_sends += u64::from((sent as u64) < asked);
                self.outbox.progress(&mut self.connections[slot].queue, sent as u64);
                self.note_activity(slot);
                self.finish_sends(slot);
                if self.connections[slot].drop_sends {
                    self.drop_sends(slot);
                }
            }
            _ if self.connections[slot].drop_sends => self.drop_sends(slot),
            _ if matches!(-result, libc::EINTR | libc::EAGAIN | libc::ECANCELED) => {} // again
            _ => self.fail_sends(slot, -result),
        }
        let connection = &self.connections[slot];
        if !connection.queue.is_empty() || connection.shutdown == Step::Wanted || connection.close == Step::Wanted {
            self.touch(slot);
        }
    }

    /// Reports the submissions that are sent whole.
    fn finish_sends(&mut self, slot: Slot) {
        while let Some(report) = self.outbox.advance(&mut self.connections[slot].queue) {
            let len = report.len as i64;
            self.report_send(slot, report, len);
        }
    }

    /// A send failed: whatever is queued behind it fails with it.
    fn fail_sends(&mut self, slot: Slot, errno: i32) {
        self.connections[slot].send_error = errno;
        while let Some(report) = self.outbox.fail(&mut self.connections[slot].queue) {
            self.report_send(slot, report, -i64::from(errno));
        }
    }

    /// Drops what is queued, as soon as the kernel has nothing of it.
    fn drop_sends(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        connection.drop_sends = connection.send == Step::Flying;
        if connection.drop_sends {
            return; // the answer to the cancellation comes back here
        }
        if self.outbox.is_torn(&connection.queue) {
            connection.send_error = libc::ECANCELED; // half of a submission went out: the stream is of no use
        }
        while let Some(report) = self.outbox.fail(&mut self.connections[slot].queue) {
            self.report_send(slot, report, -i64::from(libc::ECANCELED));
        }
    }

    fn report_send(&mut self, slot: Slot, report: Report, result: i64) {
        if report.release >= 0 {
            let _ = self.release(report.release); // the caller may have released it before, against the rules
        }
        let connection = &self.connections[slot];
        // Who lent bytes hears of it in any case.
        let silent = if connection.ended { !report.borrowed || report.quiet } else { report.quiet && result >= 0 };
        if !silent {
            let flags = if connection.ended { F_ENDED } else { 0 };
            let told = Completion::new(OpKind::Send, connection.fd, result).with_flags(flags);
            self.tell(told);
        }
    }

    fn on_connect(&mut self, slot: Slot, result: i32) {
        let connection = &mut self.connections[slot];
        connection.connect = Step::Done;
        connection.connect_cancelling = false;
        if !connection.ended {
            let told = Completion::new(OpKind::Connect, connection.fd, result.into());
            if connection.is_open() {
                self.tell(told);
            }
            if result < 0 {
                self.fail_sends(slot, -result);
            }
            self.touch(slot);
        }
    }

    fn on_close(&mut self, slot: Slot, result: i32) {
        if self.connections[slot].ended {
            self.connections[slot].close = Step::Done; // told already
        } else if -result == libc::ECANCELED {
            self.connections[slot].close = Step::Wanted; // the send before it was short, or failed
            self.touch(slot);
        } else {
            self.tell_closed(slot, result);
            self.connections[slot].close = Step::Done;
        }
        self.wake_resting();
    }

    fn tell_closed(&mut self, slot: Slot, result: i32) {
        let connection = &self.connections[slot];
        let result = if result == 0 { connection.close_result } else { result };
        let told = Completion::new(OpKind::Close, connection.fd, result.into());
        self.tell(told);
        self.end(slot);
    }

    fn on_cancel_failed(&mut self, slot: Slot, purpose: Purpose, result: i32) {
        // Not found: its answer is under way. Too late to stop it: its answer comes soon, or it is asked again.
        if -result == libc::EALREADY {
            let connection = &mut self.connections[slot];
            match purpose {
                Purpose::CancelInbound => connection.inbound.cancelling = false,
                Purpose::CancelSend => connection.send_cancelling = false,
                _ => connection.connect_cancelling = false,
            }
            self.touch(slot);
        }
    }

    // Waking.

    fn start_watching(&mut self) {
        if !self.watching && self.backend.room(1) {
            self.watching = true;
            self.backend.watch(Token::of_ring(Purpose::Wake), self.waker.as_raw_fd());
        }
    }

    fn on_wake(&mut self, event: Event) {
        if !event.more() {
            self.watching = false;
            self.start_watching();
        }
        if event.result >= 0 && self.waker.take() {
            self.stats.syscalls += 1;
            self.tell(Completion::new(OpKind::Wake, -1, 0));
        }
    }

    // Time.

    fn set_timer(&mut self, after: Duration, what: Deadline) -> TimerId {
        self.timers.insert(self.clock.now().saturating_add(duration_ns(after)), what)
    }

    /// Has the kernel wake us for the earliest timer.
    fn arm_alarm(&mut self) {
        let Some(next) = self.timers.next() else { return };
        if self.alarm.is_none_or(|alarm| next < alarm) && self.backend.room(1) {
            let delay = Duration::from_nanos(next.saturating_sub(self.clock.now()));
            let pending = Token::of_ring(Purpose::Alarm);
            match self.alarm {
                None => self.backend.alarm(pending, delay, None),
                Some(_) => self.backend.alarm(Token::of_ring(Purpose::AlarmUpdate), delay, Some(pending)),
            }
            self.alarm = Some(next);
        }
    }

    fn fire_timers(&mut self) {
        self.now = self.clock.now();
        while let Some(what) = self.timers.pop_due(self.now) {
            match what {
                Deadline::User(id) => {
                    self.user_timers.remove(&id);
                    self.tell(Completion::new(OpKind::Timeout, -1, id));
                }
                Deadline::Idle(token) => self.on_idle(token),
                Deadline::Close(token) => {
                    if let Some(slot) = self.connections.resolve(token) {
                        let connection = &mut self.connections[slot];
                        connection.close_timer = None;
                        connection.close_result = -libc::ETIMEDOUT;
                        self.drop_sends(slot);
                        self.touch(slot);
                    }
                }
                Deadline::Rested(token) => {
                    if let Some(slot) = self.connections.resolve(token) {
                        self.end_rest(slot);
                    }
                }
                Deadline::Drain => {
                    self.drain_timer = None;
                    let left = self.connections.streams as i64;
                    self.tell(Completion::new(OpKind::Drain, -1, left));
                }
            }
        }
    }

    /// A descriptor has become free: accepts that wait for one go on.
    fn wake_resting(&mut self) {
        if self.resting > 0 {
            let resting: Vec<Slot> =
                self.connections.iter().filter(|(_, c)| c.inbound.resting).map(|(slot, _)| slot).collect();
            for slot in resting {
                self.end_rest(slot);
            }
        }
    }

    fn end_rest(&mut self, slot: Slot) {
        if std::mem::take(&mut self.connections[slot].inbound.resting) {
            self.resting -= 1;
            self.touch(slot);
        }
    }

    fn check_drained(&mut self) {
        if self.connections.streams == 0
            && let Some(timer) = self.drain_timer.take()
        {
            self.timers.remove(timer);
            self.tell(Completion::new(OpKind::Drain, -1, 0));
        }
    }

    fn note_activity(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if connection.idle > 0 {
            connection.last_active = self.now;
            if connection.idle_timer.is_none() && connection.is_open() {
                self.start_idle_timer(slot);
            }
        }
    }

    fn start_idle_timer(&mut self, slot: Slot) {
        let token = self.connections.token(slot, Purpose::Inbound);
        let connection = &mut self.connections[slot];
        let deadline = connection.last_active.saturating_add(connection.idle);
        connection.idle_timer = Some(self.timers.insert(deadline, Deadline::Idle(token)));
    }

    fn on_idle(&mut self, token: Token) {
        let Some(slot) = self.connections.resolve(token) else { return };
        let connection = &mut self.connections[slot];
        connection.idle_timer = None;
        if !connection.is_open() {
            return;
        }
        if connection.last_active.saturating_add(connection.idle) > self.now {
            self.start_idle_timer(slot); // something came meanwhile
        } else {
            let flags = if connection.inbound.wanted { F_MORE } else { 0 };
            let told = Completion::new(OpKind::Recv, connection.fd, -i64::from(libc::ETIMEDOUT)).with_flags(flags);
            self.tell(told);
        }
    }

    fn clear_idle(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if std::mem::take(&mut connection.idle) > 0 {
            self.idlers -= 1;
        }
        if let Some(timer) = connection.idle_timer.take() {
            self.timers.remove(timer);
        }
    }
}

impl Ring {
    /// Ends everything that the kernel has at work, so that its memory can go; whether that worked. `owner`: on the
    /// thread that may talk to the kernel for this ring.
    pub(super) fn shut_down(&mut self, owner: bool) -> bool {
        let deadline = self.clock.now() + duration_ns(LAST_WAIT);
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

    /// Gives up what the kernel may still write to, and closes the rest.
    pub(super) fn leak(self) {
        std::mem::forget((self.buffers, self.outbox));
    }

    /// In a forked child: closes this process's descriptors and leaves the mappings, which are not there, alone.
    pub(super) fn abandon(self) {
        self.backend.abandon();
    }
}

fn inbound_op(role: Role) -> OpKind {
    match role {
        Role::Listener => OpKind::Accept,
        Role::Stream => OpKind::Recv,
    }
}

fn state(errno: i32, fd: RawFd, why: &'static str) -> Error {
    Error::State { status: -errno, fd, why }
}

fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Errors of accept(2) that concern the connection that would have come, not the listener.
fn is_of_one_client(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EINTR
            | libc::EAGAIN
            | libc::EPROTO
            | libc::EPERM
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENONET
            | libc::ENOPROTOOPT
    )
}
