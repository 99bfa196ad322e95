//! What the two ends of a link say to each other about their bulk lane. See the table in [`super`].

use super::keys::RANDOM_BYTES;

/// First bytes from here on belong to the overlay: its routed packets begin with `0x10`, its link frames have the top bit.
const FIRST_OF_OVERLAY: u8 = 0x10;

const ASK: u8 = 1;
const OFFER: u8 = 2;
const TAKE: u8 = 3;
const MARK: u8 = 4;

/// A frame that is for the links and not for the overlay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::links) enum Word {
    /// A wants D to offer.
    Ask,
    /// D begins an attempt.
    Offer { attempt: u32, random: [u8; RANDOM_BYTES] },
    /// A agrees.
    Take { attempt: u32, random: [u8; RANDOM_BYTES] },
    /// The end of the data lane, until the bulk lane is over.
    Mark { attempt: u32 },
}

/// Random bytes are secrets.
impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ask => f.write_str("Ask"),
            Self::Offer { attempt, .. } => write!(f, "Offer({attempt})"),
            Self::Take { attempt, .. } => write!(f, "Take({attempt})"),
            Self::Mark { attempt } => write!(f, "Mark({attempt})"),
        }
    }
}

/// A frame that is for the links, and that this version does not know.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::links) struct Unknown;

impl Word {
    /// The word in `frame`; `None` when the frame is for the overlay.
    pub(in crate::links) fn of(frame: &[u8]) -> Option<Result<Self, Unknown>> {
        let (&first, body) = frame.split_first()?;
        (first < FIRST_OF_OVERLAY).then(|| Self::parse(first, body).ok_or(Unknown))
    }

    fn parse(first: u8, body: &[u8]) -> Option<Self> {
        if first == ASK {
            return body.is_empty().then_some(Self::Ask);
        }
        let (attempt, rest) = body.split_first_chunk()?;
        let attempt = u32::from_be_bytes(*attempt);
        match first {
            OFFER => Some(Self::Offer { attempt, random: rest.try_into().ok()? }),
            TAKE => Some(Self::Take { attempt, random: rest.try_into().ok()? }),
            MARK => rest.is_empty().then_some(Self::Mark { attempt }),
            _ => None,
        }
    }

    pub(in crate::links) fn to_bytes(self) -> Vec<u8> {
        let (first, attempt, random) = match &self {
            Self::Ask => return vec![ASK],
            Self::Offer { attempt, random } => (OFFER, attempt, random.as_slice()),
            Self::Take { attempt, random } => (TAKE, attempt, random.as_slice()),
            Self::Mark { attempt } => (MARK, attempt, [].as_slice()),
        };
        [&[first], attempt.to_be_bytes().as_slice(), random].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_and_round_trip() {
        let words = [
            (Word::Ask, "01".to_owned()),
            (Word::Offer { attempt: 7, random: [0xaa; 32] }, format!("0200000007{}", "aa".repeat(32))),
            (Word::Take { attempt: 0x0102_0304, random: [0xbb; 32] }, format!("0301020304{}", "bb".repeat(32))),
            (Word::Mark { attempt: 1 }, "0400000001".to_owned()),
        ];
        for (word, golden) in words {
            let bytes = word.to_bytes();
            assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), golden);
            assert_eq!(Word::of(&bytes), Some(Ok(word)));
            let longer = [bytes.as_slice(), &[0]].concat();
            assert_eq!(Word::of(&longer), Some(Err(Unknown)));
            assert_ne!(Word::of(&bytes[..bytes.len() - 1]), Some(Ok(word)));
            assert!(!format!("{word:?}").contains("170"), "0xaa, a secret");
        }
    }

    #[test]
    fn the_overlays_frames_are_left_alone() {
        assert_eq!(Word::of(&[]), None);
        for first in 0x10..=0xff {
            assert_eq!(Word::of(&[first]), None);
        }
        for first in (0..0x10).filter(|first| *first != ASK) {
            assert_eq!(Word::of(&[first]), Some(Err(Unknown)));
        }
    }
}
