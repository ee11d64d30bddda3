//! The connections of a ring: what each is wanted to do, and what the kernel is doing for it.
//!
//! A connection is one *generation* of a descriptor number. It keeps its slot until the kernel has answered for
//! everything it was asked, even when the number has been given to a successor meanwhile: an answer names a slot and
//! its generation, never a bare descriptor, so it cannot reach the wrong connection.

use super::completion::OpKind;
use super::error::{Error, Result};
use super::outbox::Queue;
use super::timers::TimerId;
use super::token::Token;

/// Index of a connection.
pub(super) type Slot = u32;

/// In the table of numbers: no connection that we know of.
const NONE: u32 = u32::MAX;
/// The same, since the ring has closed the last one.
const CLOSED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Stream,
    Listener,
}

impl Role {
    /// How its half that brings something in reports.
    pub(super) fn op(self) -> OpKind {
        match self {
            Self::Stream => OpKind::Recv,
            Self::Listener => OpKind::Accept,
        }
    }
}

/// The half that brings something in: the accept of a listener, the receive of a stream.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// The caller wants it.
    pub(super) wanted: bool,
    /// The kernel has it.
    pub(super) armed: bool,
    /// The kernel has it for more than one answer.
    pub(super) multishot: bool,
    /// The kernel was asked to end it.
    pub(super) cancelling: bool,
    /// The caller waits to hear that it was cancelled.
    pub(super) tell_cancel: bool,
    pub(super) paused: bool,
    /// Waits for a buffer to be released.
    pub(super) starved: bool,
    /// Waits for a descriptor or memory to become free.
    pub(super) resting: bool,
    /// Something came before.
    pub(super) warm: bool,
}

/// Something that the kernel does once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    #[default]
    Idle,
    Wanted,
    Flying,
    Done,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: i32,
    generation: u32,
    pub(super) role: Role,
    /// The number belongs to another, or to nobody that we know.
    pub(super) ended: bool,
    /// The caller knows of it.
    pub(super) introduced: bool,
    /// Waits in the list of connections to look at.
    pub(super) dirty: bool,
    pub(super) inbound: Inbound,
    pub(super) queue: Queue,
    /// Bytes that the kernel has for sending.
    pub(super) flying: u64,
    pub(super) send: Step,
    /// What is queued is not wanted any more.
    pub(super) drop_sends: bool,
    pub(super) send_cancelling: bool,
    /// `errno` of the send that failed: nothing can follow it.
    pub(super) send_error: i32,
    pub(super) connect: Step,
    pub(super) connect_cancelling: bool,
    /// It was begun by a thread that is gone.
    pub(super) connect_again: bool,
    /// The caller does not want the connect any more.
    pub(super) drop_connect: bool,
    /// Address to connect to.
    pub(super) address: Vec<u8>,
    pub(super) shutdown: Step,
    /// What OP_SHUTDOWN is going to say: whether all that was to be sent before was sent.
    pub(super) shutdown_result: i32,
    pub(super) close: Step,
    /// The close is chained to the send that flies; if that is sent whole, the answer to the close stands for both,
    /// else the answer to the send does.
    pub(super) chained: bool,
    /// What OP_CLOSE is going to say.
    pub(super) close_result: i32,
    pub(super) close_timer: Option<TimerId>,
    /// Nanoseconds of silence that are worth a word, 0 for any.
    pub(super) idle: u64,
    pub(super) idle_timer: Option<TimerId>,
    pub(super) last_active: u64,
}

impl Connection {
    fn new(fd: i32, generation: u32, role: Role) -> Self {
        Self {
            fd,
            generation,
            role,
            ended: false,
            introduced: true,
            dirty: false,
            inbound: Inbound::default(),
            queue: Queue::new(),
            flying: 0,
            send: Step::Idle,
            drop_sends: false,
            send_cancelling: false,
            send_error: 0,
            connect: Step::Idle,
            connect_cancelling: false,
            connect_again: false,
            drop_connect: false,
            address: Vec::new(),
            shutdown: Step::Idle,
            shutdown_result: 0,
            close: Step::Idle,
            chained: false,
            close_result: 0,
            close_timer: None,
            idle: 0,
            idle_timer: None,
            last_active: 0,
        }
    }

    /// Whether the connect has a purpose: the connection is open, or has something to send before it is closed.
    pub(super) fn wants_connect(&self) -> bool {
        !self.ended && !self.drop_connect && (self.close == Step::Idle || !self.queue.is_empty())
    }

