//! Bytes of the operating system, for what nobody may be able to guess: the ids of sessions.

use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes, at most 256 of them.
///
/// # Panics
/// When the kernel gives none. It does not fail once it has been started for a moment, and a node
/// that goes on without would hand out ids that can be guessed.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "more may be given in part") }
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        let drawn: std::collections::BTreeSet<[u8; 16]> = (0..1_000).map(|_| bytes()).collect();
        assert_eq!(drawn.len(), 1_000);
    }
}
