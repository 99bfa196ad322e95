//! What an overlay can be waiting for.

use crate::address::TreeId;
use crate::event::EchoId;
use crate::io::LinkId;

/// Why the overlay wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A heartbeat, a probe or silence on a link.
    Link(LinkId),
    /// The root signs its next beacon.
    Beacon(TreeId),
    /// The founder looks whether it has to name other heirs.
    Titles,
    /// The founder looks where the members are.
    Survey,
    /// The parent sent no beacon, or did not mend its own loss, for too long.
    Stale(TreeId),
    /// A neighbour that was asked for a place did not answer.
    Ask(TreeId),
    /// A node without a parent looks again.
    Seek,
    /// An heir takes the root over.
    Takeover(TreeId),
    /// Addresses that came one by one are told together.
    Place,
    /// The record names other neighbours.
    Hints,
    /// The records that this node keeps for others are written to disk.
    Records,
    /// A name that is wanted may be looked for.
    Claims,
    /// A lost child's slot becomes free.
    Lease,
    /// Decisions of forwarding are taken anew: links may be loaded otherwise.
    Routes,
    /// Neighbours are told what changed.
    Advert,
    /// Parents are told how large this node's subtrees are.
    Sizes,
    /// Children are told what this vertex chooses binders from.
    Placement(TreeId),
    /// Records are looked through for those that belong elsewhere.
    Rebind,
    /// An address may be dialled again.
    Dial,
    /// After a change of the local address: links that have not answered are given up.
    Urgent,
    /// Peers of the layer above were sought long enough.
    Partners,
    /// This node has not moved for so long that it is one like others again.
    Standing,
    /// A ping or trace got no answer.
    Echo(EchoId),
    /// A revocation is put again.
    Revoked,
    /// The record table has something to do.
    Dht,
    /// A leaving node has waited enough.
    Leave,
}
