//! From the kernel's answers to completions.

use std::os::fd::{AsRawFd, RawFd};

use super::deadlines::{Deadline, REST};
use super::{Completion, Event, OpKind, Purpose, Result, Ring, Role, Slot, Step, Token};
use crate::hotpath::completion::{F_ENDED, F_MORE};
use crate::hotpath::outbox::Report;
use crate::sys;

impl Ring {
    /// Looks at the kernel's answers until `cap` completions are ready.
    pub(super) fn harvest(&mut self, cap: usize) {
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
        let (open, wanted) = (self.connections[slot].is_open(), self.connections[slot].inbound.wanted);
        let told = |result: i32| Completion::new(OpKind::Accept, listener, result.into());
        match event.result {
            accepted if accepted >= 0 && !open => {
                self.stats.stale_dropped += 1;
                sys::close(accepted);
            }
            accepted if accepted >= 0 => {
                let flags = event.flags & !F_MORE | self.goes_on(slot, more);
                if self.succeed(accepted).is_ok() {
                    self.tell_accepted(told(accepted).with_flags(flags));
                } else {
                    sys::close(accepted);
                    self.tell(told(-libc::ENOMEM).with_flags(flags));
                }
            }
            _ if more || !open => {}
            _ if !wanted => self.on_inbound_cancelled(slot),
            // The kernel has no room for another connection: told, and tried again in a moment.
            error if matches!(-error, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.connections[slot].inbound.resting = true;
                self.resting += 1;
                let token = self.connections.token(slot, Purpose::Inbound);
                self.set_timer(REST, Deadline::Rested(token));
                self.tell(told(error).with_flags(F_MORE));
            }
            // A pause, or the thread that had submitted it is gone, or the client is: the next one, please.
            error if -error == libc::ECANCELED || is_of_one_client(-error) => {}
            // The listener is of no use: the caller's error, told once.
            error => {
                self.connections[slot].inbound.wanted = false;
                self.end_if_not_there(slot, error);
                self.tell(told(error));
            }
        }
    }

