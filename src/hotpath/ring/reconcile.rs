//! From wishes to operations: what is wanted of a connection is compared with what the kernel has at work for it.

use super::{Completion, OpKind, Purpose, Ring, Role, Slot, Step};
use crate::hotpath::outbox::Segment;
use crate::hotpath::uring::{MAX_SEGMENTS, MAX_STEPS, PROMPT_BYTES};
use crate::sys;

/// So many waits in a row that brought one completion each mean that there is one client at a time. Where there are
/// more, a wait that returns at once is no loss: it has gathered what others sent meanwhile.
const LONELY: u32 = 16;

impl Ring {
    pub(super) fn settle(&mut self) {
        self.reconcile();
        self.arm_alarm();
    }

    pub(super) fn reconcile(&mut self) {
        // As many starved connections go on as there are buffers for.
        let mut available = self.available_buffers();
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

    fn available_buffers(&self) -> u32 {
        self.buffers.count() - self.buffers.held_count()
    }

    /// Whether there are buffers and connections that wait for one. Those who were let go on before may have been idle.
    pub(super) fn can_feed(&self) -> bool {
        !self.starved.is_empty() && self.available_buffers() > 0
    }

    fn reconcile_one(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        let (fd, open) = (connection.fd, connection.is_open());

        if connection.connect == Step::Wanted && !connection.wants_connect() {
            connection.connect = Step::Idle;
        } else if connection.connect == Step::Wanted {
            connection.connect = Step::Flying;
            self.backend.connect(self.connections.token(slot, Purpose::Connect), fd, &self.connections[slot].address);
        } else if connection.connect == Step::Flying && !connection.connect_cancelling && !connection.wants_connect() {
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
        // Not where the thread that submits them may end between the two.
        let last = connection.close == Step::Wanted
            && connection.shutdown != Step::Wanted
            && bytes == connection.queue.bytes
            && !self.options.any_thread;
        connection.send = Step::Flying;
        connection.flying = bytes;
        connection.chained = last;
        let fd = connection.fd;
        // Nothing is to be told or done when this is sent, unless it fails.
        let idle = connection.queue.loud == 0 && bytes == connection.queue.bytes && connection.shutdown != Step::Wanted;
        self.backend.send(self.connections.token(slot, Purpose::Send), fd, &segments[..count], last);
        if idle && bytes <= PROMPT_BYTES && self.starved.is_empty() && self.lonely >= LONELY {
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
            let result = match sys::shutdown_write(fd) {
                Ok(()) => i64::from(connection.shutdown_result),
                Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EIO)),
            };
            self.stats.syscalls += 1;
            self.tell_of(slot, Completion::new(OpKind::Shutdown, fd, result), false);
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
}
