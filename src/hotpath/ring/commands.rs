//! What a caller can ask for. A command notes a wish, and leaves the rest to the next wait.

use std::os::fd::RawFd;
use std::time::Duration;

use super::deadlines::{Deadline, Drain, nanoseconds};
use super::{Completion, Error, OpKind, Purpose, Result, Ring, Role, Slot, Step};
use crate::hotpath::outbox::Segment;

impl Ring {
    /// Accepts connections on `listener` until cancelled, each told by a completion.
    pub fn submit_accept(&mut self, listener: RawFd) -> Result<()> {
        if !matches!(self.drain, Drain::Off) {
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
                return Err(Error::state(libc::EINVAL, fd, "a descriptor is either a listener or a stream"));
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
            return Err(Error::state(libc::EALREADY, fd, why));
        }
        connection.inbound.wanted = true;
        if std::mem::take(&mut connection.inbound.tell_cancel) {
            self.tell_cancelled(slot); // of the one before; the kernel's answer to that comes to nobody
        }
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
            self.buffers.held(id)?;
        }
        let slot = self.writable(fd, len)?;
        self.outbox.push_borrowed(&mut self.connections[slot].queue, segments, quiet, release.unwrap_or(-1))?;
        if let Some(id) = release {
            self.buffers.lend(id)?;
        }
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
        // SAFETY: the slot is lent to the send: it goes back to the kernel when that is finished, and not before.
        #[allow(unsafe_code)]
        unsafe {
            self.send_borrowed(fd, &[segment], quiet, Some(buf_id))
        }
    }

    /// Closes `fd` once everything queued is sent, at the latest after `timeout`; what is then still queued is
    /// dropped. Its generation ends here: nothing received is told any more. A later call changes the time.
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
            Step::Flying => return Err(Error::state(libc::EALREADY, fd, "it is being closed already")),
            _ => connection.close = Step::Wanted,
        }
        if let Some(timer) = connection.close_timer.take() {
            self.timers.remove(timer);
        }
        self.withdraw(slot);
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
        let slot = self.sending(fd)?;
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
            if self.connections[old].close != Step::Idle {
                return Err(Error::state(libc::EALREADY, fd, "it is being closed"));
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
        let op = connection.role.op();
        if asked(op) && connection.inbound.wanted {
            found = true;
            connection.inbound.wanted = false;
            if connection.inbound.armed {
                connection.inbound.tell_cancel = true;
            } else {
                self.tell_cancelled(slot);
            }
        }
        if asked(OpKind::Connect) && matches!(self.connections[slot].connect, Step::Wanted | Step::Flying) {
            found = true;
            let connection = &mut self.connections[slot];
            if connection.connect == Step::Wanted {
                connection.connect = Step::Idle;
                self.tell_of(slot, Completion::new(OpKind::Connect, fd, -i64::from(libc::ECANCELED)), false);
            } else {
                connection.drop_connect = true;
            }
        }
        if asked(OpKind::Send) && !self.connections[slot].queue.is_empty() {
            found = true;
            self.drop_sends(slot);
        }
        if !found {
            return Err(Error::state(libc::ENOENT, fd, "nothing of that kind is at work on it"));
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
            connection.idle = nanoseconds(timeout);
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
        if self.connections[slot].close != Step::Idle {
            return Err(Error::state(libc::EALREADY, fd, "the ring is closing it"));
        }
        self.end(slot);
        Ok(())
    }

    /// Stops accepting for good, and tells when the last connection has ended, or at the latest after `timeout`.
    pub fn drain(&mut self, timeout: Option<Duration>) {
        let listeners: Vec<Slot> = (self.connections.iter())
            .filter(|(_, connection)| connection.role == Role::Listener && connection.is_open())
            .map(|(slot, _)| slot)
            .collect();
        for slot in listeners {
            self.connections[slot].inbound.wanted = false;
            self.touch(slot);
        }
        if let Drain::UnderWay(Some(timer)) = self.drain {
            self.timers.remove(timer);
        }
        self.drain = Drain::UnderWay(timeout.map(|timeout| self.set_timer(timeout, Deadline::Drain)));
        self.check_drained();
    }

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
}
