//! Everything that is a matter of time: timeouts of the caller, silence, closes that take too long, rests, draining.

use std::time::Duration;

use super::{Completion, OpKind, Purpose, Ring, Slot, Token};
use crate::hotpath::completion::F_MORE;
use crate::hotpath::timers::TimerId;

/// How long an accept waits after the process ran out of descriptors or memory, unless a close frees one before.
pub(super) const REST: Duration = Duration::from_millis(100);

/// What a deadline is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    User(i64),
    /// The connection has been silent for long enough, perhaps.
    Idle(Token),
    /// What has not been sent by now is not sent.
    Close(Token),
    /// Accepting may be tried again.
    Rested(Token),
    Drain,
}

/// How far the end of a ring's work has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drain {
    /// Nobody wants it to end.
    Off,
    /// No connection is accepted any more; the end of the last one is to be told, or that of the time.
    UnderWay(Option<TimerId>),
    /// That was told.
    Over,
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Ring {
    pub(super) fn set_timer(&mut self, after: Duration, what: Deadline) -> TimerId {
        self.timers.insert(self.clock.now().saturating_add(nanoseconds(after)), what)
    }

    /// Has the kernel wake us for the earliest timer.
    pub(super) fn arm_alarm(&mut self) {
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

    pub(super) fn fire_timers(&mut self) {
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
                Deadline::Drain => self.tell_drained(),
            }
        }
    }

    /// A descriptor has become free: accepts that wait for one go on.
    pub(super) fn wake_resting(&mut self) {
        if self.resting > 0 {
            let resting: Vec<Slot> =
                self.connections.iter().filter(|(_, c)| c.inbound.resting).map(|(slot, _)| slot).collect();
            for slot in resting {
                self.end_rest(slot);
            }
        }
    }

    pub(super) fn end_rest(&mut self, slot: Slot) {
        if std::mem::take(&mut self.connections[slot].inbound.resting) {
            self.resting -= 1;
            self.touch(slot);
        }
    }

    /// A connection has ended: perhaps it was the last.
    pub(super) fn check_drained(&mut self) {
        if let Drain::UnderWay(timer) = self.drain
            && self.connections.streams == 0
        {
            if let Some(timer) = timer {
                self.timers.remove(timer);
            }
            self.tell_drained();
        }
    }

    fn tell_drained(&mut self) {
        self.drain = Drain::Over;
        self.tell(Completion::new(OpKind::Drain, -1, self.connections.streams as i64));
    }

    pub(super) fn note_activity(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if connection.idle > 0 {
            connection.last_active = self.now;
            if connection.idle_timer.is_none() && connection.is_open() {
                self.start_idle_timer(slot);
            }
        }
    }

    pub(super) fn start_idle_timer(&mut self, slot: Slot) {
        let token = self.connections.token(slot, Purpose::Inbound);
        let connection = &mut self.connections[slot];
        let deadline = connection.last_active.saturating_add(connection.idle);
        connection.idle_timer = Some(self.timers.insert(deadline, Deadline::Idle(token)));
    }

    pub(super) fn on_idle(&mut self, token: Token) {
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

    pub(super) fn clear_idle(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if std::mem::take(&mut connection.idle) > 0 {
            self.idlers -= 1;
        }
        if let Some(timer) = connection.idle_timer.take() {
            self.timers.remove(timer);
        }
    }
}
