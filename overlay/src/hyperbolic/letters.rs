//! Words of letters, compared.

/// How many letters both words begin with.
pub(super) fn common_letters(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The first letters of a word, in one number: enough to compare most words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    letters: u64,
    len: u8,
}

impl Head {
    /// Of this word.
    pub fn of(word: &[u8]) -> Self {
        let first = word.get(..size_of::<u64>()).unwrap_or(word);
        // Shifted rather than copied: a number that was written byte by byte is slow to read.
        let letters = first.iter().rev().fold(0, |letters, letter| letters << u8::BITS | u64::from(*letter));
        Self { letters, len: u8::try_from(word.len()).unwrap_or(u8::MAX) }
    }

    /// How many letters the word has: where its vertex is below the root.
    pub fn depth(&self) -> usize {
        usize::from(self.len)
    }

    /// How many letters both words begin with; none when their first letters do not tell.
    pub fn common(&self, other: &Self) -> Option<usize> {
        let shorter = self.depth().min(other.depth());
        let differ = self.letters ^ other.letters;
        if differ == 0 {
            return Some(shorter).filter(|shorter| *shorter <= size_of::<u64>());
        }
        let same = differ.trailing_zeros() / u8::BITS;
        Some(usize::try_from(same).unwrap_or(usize::MAX).min(shorter))
    }
}

/// A word that is compared with many others, with its first letters at hand.
#[derive(Clone, Copy, Debug)]
pub struct Letters<'a> {
    word: &'a [u8],
    /// These.
    pub head: Head,
}

impl<'a> Letters<'a> {
    /// Of this word.
    pub fn of(word: &'a [u8]) -> Self {
        Self { word, head: Head::of(word) }
    }

    /// How many letters there are.
    pub const fn len(&self) -> usize {
        self.word.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.word.is_empty()
    }

    /// How many letters both words begin with.
    pub fn common(&self, other: &Self) -> usize {
        self.head.common(&other.head).unwrap_or_else(|| common_letters(self.word, other.word))
    }
}
