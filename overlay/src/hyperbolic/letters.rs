//! Words of letters, compared.

/// How many letters both words begin with.
pub fn common_letters(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The first letters of a word and how many it has, in one number: sorted by it, words that begin alike are beside each other, shorter ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Head(u64);

impl Head {
    /// How many letters it tells.
    pub const LETTERS: usize = size_of::<u64>() - 1;

    /// Of this word.
    pub fn of(word: &[u8]) -> Self {
        let letter = |at: usize| u64::from(word.get(at).copied().unwrap_or_default());
        let letters = (0..Self::LETTERS).fold(0, |letters, at| letters << u8::BITS | letter(at));
        Self(letters << u8::BITS | u64::from(u8::try_from(word.len()).unwrap_or(u8::MAX)))
    }

    /// How many letters the word has: where its vertex is below the root.
    pub const fn depth(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// The number itself.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The letter with this number, below [`Head::LETTERS`]; none where the word has ended. Of heads that agree before it, those with greater letters are
    /// greater.
    pub fn letter(self, at: usize) -> Option<u8> {
        let [letters @ .., _] = self.0.to_be_bytes();
        letters.get(at).copied().filter(|_| at < self.depth())
    }
}
