//! Random bytes from the operating system, for secrets, ids and jitter.

/// Returns `N` unpredictable bytes.
///
/// # Panics
/// The operating system has no randomness to give. There is no safe way to continue, and this does
/// not happen on a running Linux.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Fills the buffer with unpredictable bytes.
///
/// # Panics
/// See [`bytes()`].
pub fn fill(buffer: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "a server without randomness must not go on")]
    getrandom::fill(buffer).expect("the operating system gives random bytes");
}

/// Returns a number from 0 up to, but not including, 1. Used for jitter.
pub fn unit() -> f64 {
    let [a, b, c, d] = bytes::<4>();
    f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}
