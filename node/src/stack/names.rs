//! The user's dealings with names: claim one, pin one, forget a pin, list them.

use overlay::id::NodeId;
use overlay::record::Name;
use overlay::time::Now;

use super::naming::PINS_KEY;
use super::status::{NameKind, NameStatus};
use super::{Command, Stack};

impl Stack {
    /// Claims `name` for this node; [`Event::NameClaimed`](super::Event::NameClaimed), [`Event::NameRefused`](super::Event::NameRefused)
    /// or [`Event::NameAhead`](super::Event::NameAhead) follows when binders have answered.
    pub fn claim_name(&mut self, name: Name, now: Now) {
        self.name = Some(name.clone());
        self.overlay.claim_name(name, now);
        self.settle(now);
    }

    /// The name that this node claims.
    pub fn own_name(&self) -> Option<Name> {
        self.name.clone()
    }

    /// Takes back a claim of `name` that came to nothing; what it was before counts again.
    pub fn unclaim_name(&mut self, name: &Name, before: Option<Name>, now: Now) {
        if before.as_ref() != Some(name) {
            self.overlay.withdraw_name(name, now);
        }
        self.name = before;
        self.warnings.name_refused(None);
        self.settle(now);
    }

    /// The pins as they are stored, if `name` meant `node` or nobody; none when there are too many, or when nobody had used it.
    pub fn pins_with(&self, name: &Name, node: Option<NodeId>) -> Option<Vec<u8>> {
        self.naming.stored_with(name, node)
    }

    /// Lets `name` mean `node` from now on, whomever it meant before. False when there are too many pins.
    pub fn pin_name(&mut self, name: &Name, node: NodeId) -> bool {
        let Some(bytes) = self.naming.set_pin(name, node) else { return false };
        self.commands.push_back(Command::Persist { key: PINS_KEY.to_owned(), bytes: bytes.into() });
        true
    }

    /// Forgets whom `name` meant. False when nobody had used it.
    pub fn unpin_name(&mut self, name: &Name) -> bool {
        let Some(bytes) = self.naming.unpin(name) else { return false };
        self.commands.push_back(Command::Persist { key: PINS_KEY.to_owned(), bytes: bytes.into() });
        true
    }

    /// All names that this node knows by itself: its own, petnames, pins.
    pub fn names(&self) -> Vec<NameStatus> {
        let row = |kind: NameKind, name: &str, node: NodeId| NameStatus {
            name: name.to_owned(),
            node: node.to_string(),
            kind,
        };
        let own = self.name.iter().map(|name| row(NameKind::Own, name.as_str(), self.id));
        let (petnames, pins) = self.naming.all();
        let petnames = petnames.iter().map(|(name, node)| row(NameKind::Petname, name, *node));
        let pins = pins.iter().map(|(name, node)| row(NameKind::Pin, name, *node));
        own.chain(petnames).chain(pins).collect()
    }

    /// What `node` is called here: by its petname, or a name of its that was used or pinned.
    pub fn called(&self, node: NodeId) -> Option<String> {
        let (petnames, pins) = self.naming.all();
        let name = petnames.iter().chain(pins).find(|(_, named)| **named == node);
        name.map(|(name, _)| name.clone())
    }

    /// The node that `text` means as far as this node knows by itself.
    pub fn known(&self, text: &str) -> Option<NodeId> {
        self.naming.known(text)
    }
}
