//! CLOAK: an overlay of chained links, addressed in the hyperbolic plane. Pure: no sockets, no clock, no entropy.
//!
//! Nodes that can reach each other only over other nodes find each other by name and exchange packets. The idea is that of *CLOAK*
//! (Cassagnes, Tiendrebeogo, Bromberg, Magoni, ISCC 2011), the overlay below MUSeS: each node embeds a vertex of a regular tree in the
//! hyperbolic plane, and a packet goes to the neighbour that is nearest to its destination. Here a node has a vertex in each of up to four trees
//! with different roots: paths are shorter, and the death of a node breaks what hangs below it in one tree, but seldom in all.
//!
//! # The protocol
//!
//! **An overlay** is founded once. Its [`genesis`] record, signed by the founder, fixes the tiling; the record's hash is the overlay's
//! id. The first frame on every link, the hello ([`wire::link`]), carries the record. A node that has none takes the first it hears and
//! keeps it; nodes of different overlays part with a reason. In a closed overlay a [`membership`] stands before the hello: links to anybody
//! else do not open, but for a guest who tells his inviter the secret of an invite, and gets one.
//!
//! **A place.** A node asks one neighbour, its *parent*, for a place. The parent answers with a [`grant`], a signature that says which
//! of its children the node is, and with its own chain of grants. The slots from the root down to the node are its
//! [`address`], as `/3/0/1`; no address is ever signed, so a subtree that moves keeps its grants. Slots are kept for a lease when the
//! child's link is lost, and their epochs survive crashes.
//!
//! **The root** of the first tree is the founder. It signs *titles*, which name the roots of the other trees among the early members, and for
//! each tree a list of heirs. Every 5 s each root signs a beacon, flooded over all links. When one is gone, the first heir on the list that is
//! left holds it after 8 s; the founder gets its own back, the others keep what they mind, and the founder names them after a minute. Nobody is elected.
//!
//! **Forwarding** is greedy ([`potential`]): a relay computes the hyperbolic distance ([`hyperbolic`]) from each neighbour, and from what
//! each neighbour says of its own neighbours, to the packet's destination and to neighbours of that, in all trees. Links beside the trees are shortcuts.
//! Where that fails, because of dead nodes, small packets search on depth first. Who cannot pass a packet on says so to its source. Each link has a queue ([`queue`]) that is fair between flows and marks congestion.
//!
//! **Finding.** A node publishes a signed [`record`] of its place whenever that changes. The table ([`dht`]) keeps a record at several
//! nodes, one in each tree, chosen by the key and the sizes of subtrees from the root downwards. Vertices tell those below them what they choose from, so
//! that requests go straight to where their way leaves that of the asking node, and records move only when they have to.
//!
//! **Repair.** Parent and child send heartbeats. In the first tree nobody gets another address because a node dies: its nearest live ancestor holds its
//! place beside its own, and the orphans link to that, with the chain of grants that they have; an heir does so for the founder. In the other trees an orphan
//! asks another neighbour that has heard the root lately, and what is below it follows. A node that lost everything dials all addresses it
//! knows, eight at a time. A node that moved to another network keeps its identity: its new links replace the old ones, its old slot waits for it, and its
//! former parents send on what still comes for its old place. Leaves carry nobody, and who moves often as little as it can ([`standing`]).
//!
//! # Use
//!
//! [`Overlay`] is told what happened (`handle_*`) and then asked what to do (`poll_transmit`, `poll_command`, `poll_event`,
//! `poll_timeout`), in this order, until there is no more. The time comes with each call, randomness from one seed, and what has to
//! survive a crash goes out as [`io::Command::Persist`] and comes back by [`Overlay::restore`]. The same calls give the same
//! results, byte for byte.

pub mod address;
mod claims;
pub mod codec;
pub mod config;
pub mod dht;
mod dial;
mod due;
pub mod error;
pub mod event;
mod forward;
pub mod genesis;
pub mod grant;
pub mod hyperbolic;
pub mod id;
pub mod io;
mod life;
mod links;
pub mod membership;
pub mod overlay;
pub mod partners;
pub mod potential;
pub mod queue;
pub mod record;
mod revoked;
pub mod rng;
pub mod routes;
pub mod standing;
pub mod status;
pub mod time;
pub mod timer;
mod tree;
pub mod wire;

pub use overlay::Overlay;
