//! The first byte of every MUSeS packet (ConTYPE), and the identifier that follows it.

use overlay::id::NodeId;

/// What a packet is: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ContentType {
    /// Hello A->B: opens a handshake.
    Hello1 = 1,
    /// Hello B->A: answers it.
    Hello2 = 2,
    /// Finished A->B: A has B's key.
    FinishedA = 3,
    /// Finished B->A: B has A's key, and has opened the session.
    FinishedB = 4,
    /// Frames, sealed under the keys of an epoch.
    Protected = 5,
    /// Resume: "I am here now, and this I have".
    ReHello = 6,
    /// Its answer (the paper's AddConfirm).
    ReHelloAnswer = 7,
    /// "I cannot resume this session": authenticated by the token given in Finished.
    Reset = 8,
    /// Instead of Hello B->A: "I am under load, show that you are there".
    Cookie = 9,
}

impl ContentType {
    /// The type of `packet`; `None` when it is empty or of an unknown type.
    pub fn of(packet: &[u8]) -> Option<Self> {
        Some(match packet.first()? {
            1 => Self::Hello1,
            2 => Self::Hello2,
            3 => Self::FinishedA,
            4 => Self::FinishedB,
            5 => Self::Protected,
            6 => Self::ReHello,
            7 => Self::ReHelloAnswer,
            8 => Self::Reset,
            9 => Self::Cookie,
            _ => return None,
        })
    }
}

/// Names a session in packets: 16 bytes derived by HKDF, so it tells a relay nothing of SessID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Label(pub [u8; LABEL_BYTES]);

/// Length of a [`Label`].
pub const LABEL_BYTES: usize = 16;

impl Label {
    /// The session that `packet` (Protected, ReHello, ReHelloAnswer, Reset) belongs to; `None` for any other packet.
    pub fn of(packet: &[u8]) -> Option<Self> {
        use ContentType::{Protected, ReHello, ReHelloAnswer, Reset};
        if !matches!(ContentType::of(packet)?, Protected | ReHello | ReHelloAnswer | Reset) {
            return None;
        }
        packet.get(1..)?.first_chunk().copied().map(Self)
    }
}

/// Names a handshake in its messages: the random part of pSessID-a.
///
/// Unique only together with the initiator's node id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HandshakeId(pub [u8; HANDSHAKE_ID_BYTES]);

/// Length of a [`HandshakeId`].
pub const HANDSHAKE_ID_BYTES: usize = 16;

/// Where the handshake id stands in a handshake message: after type, version, suite and a zero byte.
pub(crate) const HANDSHAKE_ID_AT: usize = 4;

impl HandshakeId {
    /// The handshake that `packet` (Hello1, Hello2, FinishedA, FinishedB, Cookie) belongs to; `None` for any other packet.
    pub fn of(packet: &[u8]) -> Option<Self> {
        use ContentType::{Cookie, FinishedA, FinishedB, Hello1, Hello2};
        if !matches!(ContentType::of(packet)?, Hello1 | Hello2 | FinishedA | FinishedB | Cookie) {
            return None;
        }
        packet.get(HANDSHAKE_ID_AT..)?.first_chunk().copied().map(Self)
    }
}

/// Length of SessID.
pub const SESSION_ID_BYTES: usize = 2 * PARTIAL_ID_BYTES;

/// Length of a pSessID: port, node id, random.
pub const PARTIAL_ID_BYTES: usize = 2 + 32 + HANDSHAKE_ID_BYTES;

/// pSessID = port . node id . 16 random bytes (the paper's psN . pID, made unique).
pub(crate) fn partial_session_id(port: u16, id: NodeId, random: &[u8; HANDSHAKE_ID_BYTES]) -> [u8; PARTIAL_ID_BYTES] {
    let mut out = [0; PARTIAL_ID_BYTES];
    let (port_part, rest) = out.split_at_mut(2);
    let (id_part, random_part) = rest.split_at_mut(32);
    port_part.copy_from_slice(&port.to_be_bytes());
    id_part.copy_from_slice(id.as_bytes());
    random_part.copy_from_slice(random);
    out
}

/// The node id inside a pSessID.
pub(crate) fn id_in_partial(partial: &[u8]) -> Option<NodeId> {
    partial.get(2..)?.first_chunk().copied().map(NodeId::from_bytes)
}

/// Takes a chunk of fixed length off the front of what is still to be read.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*chunk)
}

/// Takes a byte string with a 16-bit length before it.
pub(crate) fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(take(rest)?);
    let (bytes, tail) = rest.split_at_checked(usize::from(length))?;
    *rest = tail;
    Some(bytes)
}

/// Appends `bytes` with a 16-bit length before them; `None` when they are too long for one.
pub(crate) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let length = u16::try_from(bytes.len()).ok()?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_identifiers_are_read_from_fixed_places() {
        assert_eq!(ContentType::of(&[]), None);
        assert_eq!(ContentType::of(&[0]), None);
        assert_eq!(ContentType::of(&[10]), None);
        let mut packet = vec![5];
        packet.extend([7; 16]);
        assert_eq!(Label::of(&packet), Some(Label([7; 16])));
        assert_eq!(HandshakeId::of(&packet), None);
        packet.truncate(16);
        assert_eq!(Label::of(&packet), None);
        let mut packet = vec![2, 1, 1, 0];
        packet.extend([8; 16]);
        assert_eq!(HandshakeId::of(&packet), Some(HandshakeId([8; 16])));
        assert_eq!(Label::of(&packet), None);
    }

    #[test]
    fn counted_bytes_round_trip_and_refuse_short_input() {
        let mut bytes = Vec::new();
        put_counted(&mut bytes, b"abc").unwrap();
        let mut rest = bytes.as_slice();
        assert_eq!(take_counted(&mut rest), Some(b"abc".as_slice()));
        assert!(rest.is_empty());
        assert_eq!(take_counted(&mut [0, 3, 1, 2].as_slice()), None);
        assert_eq!(put_counted(&mut bytes, &vec![0; 65_536]), None);
    }
}
