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

    pub(super) fn complete(&mut self, event: Event) {
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

    pub(super) fn on_accept(&mut self, slot: Slot, event: Event) {
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
    pub(super) fn succeed(&mut self, fd: RawFd) -> Result<()> {
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

    pub(super) fn on_receive(&mut self, slot: Slot, event: Event) {
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
    pub(super) fn note_inbound_answer(&mut self, slot: Slot, event: Event) -> bool {
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

    pub(super) fn on_inbound_cancelled(&mut self, slot: Slot, event: Event) {
        let connection = &mut self.connections[slot];
        // Else it was a pause, or the thread that had submitted it is gone: armed anew when it is wanted.
        if std::mem::take(&mut connection.inbound.tell_cancel) {
            let told = Completion::new(connection.role.op(), connection.fd, event.result.into());
            self.tell(told);
        }
    }

    pub(super) fn on_send(&mut self, slot: Slot, result: i32) {
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
    pub(super) fn finish_sends(&mut self, slot: Slot) {
        while let Some(report) = self.outbox.advance(&mut self.connections[slot].queue) {
            let len = report.len as i64;
            self.report_send(slot, report, len);
        }
    }

    /// A send failed: whatever is queued behind it fails with it.
    pub(super) fn fail_sends(&mut self, slot: Slot, errno: i32) {
        self.connections[slot].send_error = errno;
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
        while let Some(report) = self.outbox.fail(&mut self.connections[slot].queue) {
            self.report_send(slot, report, -i64::from(libc::ECANCELED));
        }
    }

    pub(super) fn report_send(&mut self, slot: Slot, report: Report, result: i64) {
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

    pub(super) fn on_connect(&mut self, slot: Slot, result: i32) {
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

    pub(super) fn on_close(&mut self, slot: Slot, result: i32) {
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

    pub(super) fn tell_closed(&mut self, slot: Slot, result: i32) {
        let connection = &self.connections[slot];
        let result = if result == 0 { connection.close_result } else { result };
        let told = Completion::new(OpKind::Close, connection.fd, result.into());
        self.tell(told);
        self.end(slot);
    }

    pub(super) fn on_cancel_failed(&mut self, slot: Slot, purpose: Purpose, result: i32) {
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

    pub(super) fn on_wake(&mut self, event: Event) {
        if !event.more() {
            self.watching = false;
            self.start_watching();
        }
        if event.result >= 0 && self.waker.take() {
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
