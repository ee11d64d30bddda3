//! What travels through the kernel with each operation, as its `user_data`.

use super::connections::Slot;

/// What an operation was for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Inbound = 1,
    Send = 2,
    Close = 3,
    Connect = 4,
    CancelInbound = 5,
    CancelSend = 6,
    CancelConnect = 7,
    Wake = 8,
    Alarm = 9,
    AlarmUpdate = 10,
    CancelAll = 11,
    Guard = 12,
}

const PURPOSES: [Purpose; 12] = [
    Purpose::Inbound,
    Purpose::Send,
    Purpose::Close,
    Purpose::Connect,
    Purpose::CancelInbound,
    Purpose::CancelSend,
    Purpose::CancelConnect,
    Purpose::Wake,
    Purpose::Alarm,
    Purpose::AlarmUpdate,
    Purpose::CancelAll,
    Purpose::Guard,
];

/// Purpose (8 bits), generation (24 bits), slot (32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

const GENERATIONS: u32 = (1 << 24) - 1;

impl Token {
    pub(super) fn new(purpose: Purpose, generation: u32, slot: Slot) -> Self {
        Self((purpose as u64) << 56 | u64::from(generation & GENERATIONS) << 32 | u64::from(slot))
    }

    /// Of an operation that belongs to no connection.
    pub(super) fn of_ring(purpose: Purpose) -> Self {
        Self::new(purpose, 0, 0)
    }

    pub(super) fn purpose(self) -> Option<Purpose> {
        PURPOSES.get(((self.0 >> 56) as usize).wrapping_sub(1)).copied()
    }

    pub(super) fn slot(self) -> Slot {
        self.0 as Slot
    }

    pub(super) fn is_of_generation(self, generation: u32) -> bool {
        (self.0 >> 32) as u32 & GENERATIONS == generation & GENERATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_what_they_are_given() {
        for purpose in PURPOSES {
            let token = Token::new(purpose, 0xABCD_1234, 0xFFFF_FFFE);
            assert_eq!(token.purpose(), Some(purpose));
            assert_eq!(token.slot(), 0xFFFF_FFFE);
            assert!(token.is_of_generation(0xABCD_1234) && !token.is_of_generation(0xABCD_1235));
        }
        assert_eq!(Token(0).purpose(), None);
        assert_eq!(Token(u64::MAX).purpose(), None);
    }
}