    /// Whether what it receives is for the caller.
    pub(super) fn is_open(&self) -> bool {
        !self.ended && self.close == Step::Idle
    }

    /// Operations that the kernel has not answered yet.
    pub(super) fn in_flight(&self) -> u32 {
        let flying = |step| u32::from(step == Step::Flying);
        u32::from(self.inbound.armed) + flying(self.send) + flying(self.connect) + flying(self.close)
    }
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Connection>,
    free: Vec<Slot>,
    by_fd: Vec<Slot>,
    /// Streams that have not ended.
    pub(super) streams: usize,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn find(&self, fd: i32) -> Option<Slot> {
        let slot = *self.by_fd.get(usize::try_from(fd).ok()?)?;
        (slot < CLOSED).then_some(slot)
    }

    /// The number is the caller's own: whatever it meant before is over.
    pub(super) fn disown(&mut self, fd: i32) {
        self.by_fd[fd as usize] = NONE;
    }

    /// Whether the ring itself has closed the last connection of `fd`.
    pub(super) fn was_closed(&self, fd: i32) -> bool {
        usize::try_from(fd).is_ok_and(|index| self.by_fd.get(index) == Some(&CLOSED))
    }

    /// Whether `fd` is beyond every number seen so far.
    pub(super) fn is_new_number(&self, fd: i32) -> bool {
        fd as usize >= self.by_fd.len()
    }

    /// Starts a generation of `fd`, which must have none.
    pub(super) fn begin(&mut self, fd: i32, role: Role) -> Result<Slot> {
        debug_assert!(self.find(fd).is_none());
        let no_memory = |_| Error::out_of_memory("adding a connection");
        let index = fd as usize;
        if index >= self.by_fd.len() {
            self.by_fd.try_reserve(index + 1 - self.by_fd.len()).map_err(no_memory)?;
            self.by_fd.resize(index + 1, NONE);
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                let generation = self.slots[slot as usize].generation;
                self.slots[slot as usize] = Connection::new(fd, generation, role);
                slot
            }
            None => {
                self.slots.try_reserve(1).map_err(no_memory)?;
                self.free.try_reserve(self.slots.len() + 1).map_err(no_memory)?;
                self.slots.push(Connection::new(fd, 0, role));
                (self.slots.len() - 1) as Slot
            }
        };
        self.by_fd[index] = slot;
        self.streams += usize::from(role == Role::Stream);
        Ok(slot)
    }

    /// The caller is told of the connection that was accepted as `fd`.
    pub(super) fn introduce(&mut self, fd: i32) {
        if let Some(slot) = self.find(fd) {
            self[slot].introduced = true;
        }
    }

    /// Ends a generation: the number is free for another. The slot stays until [`Connections::retire`].
    pub(super) fn end(&mut self, slot: Slot) {
        let connection = &mut self.slots[slot as usize];
        debug_assert!(!connection.ended);
        connection.ended = true;
        self.streams -= usize::from(connection.role == Role::Stream);
        self.by_fd[connection.fd as usize] = if connection.close == Step::Flying { CLOSED } else { NONE };
    }

    /// Gives the slot of an ended generation back.
    pub(super) fn retire(&mut self, slot: Slot) {
        debug_assert!(self[slot].ended && self[slot].in_flight() == 0 && self[slot].queue.is_empty());
        let connection = &mut self[slot];
        connection.address = Vec::new();
        connection.generation = connection.generation.wrapping_add(1); // what still comes finds nobody
        self.free.push(slot);
    }

    pub(super) fn token(&self, slot: Slot, purpose: super::token::Purpose) -> Token {
        Token::new(purpose, self[slot].generation, slot)
    }

    /// The connection that a token was made for, unless it is gone.
    pub(super) fn resolve(&self, token: Token) -> Option<Slot> {
        let connection = self.slots.get(token.slot() as usize)?;
        token.is_of_generation(connection.generation).then_some(token.slot())
    }

    /// All slots, retired ones (which have nothing in flight) included.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Connection)> {
        self.slots.iter().enumerate().map(|(slot, connection)| (slot as Slot, connection))
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }
}

impl std::ops::Index<Slot> for Connections {
    type Output = Connection;

    fn index(&self, slot: Slot) -> &Connection {
        &self.slots[slot as usize]
    }
}

impl std::ops::IndexMut<Slot> for Connections {
    fn index_mut(&mut self, slot: Slot) -> &mut Connection {
        &mut self.slots[slot as usize]
    }
}