    /// Starts the generation of a number that was just accepted, in place of any that had it.
    fn succeed(&mut self, fd: RawFd) -> Result<()> {
        if let Some(old) = self.connections.find(fd) {
            if self.connections[old].close == Step::Flying {
                self.finish_chain(old);
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
            let flags = event.flags & !F_MORE | self.goes_on(slot, more);
            let told = Completion::new(OpKind::Recv, fd, event.result.into()).with_buffer(id).with_flags(flags);
            self.tell_of(slot, told, false);
            return;
        }
        if let Some(id) = buffer {
            self.backend.give_buffer(&self.buffers, id); // nothing is in it
        }
        if more || !connection.is_open() {
            return;
        }
        let wanted = self.connections[slot].inbound.wanted;
        match -event.result {
            libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN if !wanted => self.on_inbound_cancelled(slot),
            libc::ENOBUFS => {
                self.stats.starvations += 1;
                self.connections[slot].inbound.starved = true;
                if self.starved.len() >= self.connections.slots() {
                    self.starved.retain(|&slot| self.connections[slot].inbound.starved); // some have ended since
                }
                self.starved.push_back(slot);
            }
            // A pause, or the thread that had submitted it is gone.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            libc::EINVAL if self.connections[slot].inbound.multishot => self.backend.give_up_multishot(),
            _ => {
                // The end of the stream, or an error: either way the last word of this receive.
                self.connections[slot].inbound.wanted = false;
                self.connections[slot].inbound.tell_cancel = false;
                let told = Completion::new(OpKind::Recv, fd, event.result.into()).with_flags(event.flags & !F_MORE);
                // That the host has closed the number is no news to it.
                let news = !(self.connections[slot].inbound.warm && event.result == -libc::EBADF);
                self.end_if_not_there(slot, event.result);
                if !self.connections[slot].ended {
                    self.tell_of(slot, told, false);
                } else if news {
                    self.tell(told);
                }
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

    /// Whether the caller is to expect more of this accept or receive: until it is cancelled, it goes on by itself; a
    /// cancelled one until the kernel has answered that.
    fn goes_on(&mut self, slot: Slot, more: bool) -> u32 {
        let inbound = &mut self.connections[slot].inbound;
        if !more && inbound.tell_cancel && !inbound.wanted {
            inbound.tell_cancel = false; // faster than its cancellation, and so the last word
        }
        if inbound.wanted || inbound.tell_cancel { F_MORE } else { 0 }
    }

    fn on_inbound_cancelled(&mut self, slot: Slot) {
        if std::mem::take(&mut self.connections[slot].inbound.tell_cancel) {
            self.tell_cancelled(slot);
        }
    }

    /// The last word of an accept or a receive that was cancelled.
    pub(super) fn tell_cancelled(&mut self, slot: Slot) {
        let connection = &self.connections[slot];
        let told = Completion::new(connection.role.op(), connection.fd, -i64::from(libc::ECANCELED));
        self.tell_of(slot, told, false);
    }

    fn on_send(&mut self, slot: Slot, result: i32) {
        let connection = &mut self.connections[slot];
        let asked = std::mem::take(&mut connection.flying);
        if std::mem::take(&mut connection.chained) {
            connection.close = Step::Wanted; // it was not sent whole, and so the close was not tried
        }
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
    pub(super) fn finish_sends(&mut self, slot: Slot) {
        while let Some(report) = self.outbox.advance(&mut self.connections[slot].queue) {
            let len = report.len as i64;
            self.report_send(slot, report, len);
        }
    }

    /// A send failed: whatever is queued behind it fails with it.
    fn fail_sends(&mut self, slot: Slot, errno: i32) {
        self.connections[slot].send_error = errno;
        self.connections[slot].shutdown_result = -errno;
        self.empty_queue(slot, errno);
    }

    fn empty_queue(&mut self, slot: Slot, errno: i32) {
        while let Some(report) = self.outbox.fail(&mut self.connections[slot].queue) {
            self.report_send(slot, report, -i64::from(errno));
        }
    }

    /// Drops what is queued, as soon as the kernel has nothing of it.
    pub(super) fn drop_sends(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        connection.drop_sends = connection.send == Step::Flying;
        if connection.drop_sends {
            return; // the answer to the cancellation comes back here
        }
        if self.outbox.is_torn(&connection.queue) {
            connection.send_error = libc::ECANCELED; // half of a submission went out: the stream is of no use
        }
        if !connection.queue.is_empty() {
            connection.shutdown_result = -libc::ECANCELED;
        }
        self.empty_queue(slot, libc::ECANCELED);
    }

    fn report_send(&mut self, slot: Slot, report: Report, result: i64) {
        if report.release >= 0 {
            let id = self.buffers.end_loan(report.release as u16);
            self.backend.give_buffer(&self.buffers, id);
        }
        let connection = &self.connections[slot];
        // Of an ended connection, only who lent bytes has to hear.
        let silent = (connection.ended && !report.borrowed) || (report.quiet && result >= 0);
        if !silent {
            let flags = if connection.ended { F_ENDED } else { 0 };
            let told = Completion::new(OpKind::Send, connection.fd, result).with_flags(flags);
            self.tell_of(slot, told, report.borrowed);
        }
    }

    fn on_connect(&mut self, slot: Slot, result: i32) {
        let connection = &mut self.connections[slot];
        if -result == libc::ECANCELED && !connection.connect_cancelling {
            // The thread that had submitted it is gone, not the attempt.
            connection.connect = Step::Wanted;
            connection.connect_again = true;
            return self.touch(slot);
        }
        let result = if connection.connect_again && -result == libc::EISCONN { 0 } else { result };
        connection.connect = Step::Done;
        connection.connect_cancelling = false;
        if !connection.ended {
            let told = Completion::new(OpKind::Connect, connection.fd, result.into());
            if connection.is_open() {
                self.tell_of(slot, told, false);
            }
            if result < 0 {
                self.fail_sends(slot, -result);
            }
            self.touch(slot);
        }
    }

    fn on_close(&mut self, slot: Slot, result: i32) {
        self.finish_chain(slot);
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

    /// A close was tried that was chained to a send: so that was sent whole, and nothing else is going to say so.
    fn finish_chain(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if std::mem::take(&mut connection.chained) {
            let sent = connection.flying as i32;
            self.on_send(slot, sent);
        }
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

    pub(super) fn start_watching(&mut self) {
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
            self.woken = true;
            self.stats.syscalls += 1;
            self.tell(Completion::new(OpKind::Wake, -1, 0));
        }
    }
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
