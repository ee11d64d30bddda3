//! What the kernel offers, and why not when it does not.

use std::ffi::CStr;

use super::error::Result;
use super::uring;

/// A set of kernel features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

/// Each feature's bit and name. The numbers are part of the ABI: append only.
macro_rules! features {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        impl Features {
            $(#[doc = $text] pub const $name: Self = Self(1 << $bit);)*

            /// Every feature and its name, in the order of the bits.
            pub const ALL: &[(Self, &CStr)] = &[$((Self::$name, c_name(concat!($text, "\0")))),*];
        }
    };
}

features! {
    SINGLE_ISSUER = 0, "IORING_SETUP_SINGLE_ISSUER";
    DEFER_TASKRUN = 1, "IORING_SETUP_DEFER_TASKRUN";
    COOP_TASKRUN = 2, "IORING_SETUP_COOP_TASKRUN";
    SUBMIT_ALL = 3, "IORING_SETUP_SUBMIT_ALL";
    EXT_ARG = 4, "IORING_FEAT_EXT_ARG";
    NODROP = 5, "IORING_FEAT_NODROP";
    SKIP_SUCCESS = 6, "IORING_FEAT_CQE_SKIP";
    RECVSEND_BUNDLE = 7, "IORING_FEAT_RECVSEND_BUNDLE";
    MIN_TIMEOUT = 8, "IORING_FEAT_MIN_TIMEOUT";
    BUFFER_RING = 9, "provided buffer rings";
    MULTISHOT_ACCEPT = 10, "multishot accept";
    MULTISHOT_RECV = 11, "multishot receive";
    ACCEPT = 12, "IORING_OP_ACCEPT";
    RECV = 13, "IORING_OP_RECV";
    SEND = 14, "IORING_OP_SEND";
    SENDMSG = 15, "IORING_OP_SENDMSG";
    SEND_ZC = 16, "IORING_OP_SEND_ZC";
    CONNECT = 17, "IORING_OP_CONNECT";
    CLOSE = 18, "IORING_OP_CLOSE";
    ASYNC_CANCEL = 19, "IORING_OP_ASYNC_CANCEL";
    TIMEOUT = 20, "IORING_OP_TIMEOUT";
    POLL = 21, "IORING_OP_POLL_ADD";
}

const fn c_name(text: &str) -> &CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a name holds a NUL"),
    }
}

/// What a ring cannot do without.
const NEEDED: [Features; 12] = [
    Features::EXT_ARG,
    Features::NODROP,
    Features::SKIP_SUCCESS,
    Features::BUFFER_RING,
    Features::ACCEPT,
    Features::RECV,
    Features::SEND,
    Features::SENDMSG,
    Features::CONNECT,
    Features::CLOSE,
    Features::ASYNC_CANCEL,
    Features::TIMEOUT,
];

impl Features {
    /// Whether all of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The name of something that a ring cannot do without, and that is not in it.
    pub fn missing(self) -> Option<&'static CStr> {
        let (_, name) = Self::ALL.iter().find(|(feature, _)| NEEDED.contains(feature) && !self.has(*feature))?;
        Some(name)
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Asks the kernel what it offers. An error says why io_uring cannot be had at all.
pub fn probe() -> Result<Features> {
    uring::probe().map(|ring| uring::features(&ring))
}

/// Whether a ring can be made on this host, as far as the kernel is concerned.
pub fn supported() -> bool {
    probe().is_ok_and(|features| features.missing().is_none())
}
