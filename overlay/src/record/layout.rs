//! Reading and writing of the hand-laid fields.

/// Takes fields off the front of a slice; `None` when it is too short.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A field preceded by its length in two bytes, of at most `limit` bytes.
    pub(super) fn bytes(&mut self, limit: usize) -> Option<&'a [u8]> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if len > limit {
            return None;
        }
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

/// Appends a field that [`Reader::bytes`] reads; `None` when it is longer than `limit`.
pub(super) fn put_bytes(out: &mut Vec<u8>, field: &[u8], limit: usize) -> Option<()> {
    let len = u16::try_from(field.len()).ok().filter(|_| field.len() <= limit)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
    Some(())
}
