//! Frames between direct neighbours, on the control lane.
//!
//! A frame is one tag byte and a body (bincode with a byte limit). Tags have their top bit set, so that a routed packet, whose first
//! byte is its version, can travel on the same lane. What is signed (genesis, grants, beacons) is carried as the bytes that were signed.

use multiaddr::Multiaddr;

use crate::address::{MAX_TREES, TreeId};
use crate::codec::{self, Decode, Encode};
use crate::error::FrameError;
use crate::grant::MAX_SLOTS;
use crate::id::{NodeId, OverlayId};
use crate::io::MAX_CONTROL_FRAME_BYTES;
use crate::membership::{MAX_MEMBERSHIP_BYTES, SECRET_BYTES};
use crate::record::MAX_RECORD_BYTES;
use crate::standing::Standing;

/// The version of the link protocol; peers with another one are refused.
pub const LINK_VERSION: u16 = 1;
/// Set in the first byte of link frames and clear in that of routed packets.
pub const LINK_FRAME_BIT: u8 = 0x80;
/// Most multiaddrs that a node tells of itself or of another one.
pub const MAX_ADDRESSES: usize = 8;
/// Longest multiaddr, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 128;
/// Most neighbours in one advert.
pub const MAX_ADVERTISED: usize = 16;
/// Most ancestors in one heartbeat.
pub const MAX_ANCESTORS: usize = 8;
/// Most children of a vertex.
pub const MAX_CHILDREN: usize = MAX_SLOTS as usize;
/// Most places of dead nodes in one advert.
pub const MAX_HELD: usize = 64;
/// Most others in one refusal.
pub const MAX_OTHERS: usize = 8;

/// In a hello: the sender is no member yet, and has an invite of the receiver.
pub const FLAG_ENROLS: u32 = 1;

/// What a decoder may claim: a frame's bytes, in memory twice as many.
const DECODE_LIMIT_BYTES: usize = 2 * MAX_CONTROL_FRAME_BYTES;

/// All frames; the tag is the only place where they are numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of both sides.
    Hello(Hello),
    /// Parent and child tell each other that they live.
    Heartbeat(Heartbeat),
    /// Answer this at once.
    Probe(u64),
    /// The answer, with the number of the probe.
    ProbeAck(u64),
    /// A child asks for a place.
    Ask(Ask),
    /// It gets one.
    Grant(Granted),
    /// It does not.
    Refuse(Refuse),
    /// A parent's place changed.
    Chain(Chain),
    /// The sender's place is not connected to the root any more.
    Detached(Detached),
    /// Where the sender is and whom it knows.
    Advert(Advert),
    /// The root lives.
    Beacon(BeaconFrame),
    /// Who may hold the roots: signed bytes.
    Titles(Vec<u8>),
    /// What a vertex above the receiver chooses binders from.
    Table(TableFrame),
    /// A parent has given one place twice.
    Proof(Proof),
    /// The sender's membership in a closed overlay, before its hello: signed bytes.
    Member(Vec<u8>),
    /// A guest's secret, for the inviter.
    Enrol([u8; SECRET_BYTES]),
    /// The guest's membership: signed bytes.
    Enrolled(Vec<u8>),
    /// The receiver's identity was revoked: signed bytes, right before the goodbye.
    Revoked(Vec<u8>),
    /// A child gives its slot in this tree back.
    Release(TreeId),
    /// The last frame: why the sender closes the link.
    Goodbye(Goodbye),
}

/// The first frame of both sides of a link.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`LINK_VERSION`].
    pub version: u16,
    /// The sender's overlay, as signed genesis bytes; empty for a joiner that has none yet.
    pub genesis: Vec<u8>,
    /// The overlay that such a joiner insists on.
    pub expected: Option<OverlayId>,
    /// When the sender's attachment changed last (wall microseconds, rising): of two links between two nodes the newer wins.
    pub attach_seq: u64,
    /// Where the sender listens.
    pub addresses: Vec<Vec<u8>>,
    /// [`FLAG_ENROLS`]; others are for later use, and ignored.
    pub flags: u32,
}

/// Between parent and child, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Default)]
pub struct Heartbeat {
    /// For each tree in which the sender is the receiver's parent.
    pub lines: Vec<Line>,
    /// The size of the sender's subtree in each tree, itself included; 0 where it takes no records. Parents choose binders by it.
    pub sizes: [u32; MAX_TREES],
}

/// What a parent tells its child of one tree.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Line {
    /// Which tree.
    pub tree: TreeId,
    /// Its parent, that one's parent and so on, at most [`MAX_ANCESTORS`].
    pub ancestors: Vec<Contact>,
    /// How many nodes there are in the tree, as the root counts them.
    pub size: u32,
}

/// A node and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Contact {
    /// Who.
    pub id: NodeId,
    /// Where.
    pub addresses: Vec<Vec<u8>>,
}

