//! The one place that knows the serialisation crate (bincode 2.0.1, unmaintained: see deny.toml), so that it can be exchanged.
//!
//! For control messages and stored state only. Packet headers, and all bytes that are signed or authenticated, are laid out by hand.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
pub use bincode::{Decode, Encode};

use crate::address::TreeId;

/// Why bytes were not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Malformed, or a length in it exceeds the limit.
    #[error("malformed")]
    Malformed,
    /// Well-formed, but something follows.
    #[error("trailing bytes")]
    Trailing,
}

fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The bytes of `value`.
///
/// # Errors
/// [`CodecError::Malformed`] when a value cannot be represented, which none of this project's types provokes.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::encode_to_vec(value, bincode::config::standard()).map_err(|_| CodecError::Malformed)
}

/// The value in `bytes`, which has to fill them exactly and to take at most `LIMIT` bytes, in memory claimed too.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(bytes, config::<LIMIT>()).map_err(|_| CodecError::Malformed)?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing) }
}

// A tree's number is checked where it comes in, so that it can be used as an index everywhere.

impl Encode for TreeId {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.get().encode(encoder)
    }
}

impl<C> Decode<C> for TreeId {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::new(u8::decode(decoder)?).ok_or(DecodeError::Other("no such tree"))
    }
}

bincode::impl_borrow_decode!(TreeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_lengths_and_trailing_bytes_are_refused() {
        let bytes = encode(&vec![1u8, 2, 3]).unwrap_or_default();
        assert_eq!(decode::<Vec<u8>, 64>(&bytes), Ok(vec![1, 2, 3]));
        assert_eq!(decode::<Vec<u8>, 2>(&bytes), Err(CodecError::Malformed));
        let huge = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(decode::<Vec<u8>, 64>(&huge), Err(CodecError::Malformed));
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode::<Vec<u8>, 64>(&longer), Err(CodecError::Trailing));
    }
}
