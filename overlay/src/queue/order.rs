//! What a link frame is to the others that wait for the same link.

use crate::wire::link::Frame;

/// What a frame is about of which the latest word counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Where the sender is and whom it knows.
    Neighbourhood,
    /// The sender's chain of grants in a tree.
    Chain(u8),
    /// How far above the receiver a tree is broken.
    Break(u8),
    /// The table of a vertex, by tree and depth.
    Table(u8, u8),
}

/// When a frame leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// After those that came before it.
    InTurn,
    /// The same, and instead of an earlier one about the same.
    Latest(Subject),
    /// After everything else, packets too.
    Last,
}

impl Order {
    /// What the others may do without once this frame waits, too.
    ///
    /// What answers, asks or proves something is not said twice, and a heartbeat leaves out what the one before it told. A chain is believed by who has heard
    /// its root, so a beacon keeps its turn before it.
    pub(crate) fn of(frame: &Frame) -> Self {
        match frame {
            Frame::Advert(_) => Self::Latest(Subject::Neighbourhood),
            Frame::Chain(chain) => Self::Latest(Subject::Chain(chain.tree.get())),
            Frame::Detached(detached) => Self::Latest(Subject::Break(detached.tree.get())),
            Frame::Table(table) => Self::Latest(Subject::Table(table.tree.get(), table.depth)),
            Frame::Goodbye(_) => Self::Last,
            _ => Self::InTurn,
        }
    }
}
