//! What the machine can do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Whether it has instructions for both halves of AES-GCM: without them it would be slower than ChaCha20-Poly1305.
#[must_use]
pub fn has_fast_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Takes as many descriptors as the system allows: each connection needs some, and what a login shell gives (1024) is for programs that use `select`.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what needs it fails with a line of its own.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
