//! What a node that is in an overlay does with an invite, or with the address of another member.

use multiaddr::{Multiaddr, Protocol};
use overlay::id::NodeId;
use serde_json::{Value, json};

use super::{ANSWER_TIMEOUT, Desk, in_time};
use crate::clock;
use crate::driver::Error;
use crate::exit::{Code, Fault};
use crate::invite::Invite;
use crate::local::invites;
use crate::local::service::ServiceName;
use crate::stack::Failure;
use crate::way::{Way, check_fresh};

impl Desk {
    /// Nothing that this node does is interrupted: it is in the overlay already.
    pub(super) async fn join(&self, way: &str) -> Result<Value, Fault> {
        match Way::read(way)? {
            Way::Address(address) => {
                let node = named_in(&address);
                self.ask(move |stack, now| stack.handle_way_in(&address, node, now)).await?;
                Ok(json!({ "node": node.map(|node| node.to_string()), "services": [] }))
            }
            Way::Invite(invite) => {
                check_fresh(&invite, clock::now().wall)?;
                let services = self.use_invite(&invite).await?;
                Ok(json!({ "node": invite.inviter.to_string(), "services": services }))
            }
        }
    }

    /// The services that it opened.
    async fn use_invite(&self, invite: &Invite) -> Result<Vec<ServiceName>, Fault> {
        let (own, overlay) = self.ask(|stack, _| (stack.id(), stack.overlay_id())).await?;
        if overlay != Some(invite.overlay) {
            let own = overlay.map_or_else(|| "none yet".to_owned(), |overlay| overlay.to_string());
            let line = format!(
                "this invite leads to the overlay {}, and the node that runs here is in another one ({own}); a node in that one beside it: muses join INVITE --data-dir DIR",
                invite.overlay
            );
            return Err(Fault::new(Code::State, line));
        }
        if own == invite.inviter {
            return Err(Fault::new(Code::Usage, "this invite is this node's own; it is for others"));
        }
        let (inviter, addresses) = (invite.inviter, invite.dials());
        self.ask(move |stack, now| stack.seek_link(inviter, &addresses, now)).await?;
        let Some(grant) = invite.grant.as_ref().filter(|grant| !grant.services.is_empty()) else {
            return Ok(Vec::new());
        };
        let asking = async {
            let conn = self.handle.open(inviter.to_string(), invites::SERVICE.to_owned(), 0).await?;
            Ok::<_, Error>(invites::ask(&conn, &grant.secret).await)
        };
        let line = |why: &Fault| {
            format!("the inviter, {inviter}, cannot be asked now: {why}; type it again when that node runs")
        };
        match in_time(asking, ANSWER_TIMEOUT).await {
            Ok(Err(fault)) if fault.code == Code::Failed as u8 => Err(Fault { message: line(&fault), ..fault }),
            Ok(answer) => answer,
            // The inviter takes no secrets any more.
            Err(fault) if fault == Failure::Refused.into() => Err(fault.about("the invite opened no service")),
            Err(fault) => Err(Fault { message: line(&fault), ..fault }),
        }
    }
}

/// Who is to answer at an address that says so.
fn named_in(address: &Multiaddr) -> Option<NodeId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => NodeId::from_peer_id_bytes(&peer.to_bytes()),
        _ => None,
    })
}
