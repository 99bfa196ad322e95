//! Addresses: a node's place in a tree, as the word of child ordinals from the root.
//!
//! An ordinal says which child of its parent a vertex is: 0 for the first one that was granted, and so on. The plane's direction
//! of that child is the business of [`crate::hyperbolic`]. Small ordinals are frequent, so an address travels as Elias gamma
//! codes of `ordinal + 1`: 1 bit for the first child, 3 for the next two, 5 for the next four.

use core::fmt;
use core::str::FromStr;

use smallvec::SmallVec;

/// Longest address, in edges from the root.
pub const MAX_DEPTH: usize = 255;
/// Most trees in an overlay.
pub const MAX_TREES: usize = 4;
/// Longest encoded [`Place`], in bytes.
pub const MAX_PLACE_BYTES: usize = 256;
/// Longest encoded address that a node takes or gives, in bytes: those of all trees, with their numbers, fit a [`Place`]. Honest ones stay far below. (100,000 nodes in
/// a model of one tree, one seed, q = 64, everybody below the shallowest neighbour: at most 6 bytes in `ov:3`, 23 in `ba:2`, and 29 in random geometric graphs of mean
/// degree 8 and 12, where the longest chains of grants end.)
pub const MAX_WORD_BYTES: usize = (MAX_PLACE_BYTES - PLACE_HEAD_BYTES) / MAX_TREES - 1;
/// What a place begins with: its number, and that of its addresses.
const PLACE_HEAD_BYTES: usize = size_of::<u64>() + 1;

/// Bytes that are not an address, a set of addresses or a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed address")]
pub struct AddressError;

/// Words up to this length are kept in place: a relay keeps those of hundreds of nodes, and each on the heap would be fetched on its own.
const INLINE_DEPTH: usize = 16;

/// A vertex of a tree. The empty word is the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(SmallVec<[u8; INLINE_DEPTH]>);

impl Address {
    /// The root's address.
    pub fn root() -> Self {
        Self::default()
    }

    /// The address of the word `ordinals`; none when it is longer than [`MAX_DEPTH`].
    pub fn from_ordinals(ordinals: &[u8]) -> Option<Self> {
        (ordinals.len() <= MAX_DEPTH).then(|| Self(ordinals.into()))
    }

    /// The address of this vertex's child `ordinal`; none at [`MAX_DEPTH`].
    pub fn child(&self, ordinal: u8) -> Option<Self> {
        let mut word = self.0.clone();
        word.push(ordinal);
        (word.len() <= MAX_DEPTH).then_some(Self(word))
    }

    /// The address of this vertex's child in `slot`, in a tree of at most `q - 1` children a vertex; none when it would be too long.
    ///
    /// A node may have more children than its vertex has places. The last place then is its *extension*: the node stands for that vertex too, and the
    /// further children are below it, and so on. So a node that many link to has places for those who have no other way, and one that has few children has
    /// short addresses to give.
    pub fn child_in(&self, slot: u16, q: u16) -> Option<Self> {
        let own = q.saturating_sub(2).max(1);
        let levels = usize::from(slot / own);
        let (extension, last) = (u8::try_from(own).ok()?, u8::try_from(slot % own).ok()?);
        let mut word = self.0.clone();
        word.extend(core::iter::repeat_n(extension, levels));
        word.push(last);
        (word.len() <= MAX_DEPTH).then_some(Self(word))
    }

    /// The slot of the child of this vertex, extensions included, that is at `other`; none when no child can be there.
    pub fn slot_of(&self, other: &Self, q: u16) -> Option<u16> {
        let own = q.saturating_sub(2).max(1);
        let (last, levels) = other.0.strip_prefix(&*self.0)?.split_last()?;
        let only_extensions = levels.iter().all(|ordinal| u16::from(*ordinal) == own);
        let levels = u16::try_from(levels.len()).ok().filter(|_| only_extensions && u16::from(*last) < own)?;
        levels.checked_mul(own)?.checked_add(u16::from(*last))
    }

