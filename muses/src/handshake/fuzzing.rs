//! For those who attack: decoders that stand behind a cipher, where no packet that a fuzzer makes gets, and floods for tests and benchmarks.

use overlay::rng::Rng;

use super::messages::{HEADER_BYTES, HelloA, HelloB, MAC1_BYTES, MAC2_BYTES, mac1_of};
use crate::content::HANDSHAKE_ID_BYTES;
use crate::dh::PublicKey;

/// Certificate and params in the inside of a Hello A.
pub fn hello_a(inside: &[u8]) -> Option<(&[u8], &[u8])> {
    HelloA::parse(inside).map(|hello| (hello.cert, hello.params))
}

/// Params in the inside of a Hello B.
pub fn hello_b(inside: &[u8]) -> Option<Vec<u8>> {
    HelloB::parse(inside).map(|hello| hello.params)
}

/// A handshake's id and its ephemeral key: what two Hellos of one stranger differ in.
const OWN_BYTES: usize = HANDSHAKE_ID_BYTES + 32;

/// Makes any number of Hellos A whose mac1 is right, out of a true one. Nobody will finish these handshakes.
pub struct Forger {
    hello: Vec<u8>,
    key: PublicKey,
}

impl Forger {
    /// Out of a Hello to whoever has this certificate; none when that is no certificate.
    pub fn new(hello: Vec<u8>, cert: &[u8]) -> Option<Self> {
        Some(Self { hello, key: *cert.first_chunk()? })
    }

    /// Another one. One in four has a mac2, too, but a wrong one.
    pub fn hello(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut hello = self.hello.clone();
        let own_at = HEADER_BYTES - HANDSHAKE_ID_BYTES;
        if let Some(own) = hello.get_mut(own_at..own_at + OWN_BYTES) {
            own.copy_from_slice(&rng.bytes::<OWN_BYTES>());
        }
        self.sign(&mut hello);
        if rng.below(4) == 0
            && let Some(mac2) = hello.last_chunk_mut::<MAC2_BYTES>()
        {
            *mac2 = rng.bytes();
        }
        hello
    }

    /// Puts the right mac1 into what may be any Hello.
    pub fn sign(&self, hello: &mut [u8]) {
        let Some((covered, _)) = hello.split_last_chunk_mut::<MAC2_BYTES>() else { return };
        if let Some((covered, mac1)) = covered.split_last_chunk_mut::<MAC1_BYTES>() {
            *mac1 = mac1_of(&self.key, covered);
        }
    }
}
