//! What the shared-memory objects of a stream are called: ezmsg-tools' names.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use sha2::{Digest, Sha256};

/// The name of the shared-memory object of a long name: `sm_` and 20 characters of its SHA-256 in URL-safe base64.
pub fn short_name(name: &str) -> String {
    format!("sm_{}", &URL_SAFE.encode(Sha256::digest(name))[..20])
}

/// The files of a stream.
#[derive(Debug)]
pub(super) struct Names(String);

impl Names {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name of the stream.
    pub(super) fn stream(&self) -> &str {
        &self.0
    }

    pub(super) fn header(&self) -> PathBuf {
        path(&self.0)
    }

    pub(super) fn ring(&self, generation: u32) -> PathBuf {
        path(&format!("{}/buffer{generation}", self.0))
    }

    pub(super) fn metadata(&self, generation: u32) -> PathBuf {
        path(&format!("{}/meta{generation}", self.0))
    }
}

/// Where the C library's shm_open finds objects.
fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(short_name(name))
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn names_are_those_of_the_peer() {
        for (name, short) in [
            ("demo", "sm_KpdRbDVLaISM29j1SiJq"),
            ("demo/buffer0", "sm_EbUZRBVI4CmwsJ_eTvd0"),
            ("demo/meta1", "sm_Jo4zWIC2kxSJn2s5QMs2"),
        ] {
            assert_eq!(short_name(name), short);
        }
    }
}