    /// The address of the parent vertex; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, word) = self.0.split_last()?;
        Some(Self(word.into()))
    }

    /// How many of the first `count` slots below this vertex are for children at addresses that can be told: the higher the slot, the longer.
    pub fn slots_to_give(&self, count: u16, q: u16) -> u16 {
        let (mut given, mut too_far) = (0, count);
        while given < too_far {
            let slot = given.midpoint(too_far);
            if self.child_in(slot, q).is_some_and(|child| child.can_be_told()) {
                given = slot + 1;
            } else {
                too_far = slot;
            }
        }
        given
    }

    /// Whether it is no longer than [`MAX_WORD_BYTES`].
    pub fn can_be_told(&self) -> bool {
        let bits: u32 = self.0.iter().map(|ordinal| 2 * (u32::from(*ordinal) + 1).ilog2() + 1).sum();
        usize::try_from(bits.div_ceil(8)).is_ok_and(|bytes| bytes < MAX_WORD_BYTES)
    }

    /// Edges from the root.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The ordinals from the root downwards.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is this vertex or below it.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Edges between the two vertices in the tree.
    pub fn tree_distance(&self, other: &Self) -> usize {
        let common = self.0.iter().zip(other.as_slice()).take_while(|(a, b)| a == b).count();
        self.0.len() + other.0.len() - 2 * common
    }

    /// Appends the length (one byte) and the gamma codes, filled with zero bits to a whole byte.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        let mut bits = BitWriter { out, used: 0 };
        for &ordinal in self.as_slice() {
            bits.gamma(u32::from(ordinal) + 1);
        }
    }

    /// The same, alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// The address in `bytes`, all of them.
    ///
    /// # Errors
    /// [`AddressError`] when they are anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, AddressError> {
        let address = Self::decode(&mut bytes)?;
        if bytes.is_empty() { Ok(address) } else { Err(AddressError) }
    }

    /// Takes an address off the front of `bytes`.
    ///
    /// # Errors
    /// [`AddressError`] when they end too soon, or are not the one encoding of an address.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, AddressError> {
        let (&depth, rest) = bytes.split_first().ok_or(AddressError)?;
        let mut bits = BitReader { bytes: rest, at: 0 };
        let mut word = SmallVec::with_capacity(usize::from(depth));
        for _ in 0..depth {
            let value = bits.gamma().ok_or(AddressError)?;
            word.push(u8::try_from(value - 1).map_err(|_| AddressError)?);
        }
        let used = bits.finish().ok_or(AddressError)?;
        *bytes = rest.get(used..).ok_or(AddressError)?;
        Ok(Self(word))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|ordinal| write!(f, "/{ordinal}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let word = text.strip_prefix('/').ok_or(AddressError)?;
        let word: Vec<u8> = match word {
            "" => Vec::new(),
            word => word.split('/').map(str::parse).collect::<Result<_, _>>().map_err(|_| AddressError)?,
        };
        Self::from_ordinals(&word).ok_or(AddressError)
    }
}

/// The number of a tree of the overlay: 0 to 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeId(u8);

/// The tree whose root is the founder.
pub const FIRST_TREE: TreeId = TreeId(0);

impl TreeId {
    /// All of them.
    pub const ALL: [Self; MAX_TREES] = [Self(0), Self(1), Self(2), Self(3)];

    /// The tree with this number; none from [`MAX_TREES`] on.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < MAX_TREES { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Its number, below [`MAX_TREES`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node's addresses, at most one in each tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddressSet([Option<Address>; MAX_TREES]);

impl AddressSet {
    /// The set of one address.
    pub fn of(tree: TreeId, address: Address) -> Self {
        let mut set = Self::default();
        set.insert(tree, address);
        set
    }

    /// The set of one address in [`FIRST_TREE`].
    pub fn single(address: Address) -> Self {
        Self::of(FIRST_TREE, address)
    }

    /// Adds or replaces the address in `tree`.
    pub fn insert(&mut self, tree: TreeId, address: Address) {
        self.0[tree.index()] = Some(address);
    }

    /// Takes the address in `tree` away.
    pub fn remove(&mut self, tree: TreeId) {
        self.0[tree.index()] = None;
    }

    /// The address in `tree`.
    pub const fn in_tree(&self, tree: TreeId) -> Option<&Address> {
        self.0[tree.index()].as_ref()
    }