/// A request for a place.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    /// In which tree.
    pub tree: TreeId,
    /// The chain of grants of the place that the sender had, where the receiver gave it that, or where it shall stand in for a dead parent; otherwise
    /// empty.
    pub chain: Vec<u8>,
    /// The sender knows no other neighbour that could give it a place, and has not refused.
    pub no_other: bool,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Granted {
    /// The grant, signed bytes.
    pub grant: Vec<u8>,
    /// The parent's own chain of grants from the root.
    pub chain: Vec<u8>,
}

/// No place here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refuse {
    /// In which tree.
    pub tree: TreeId,
    /// Why not.
    pub why: RefuseReason,
    /// Where else to try.
    pub others: Vec<Contact>,
}

/// Why a place was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RefuseReason {
    /// The node asked is itself without a connection to the root.
    Detached,
    /// No slot is left for who could ask another neighbour, or none at all.
    Full,
    /// The asking node is an ancestor of the node asked.
    Loop,
    /// A place below its own would be too deep, or its address too long to be told.
    Depth,
    /// The holder of the place above is back, and gives the place again.
    Returned,
    /// The node asked is a leaf.
    Leaf,
}

/// A parent's place changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chain {
    /// In which tree.
    pub tree: TreeId,
    /// Its new chain of grants.
    pub chain: Vec<u8>,
}

/// What a vertex chooses binders from: see [`crate::dht::Table`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TableFrame {
    /// In which tree.
    pub tree: TreeId,
    /// The vertex, by the number of grants to it: it is on the receiver's way to the root.
    pub depth: u8,
    /// The level of its own weight.
    pub own: u8,
    /// Slot and level of the weight of each child.
    pub children: Vec<(u16, u8)>,
}

/// A parent lost the way to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Detached {
    /// In which tree.
    pub tree: TreeId,
    /// So many levels above the receiver is the break.
    pub levels: u8,
}

/// What a node tells all its neighbours when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Default)]
pub struct Advert {
    /// The sender's place; empty while it has none.
    pub place: Vec<u8>,
    /// Places of dead nodes in the first tree that the sender holds beside its own: addresses, at most [`MAX_HELD`].
    pub held: Vec<Vec<u8>>,
    /// At most [`MAX_ADVERTISED`] of the sender's neighbours.
    pub neighbours: Vec<Advertised>,
    /// What the sender does for others.
    pub standing: Standing,
}

/// A neighbour's neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Advertised {
    /// Who.
    pub id: NodeId,
    /// Its place.
    pub place: Vec<u8>,
    /// Where it listens (one is enough).
    pub addresses: Vec<Vec<u8>>,
}

/// Two grants of one parent that cannot both be honest.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Proof {
    /// A signed grant.
    pub one: Vec<u8>,
    /// Another one, with the same parent, tree, slot and epoch, for another child.
    pub other: Vec<u8>,
}

/// A root's beacon and how old it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BeaconFrame {
    /// Milliseconds since the sender heard it.
    pub age_ms: u32,
    /// Signed beacon bytes.
    pub beacon: Vec<u8>,
}

/// The last frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Goodbye {
    /// Why.
    pub why: GoodbyeReason,
    /// Where else to try.
    pub others: Vec<Contact>,
}

/// Why a link is closed by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum GoodbyeReason {
    /// It belongs to another overlay.
    WrongOverlay,
    /// Its `links.only` does not name this node.
    NotAllowed,
    /// A newer link exists.
    Replaced,
    /// No common version.
    Version,
    /// It has too many links.
    Full,
    /// It stops, and its place is free.
    Leaving,
    /// Its overlay is closed, and this node no member.
    NotMember,
    /// The invite's secret is good for nothing (any more).
    NotInvited,
    /// The receiver's identity was revoked.
    Revoked,
}

