//! The fuzzer's bytes as a list of things to do. Every byte string is one, and a small change of the bytes is a small change of the list.

/// What is left of the bytes.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `N` bytes, zeros after the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(self.0.len().min(N));
        self.0 = tail;
        let mut out = [0; N];
        out.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        out
    }

    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// A number of which the small and the largest are frequent: a byte says how many bits it has.
    pub fn number(&mut self) -> u64 {
        let bits = u32::from(self.byte()) % 65;
        u64::from_be_bytes(self.array()) & 1_u64.unbounded_shl(bits).wrapping_sub(1)
    }

    /// Up to 64 KiB: two bytes say how many.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes(self.array()));
        let (chunk, rest) = self.0.split_at(self.0.len().min(length));
        self.0 = rest;
        chunk
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
}
