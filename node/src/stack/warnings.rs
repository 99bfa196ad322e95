//! What is wrong with this node, for as long as it lasts: said by `status` and `doctor`, too, for whoever did not see the log.

use std::time::Duration;

use overlay::id::NodeId;
use overlay::time::Instant;

use super::Stack;
use crate::facts;

/// A twin that was not noticed again for this time has gone: one that is there is noticed each twenty seconds or so.
const TWIN_GONE: Duration = Duration::from_secs(60);

/// What was noticed.
#[derive(Debug, Default)]
pub struct Warnings {
    ahead: bool,
    twin_at: Option<Instant>,
    /// The name that this node wants, and who has it.
    refused: Option<(String, NodeId)>,
    /// What keeps the node from storing.
    store: Option<String>,
    /// What is wrong with its folder.
    folder: Option<String>,
}

impl Warnings {
    /// A binder finds this node's record dated too far ahead; whether that is news.
    pub fn refused_as_ahead(&mut self) -> bool {
        !std::mem::replace(&mut self.ahead, true)
    }

    /// All binders keep this node's record.
    pub fn stored(&mut self) {
        self.ahead = false;
    }

    /// Another node runs with this node's key; whether that is news.
    pub fn has_twin(&mut self, now: Instant) -> bool {
        let news = self.twin(now).is_none();
        self.twin_at = Some(now);
        news
    }

    /// The name that this node wants is `holder`'s; none when it is its own, or it wants none.
    pub fn name_refused(&mut self, refused: Option<(String, NodeId)>) {
        self.refused = refused;
    }

    /// The line about a twin.
    pub fn twin(&self, now: Instant) -> Option<&'static str> {
        self.twin_at.filter(|at| now.since(*at) < TWIN_GONE).map(|_| facts::TWIN)
    }

    /// The line about this node's record.
    pub fn record(&self) -> Option<&'static str> {
        self.ahead.then_some(facts::CLOCK_AHEAD)
    }

    /// What is worse, if anything is wrong.
    pub fn line(&self, now: Instant) -> Option<String> {
        let refused = || {
            let (name, holder) = self.refused.as_ref()?;
            Some(format!(
                "the name {name} belongs to {holder}, and not to this node; choose another one: muses name claim NAME"
            ))
        };
        let storage = || self.storage().map(str::to_owned);
        let record = || self.record().map(str::to_owned);
        self.twin(now).map(str::to_owned).or_else(storage).or_else(record).or_else(refused)
    }

    /// The line about what this node keeps, and where.
    fn storage(&self) -> Option<&str> {
        self.folder.as_deref().or(self.store.as_deref())
    }
}

impl Stack {
    /// What keeps this node from storing, in one line; none when all is stored.
    pub fn warn_of_store(&mut self, line: Option<String>) {
        self.warnings.store = line;
    }

    /// What is wrong with this node's folder, in one line; none when nothing is.
    pub fn warn_of_folder(&mut self, line: Option<String>) {
        self.warnings.folder = line;
    }

    /// What is wrong with what this node keeps, if anything is.
    pub fn storage_fault(&self) -> Option<String> {
        self.warnings.storage().map(str::to_owned)
    }
}