const HELLO: u8 = LINK_FRAME_BIT | 1;
const HEARTBEAT: u8 = LINK_FRAME_BIT | 2;
const PROBE: u8 = LINK_FRAME_BIT | 3;
const PROBE_ACK: u8 = LINK_FRAME_BIT | 4;
const ASK: u8 = LINK_FRAME_BIT | 5;
const GRANT: u8 = LINK_FRAME_BIT | 6;
const REFUSE: u8 = LINK_FRAME_BIT | 7;
const CHAIN: u8 = LINK_FRAME_BIT | 8;
const DETACHED: u8 = LINK_FRAME_BIT | 9;
const ADVERT: u8 = LINK_FRAME_BIT | 10;
const BEACON: u8 = LINK_FRAME_BIT | 11;
const RELEASE: u8 = LINK_FRAME_BIT | 12;
const GOODBYE: u8 = LINK_FRAME_BIT | 13;
const TITLES: u8 = LINK_FRAME_BIT | 14;
const TABLE: u8 = LINK_FRAME_BIT | 15;
const PROOF: u8 = LINK_FRAME_BIT | 16;
const MEMBER: u8 = LINK_FRAME_BIT | 17;
const ENROL: u8 = LINK_FRAME_BIT | 18;
const ENROLLED: u8 = LINK_FRAME_BIT | 19;
const REVOKED: u8 = LINK_FRAME_BIT | 20;

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(body) => tagged(HELLO, body),
            Self::Heartbeat(body) => tagged(HEARTBEAT, body),
            Self::Probe(number) => tagged(PROBE, number),
            Self::ProbeAck(number) => tagged(PROBE_ACK, number),
            Self::Ask(body) => tagged(ASK, body),
            Self::Grant(body) => tagged(GRANT, body),
            Self::Refuse(body) => tagged(REFUSE, body),
            Self::Chain(body) => tagged(CHAIN, body),
            Self::Detached(body) => tagged(DETACHED, body),
            Self::Advert(body) => tagged(ADVERT, body),
            Self::Beacon(body) => tagged(BEACON, body),
            Self::Titles(bytes) => tagged(TITLES, bytes),
            Self::Table(body) => tagged(TABLE, body),
            Self::Proof(body) => tagged(PROOF, body),
            Self::Member(bytes) => tagged(MEMBER, bytes),
            Self::Enrol(secret) => tagged(ENROL, secret),
            Self::Enrolled(bytes) => tagged(ENROLLED, bytes),
            Self::Revoked(bytes) => tagged(REVOKED, bytes),
            Self::Release(tree) => tagged(RELEASE, tree),
            Self::Goodbye(body) => tagged(GOODBYE, body),
        }
    }

    /// The frame in `bytes`.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] for an unknown tag, a bad body, trailing bytes and lists longer than allowed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (tag, body) = bytes.split_first().ok_or(FrameError::Malformed)?;
        let frame = match *tag {
            HELLO => Self::Hello(parse(body)?),
            HEARTBEAT => Self::Heartbeat(parse(body)?),
            PROBE => Self::Probe(parse(body)?),
            PROBE_ACK => Self::ProbeAck(parse(body)?),
            ASK => Self::Ask(parse(body)?),
            GRANT => Self::Grant(parse(body)?),
            REFUSE => Self::Refuse(parse(body)?),
            CHAIN => Self::Chain(parse(body)?),
            DETACHED => Self::Detached(parse(body)?),
            ADVERT => Self::Advert(parse(body)?),
            BEACON => Self::Beacon(parse(body)?),
            TITLES => Self::Titles(parse(body)?),
            TABLE => Self::Table(parse(body)?),
            PROOF => Self::Proof(parse(body)?),
            MEMBER => Self::Member(parse(body)?),
            ENROL => Self::Enrol(parse(body)?),
            ENROLLED => Self::Enrolled(parse(body)?),
            REVOKED => Self::Revoked(parse(body)?),
            RELEASE => Self::Release(parse(body)?),
            GOODBYE => Self::Goodbye(parse(body)?),
            _ => return Err(FrameError::Malformed),
        };
        if frame.is_bounded() { Ok(frame) } else { Err(FrameError::Malformed) }
    }

    fn is_bounded(&self) -> bool {
        let contacts = |list: &[Contact], most| list.len() <= most && list.iter().all(|c| bounded(&c.addresses));
        match self {
            Self::Hello(hello) => bounded(&hello.addresses),
            Self::Revoked(bytes) => bytes.len() <= MAX_RECORD_BYTES,
            Self::Member(bytes) | Self::Enrolled(bytes) => bytes.len() <= MAX_MEMBERSHIP_BYTES,
            Self::Heartbeat(heartbeat) => {
                heartbeat.lines.len() <= MAX_TREES
                    && heartbeat.lines.iter().all(|line| contacts(&line.ancestors, MAX_ANCESTORS))
            }
            Self::Table(table) => table.children.len() <= MAX_CHILDREN,
            Self::Refuse(refuse) => contacts(&refuse.others, MAX_OTHERS),
            Self::Goodbye(goodbye) => contacts(&goodbye.others, MAX_OTHERS),
            Self::Advert(advert) => {
                advert.held.len() <= MAX_HELD
                    && advert.neighbours.len() <= MAX_ADVERTISED
                    && advert.neighbours.iter().all(|n| bounded(&n.addresses))
            }
            _ => true,
        }
    }
}

/// Multiaddrs as they travel: those that are short enough, at most `max`.
pub fn to_wire(addresses: &[Multiaddr], max: usize) -> Vec<Vec<u8>> {
    addresses.iter().map(Multiaddr::to_vec).filter(|bytes| bytes.len() <= MAX_ADDRESS_BYTES).take(max).collect()
}

/// The multiaddrs that this node understands; a peer may know kinds that it does not.
pub fn from_wire(addresses: &[Vec<u8>]) -> Vec<Multiaddr> {
    addresses.iter().take(MAX_ADDRESSES).filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok()).collect()
}

fn bounded(addresses: &[Vec<u8>]) -> bool {
    addresses.len() <= MAX_ADDRESSES && addresses.iter().all(|bytes| bytes.len() <= MAX_ADDRESS_BYTES)
}

fn tagged<T: Encode>(tag: u8, body: &T) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(codec::encode(body).unwrap_or_default());
    bytes
}

fn parse<T: Decode<()>>(body: &[u8]) -> Result<T, FrameError> {
    codec::decode::<T, DECODE_LIMIT_BYTES>(body).map_err(|_| FrameError::Malformed)
}

#[cfg(test)]
mod tests;
