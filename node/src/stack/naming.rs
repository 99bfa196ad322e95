//! From what people type to a node id: petname first, then node id, then claimed name; the first use of a name pins it.

use std::collections::BTreeMap;

use overlay::codec;
use overlay::id::NodeId;
use overlay::record::Name;

use super::event::{ConnId, Failure, QueryId};

/// Where the pins are stored.
pub const PINS_KEY: &str = "stack/pins";
/// Most pinned names.
const MAX_PINS: usize = 10_000;
/// Longest stored form of the pins, in bytes.
const MAX_PINS_BYTES: usize = 1024 * 1024;

/// What a typed text means without asking anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// A node.
    Node(NodeId),
    /// A name that the DHT has to resolve.
    Claimed(Name),
    /// Neither a name nor an id.
    Nothing,
}

/// Why a node is being looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To open a connection.
    Open(ConnId),
    /// To show its record.
    Show(QueryId),
    /// To ping it.
    Ping(QueryId),
    /// To trace the way to it.
    Trace(QueryId),
}

/// Petnames and pins.
#[derive(Debug, Default)]
pub struct Naming {
    petnames: BTreeMap<String, NodeId>,
    pins: BTreeMap<String, NodeId>,
}

impl Naming {
    /// No pins yet.
    pub fn new(petnames: BTreeMap<String, NodeId>) -> Self {
        Self { petnames, pins: BTreeMap::new() }
    }

    /// Other petnames from now on.
    pub fn set_petnames(&mut self, petnames: BTreeMap<String, NodeId>) {
        self.petnames = petnames;
    }

    /// Takes over the stored pins; false when they are unreadable.
    pub fn restore(&mut self, bytes: &[u8]) -> bool {
        match codec::decode::<Vec<(String, NodeId)>, MAX_PINS_BYTES>(bytes) {
            Ok(pins) => {
                self.pins = pins.into_iter().collect();
                true
            }
            Err(_) => false,
        }
    }

    /// What `text` means.
    pub fn meaning(&self, text: &str) -> Meaning {
        if let Some(id) = self.petnames.get(text) {
            return Meaning::Node(*id);
        }
        if let Ok(id) = text.parse() {
            return Meaning::Node(id);
        }
        text.parse().map_or(Meaning::Nothing, Meaning::Claimed)
    }

    /// The node that `name` was used for before.
    pub fn pinned(&self, name: &Name) -> Option<NodeId> {
        self.pins.get(name.as_str()).copied()
    }

    /// The node that `text` means as far as this node knows by itself.
    pub fn known(&self, text: &str) -> Option<NodeId> {
        match self.meaning(text) {
            Meaning::Node(id) => Some(id),
            Meaning::Claimed(name) => self.pinned(&name),
            Meaning::Nothing => None,
        }
    }

    /// Petnames, and names that are pinned.
    pub fn all(&self) -> (&BTreeMap<String, NodeId>, &BTreeMap<String, NodeId>) {
        (&self.petnames, &self.pins)
    }

    /// Pins `name` to `node` from now on, whomever it meant before; the bytes to store. None when there are too many pins.
    pub fn set_pin(&mut self, name: &Name, node: NodeId) -> Option<Vec<u8>> {
        if self.pins.len() >= MAX_PINS && self.pinned(name).is_none() {
            return None;
        }
        self.pins.insert(name.as_str().to_owned(), node);
        self.stored()
    }

    /// What would be stored after [`Naming::set_pin`], or without a node after [`Naming::unpin`].
    pub fn stored_with(&self, name: &Name, node: Option<NodeId>) -> Option<Vec<u8>> {
        let mut changed = Self { petnames: BTreeMap::new(), pins: self.pins.clone() };
        match node {
            Some(node) => changed.set_pin(name, node),
            None => changed.unpin(name),
        }
    }

    /// Forgets whom `name` meant: the next use pins it anew. The bytes to store; none when it was not pinned.
    pub fn unpin(&mut self, name: &Name) -> Option<Vec<u8>> {
        self.pins.remove(name.as_str())?;
        self.stored()
    }

    fn stored(&self) -> Option<Vec<u8>> {
        let pins: Vec<(String, NodeId)> = self.pins.iter().map(|(name, id)| (name.clone(), *id)).collect();
        codec::encode(&pins).ok()
    }

    /// `name` resolved to `holder`. The first use pins it; the bytes to store are returned when that changed something.
    ///
    /// # Errors
    /// [`Failure::NameChanged`] when the name was pinned to another node.
    pub fn pin(&mut self, name: &Name, holder: NodeId) -> Result<Option<Vec<u8>>, Failure> {
        match self.pinned(name) {
            Some(known) if known == holder => Ok(None),
            Some(_) => Err(Failure::NameChanged),
            None if self.pins.len() >= MAX_PINS => Ok(None),
            None => {
                self.pins.insert(name.as_str().to_owned(), holder);
                Ok(self.stored())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_use_pins_and_a_changed_key_is_refused() {
        let (alice, mallory) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let name: Name = "alice".parse().unwrap();
        let mut naming = Naming::new(BTreeMap::from([("mum".to_owned(), alice)]));
        let stored = naming.pin(&name, alice).unwrap().unwrap();
        assert_eq!(naming.pin(&name, alice), Ok(None));
        assert_eq!(naming.pin(&name, mallory), Err(Failure::NameChanged));
        let mut restarted = Naming::default();
        assert!(restarted.restore(&stored));
        assert_eq!(restarted.pinned(&name), Some(alice));
        assert!(!restarted.restore(&[0xff; 9]));
        assert_eq!(naming.meaning("mum"), Meaning::Node(alice));
        assert_eq!(naming.meaning(&mallory.to_string()), Meaning::Node(mallory));
        assert_eq!(naming.meaning("alice"), Meaning::Claimed(name));
        assert_eq!(naming.meaning("no such/thing"), Meaning::Nothing);
    }

    #[test]
    fn a_pin_is_changed_only_by_hand() {
        let (alice, new_alice) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let name: Name = "alice".parse().unwrap();
        let mut naming = Naming::default();
        assert_eq!(naming.known("alice"), None);
        assert_eq!(naming.unpin(&name), None);
        naming.pin(&name, alice).unwrap();
        assert_eq!(naming.known("alice"), Some(alice));
        let stored = naming.set_pin(&name, new_alice).unwrap();
        assert_eq!(naming.pin(&name, new_alice), Ok(None));
        let mut restarted = Naming::default();
        assert!(restarted.restore(&stored));
        assert_eq!(restarted.all().1, &BTreeMap::from([("alice".to_owned(), new_alice)]));
        assert!(restarted.restore(&naming.unpin(&name).unwrap()));
        assert_eq!(restarted.known("alice"), None);
    }
}
