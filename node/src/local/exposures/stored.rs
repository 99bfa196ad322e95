//! How exposures are stored.

use std::collections::{BTreeMap, BTreeSet};

use overlay::id::NodeId;
use serde::{Deserialize, Serialize};

use super::{Exposure, Kept, STORE_KEY};
use crate::exit::{Code, Fault};
use crate::local::service::{Forward, ServiceName};
use crate::stack::Who;
use crate::store::senseless;

/// The stored form. Earlier versions stored the list of what was typed alone.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    typed: Vec<Row>,
    guests: BTreeMap<ServiceName, Vec<String>>,
    withdrawn: BTreeSet<ServiceName>,
}

impl Stored {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let is_old = bytes.first() == Some(&b'[');
        let stored = if is_old {
            serde_json::from_slice(bytes).map(|typed| Self { typed, ..Self::default() })
        } else {
            serde_json::from_slice(bytes)
        };
        stored.map_err(damaged)
    }

    pub(super) fn read(self) -> Result<Kept, Fault> {
        let guests = |(name, ids): (ServiceName, Vec<String>)| -> Result<_, Fault> {
            let ids: BTreeSet<NodeId> = ids.iter().map(|id| id.parse().map_err(damaged)).collect::<Result<_, _>>()?;
            Ok((name, ids))
        };
        Ok(Kept {
            typed: self.typed.into_iter().map(Row::read).collect::<Result<_, _>>()?,
            guests: self.guests.into_iter().map(guests).collect::<Result<_, _>>()?,
            withdrawn: self.withdrawn,
        })
    }

    /// No bytes for nothing, which deletes the value.
    pub(super) fn write(kept: &Kept) -> Result<Vec<u8>, Fault> {
        if *kept == Kept::default() {
            return Ok(Vec::new());
        }
        let guests = |(name, ids): (&ServiceName, &BTreeSet<NodeId>)| {
            (name.clone(), ids.iter().map(ToString::to_string).collect())
        };
        let stored = Self {
            typed: kept.typed.iter().map(Row::write).collect(),
            guests: kept.guests.iter().map(guests).collect(),
            withdrawn: kept.withdrawn.clone(),
        };
        serde_json::to_vec(&stored).map_err(damaged)
    }
}

/// What was typed about one service.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    service: ServiceName,
    forward: Forward,
    anyone: bool,
    nodes: Vec<String>,
}

impl Row {
    fn write((service, exposure): (&ServiceName, &Exposure)) -> Self {
        let node = |who: &Who| match who {
            Who::Anyone => None,
            Who::Node(id) => Some(id.to_string()),
        };
        Self {
            service: service.clone(),
            forward: exposure.forward.clone(),
            anyone: exposure.allow.contains(&Who::Anyone),
            nodes: exposure.allow.iter().filter_map(node).collect(),
        }
    }

    fn read(self) -> Result<(ServiceName, Exposure), Fault> {
        let mut allow = Vec::new();
        if self.anyone {
            allow.push(Who::Anyone);
        }
        for node in &self.nodes {
            allow.push(Who::Node(node.parse().map_err(damaged)?));
        }
        Ok((self.service, Exposure { forward: self.forward, allow }))
    }
}

fn damaged(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::State, senseless(STORE_KEY, why))
}
