//! What happened, in words for people.

use overlay::id::NodeId;

use crate::stack::Event;

/// A line about `fact`, in which nodes are called as `who` says; none for what concerns one connection or question only.
pub fn line(fact: &Event, who: impl Fn(&NodeId) -> String) -> Option<String> {
    Some(match fact {
        Event::Founded(overlay) => format!("founded the overlay {overlay}"),
        Event::Resumed(overlay) => format!("resumed the overlay {overlay}"),
        Event::Joined { overlay, address, first: true } => {
            format!("joined the overlay {overlay} at {address} (pinned: this data folder joins no other from now on)")
        }
        Event::Joined { overlay, address, first: false } => format!("attached to the overlay {overlay} at {address}"),
        Event::Detached => "detached: no way into the overlay now, looking for one".to_owned(),
        Event::AddressChanged(address) => format!("the address is {address} now"),
        Event::LinkRefused(why) | Event::OtherOverlay(why) | Event::NotAdmitted(why) => {
            format!("a link was refused: {}", why.escape_debug())
        }
        Event::NameClaimed(name) => format!("the name {name} is this node's"),
        Event::NameRefused { name, holder } => {
            format!("the name {name} belongs to {}; choose another --name", who(holder))
        }
        Event::NameAhead(name) => clock_line(name),
        Event::ClockAhead => CLOCK_AHEAD.to_owned(),
        Event::Twin => TWIN.to_owned(),
        Event::PeerRevoked(peer) => {
            format!("the identity of {} was revoked; nothing goes to it or comes from it any more", who(peer))
        }
        Event::SessionSuspended(peer) => format!("session with {} suspended: waiting for a way", who(peer)),
        Event::SessionResumed(peer) => format!("session with {} resumed", who(peer)),
        Event::Flooded(neighbour) => {
            format!("more handshakes come over {} than anybody needs: less is read of this neighbour", who(neighbour))
        }
        Event::Opened(_)
        | Event::Failed(..)
        | Event::Incoming { .. }
        | Event::GuestAsks { .. }
        | Event::RevocationStored(_)
        | Event::IdentityRevoked
        | Event::Readable(_)
        | Event::Writable(_)
        | Event::Answered(..)
        | Event::Left => return None,
    })
}

/// Why a name cannot be claimed by a machine whose clock is far ahead.
pub fn clock_line(name: &str) -> String {
    format!(
        "the name {name} is not confirmed: by the clock of a node that would keep it this machine is more than a day ahead; is the clock right, here (`date`) and there? when it is, start this node again"
    )
}

/// Why others may not find a machine whose clock is far ahead.
pub const CLOCK_AHEAD: &str = "others may not find this node: by the clock of a node that would keep its record this machine is more than a day ahead; is the clock right, here (`date`) and there? when it is, start this node again";

/// What two nodes with one key do to each other.
pub const TWIN: &str = "another running node has this node's key, as a copy of the data folder makes one: each takes the other's links, and sessions break; stop one of the two, and give it a data folder of its own (muses up --data-dir)";

/// What kind of fact it is: `place`, `link`, `name` or `session`.
pub const fn kind(fact: &Event) -> &'static str {
    match fact {
        Event::LinkRefused(_) | Event::Flooded(_) | Event::Twin | Event::OtherOverlay(_) | Event::NotAdmitted(_) => {
            "link"
        }
        Event::NameClaimed(_) | Event::NameRefused { .. } | Event::NameAhead(_) | Event::ClockAhead => "name",
        Event::SessionSuspended(_) | Event::SessionResumed(_) | Event::PeerRevoked(_) => "session",
        _ => "place",
    }
}