    /// The addresses by tree.
    pub fn iter(&self) -> impl Iterator<Item = (TreeId, &Address)> {
        TreeId::ALL.into_iter().zip(&self.0).filter_map(|(tree, address)| Some((tree, address.as_ref()?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The sum of the addresses' depths: what a packet's first TTL is made of.
    pub fn total_depth(&self) -> usize {
        self.iter().map(|(_, address)| address.depth()).sum()
    }

    /// The depth of the shallowest address.
    pub fn least_depth(&self) -> Option<usize> {
        self.iter().map(|(_, address)| address.depth()).min()
    }

    /// Appends the number of addresses, then tree and address of each.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.len()).unwrap_or(u8::MAX));
        for (tree, address) in self.iter() {
            out.push(tree.0);
            address.encode_into(out);
        }
    }

    /// Takes a set off the front of `bytes`.
    ///
    /// # Errors
    /// [`AddressError`] when they end too soon, name a tree above [`MAX_TREES`], or not in rising order.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, AddressError> {
        let mut set = Self::default();
        let mut least = 0;
        for _ in 0..take_u8(bytes)? {
            let tree = TreeId::new(take_u8(bytes)?).filter(|tree| tree.0 >= least).ok_or(AddressError)?;
            least = tree.0 + 1;
            set.insert(tree, Address::decode(bytes)?);
        }
        Ok(set)
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(tree, address)| (tree.0, address))).finish()
    }
}

/// Where a node can be reached, and how new that knowledge is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Place {
    /// Its addresses.
    pub addresses: AddressSet,
    /// The number of the first node record that says so: of two places of one node the higher one counts.
    pub seq: u64,
}

impl Place {
    /// The sequence number (8 bytes, big endian) and the addresses; at most [`MAX_PLACE_BYTES`] where each of them [can be told](Address::can_be_told). A
    /// longer one has no way through the wire's checks, so nobody takes an address that cannot.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.seq.to_be_bytes().to_vec();
        self.addresses.encode_into(&mut out);
        out
    }

    /// The place in `bytes`, all of them.
    ///
    /// # Errors
    /// [`AddressError`] when they are anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, AddressError> {
        let place = Self::decode(&mut bytes)?;
        if bytes.is_empty() { Ok(place) } else { Err(AddressError) }
    }

    /// Takes a place off the front of `bytes`.
    ///
    /// # Errors
    /// [`AddressError`] when they end too soon or the place is longer than [`MAX_PLACE_BYTES`].
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, AddressError> {
        let before = bytes.len();
        let (seq, rest) = bytes.split_first_chunk::<8>().ok_or(AddressError)?;
        *bytes = rest;
        let place = Self { seq: u64::from_be_bytes(*seq), addresses: AddressSet::decode(bytes)? };
        if before - bytes.len() <= MAX_PLACE_BYTES { Ok(place) } else { Err(AddressError) }
    }
}

fn take_u8(bytes: &mut &[u8]) -> Result<u8, AddressError> {
    let (&byte, rest) = bytes.split_first().ok_or(AddressError)?;
    *bytes = rest;
    Ok(byte)
}

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    used: usize,
}

impl BitWriter<'_> {
    fn bit(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.out.push(0);
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(bit) << (7 - self.used % 8);
        }
        self.used += 1;
    }

    /// Elias gamma: as many zeros as there are bits after the leading one, then the number.
    fn gamma(&mut self, value: u32) {
        let bits = value.ilog2();
        (0..bits).for_each(|_| self.bit(false));
        (0..=bits).rev().for_each(|at| self.bit(value >> at & 1 == 1));
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn gamma(&mut self) -> Option<u32> {
        /// Bits after the leading one of the largest ordinal plus one, 256.
        const MAX_BITS: u32 = 8;
        let mut bits = 0;
        while self.bit()? == 0 {
            bits += 1;
            if bits > MAX_BITS {
                return None;
            }
        }
        (0..bits).try_fold(1, |value, _| Some(value << 1 | self.bit()?))
    }

    /// Whole bytes read; none when a filling bit is set, so that every address has one encoding.
    fn finish(mut self) -> Option<usize> {
        while !self.at.is_multiple_of(8) {
            if self.bit()? == 1 {
                return None;
            }
        }
        Some(self.at / 8)
    }
}

#[cfg(test)]
mod tests;
