//! Whether a node can be reached, tried by a neighbour: what the two say to each other.
//!
//! Each node offers the service [`SERVICE`] to its direct neighbours. One that wants to know (`muses invite`) opens a stream to it, writes an [`Ask`] as
//! one JSON object and ends its direction; the [`Answer`] is another one.
//!
//! So that nobody can use this to look into networks that are not his own, an ask names ports and never an address. The neighbour dials the one IP
//! address at which it sees the asker: where it dialled the asker, or where the asker's link comes from; both ends have proved their
//! identity over it. It says no more of each port than whether the asker itself answers there. This node's own addresses are never
//! dialled, nor loopback where anything else is listened at: an asker who comes through a forwarder on this machine would get at its local ports.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use overlay::id::NodeId;
use overlay::time::Instant;
use serde::{Deserialize, Serialize};

/// The service at which one can ask. No person can offer a service of this name.
pub const SERVICE: &str = "~reach";
/// Ports in one ask; more are left out.
pub const MAX_PORTS: usize = 4;
/// Longest ask and longest answer, in bytes.
pub const MAX_WORD_BYTES: usize = 256;

/// What was asked counts for so long.
const PERIOD: Duration = Duration::from_secs(60);
/// Asks of one neighbour, and of all, within [`PERIOD`].
const MAX_ASKS_EACH: usize = 6;
const MAX_ASKS: usize = 30;

/// At which of these TCP ports, at the address where you see me, do you find me?
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// Which; only the first [`MAX_PORTS`] count.
    pub ports: Vec<u16>,
}

/// What the neighbour found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It has tried all of them.
    Tried {
        /// Where it sees the asker.
        seen: IpAddr,
        /// The ports at which the asker answers there.
        reached: Vec<u16>,
    },
    /// It has not tried: the asker is no neighbour, asks too often, or is seen at an address that is not dialled.
    Unable {},
}

/// Who asked of late.
#[derive(Debug, Default)]
pub struct Asks(VecDeque<(Instant, NodeId)>);

impl Asks {
    /// Whether one more of `asker` is answered now; it counts then.
    pub fn admit(&mut self, asker: NodeId, now: Instant) -> bool {
        while self.0.front().is_some_and(|(at, _)| *at + PERIOD <= now) {
            self.0.pop_front();
        }
        let his = self.0.iter().filter(|(_, who)| *who == asker).count();
        let admitted = his < MAX_ASKS_EACH && self.0.len() < MAX_ASKS;
        if admitted {
            self.0.push_back((now, asker));
        }
        admitted
    }
}

/// Whether an asker who is seen at `seen` is dialled by a node that listens at `own`.
pub fn may_dial(seen: IpAddr, own: &[IpAddr]) -> bool {
    if seen.is_loopback() {
        return own.iter().all(IpAddr::is_loopback);
    }
    !seen.is_unspecified() && !seen.is_multicast() && !own.contains(&seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_pinned() {
        let ask = Ask { ports: vec![4741, 443] };
        assert_eq!(serde_json::to_string(&ask).unwrap(), r#"{"ports":[4741,443]}"#);
        let tried = Answer::Tried { seen: [203, 0, 113, 7].into(), reached: vec![443] };
        for (answer, text) in
            [(tried, r#"{"tried":{"seen":"203.0.113.7","reached":[443]}}"#), (Answer::Unable {}, r#"{"unable":{}}"#)]
        {
            assert_eq!(serde_json::to_string(&answer).unwrap(), text);
            assert_eq!(serde_json::from_str::<Answer>(text).unwrap(), answer);
        }
        let longest = Answer::Tried { seen: [0xfeff; 8].into(), reached: vec![u16::MAX; MAX_PORTS] };
        assert!(serde_json::to_string(&longest).unwrap().len() <= MAX_WORD_BYTES);
        for bad in [r#"{"ports":[65536]}"#, r#"{"ports":["192.0.2.1:80"]}"#, r#"{"ports":[-1]}"#, "{}"] {
            assert!(serde_json::from_str::<Ask>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_asks_too_often() {
        let (mut asks, at) = (Asks::default(), |s: u64| Instant::from_micros(s * 1_000_000));
        let who = |n: usize| NodeId::from_bytes([u8::try_from(n).unwrap(); 32]);
        assert_eq!((0..10).filter(|_| asks.admit(who(1), at(1))).count(), MAX_ASKS_EACH);
        assert!(asks.admit(who(2), at(1)), "another one is not in his way");
        assert!(!asks.admit(who(1), at(60)) && asks.admit(who(1), at(61)));
        let admitted = (3..100).filter(|n| asks.admit(who(*n), at(61))).count();
        assert_eq!((admitted, asks.0.len()), (MAX_ASKS - 1, MAX_ASKS), "all of them together");
        assert!(asks.admit(who(1), at(121)));
    }

    #[test]
    fn nothing_on_this_machine_is_dialled_for_others() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        for (seen, own, may) in [
            ("203.0.113.7", vec!["192.168.1.4"], true),
            ("192.168.1.5", vec!["192.168.1.4"], true),
            ("192.168.1.4", vec!["192.168.1.4"], false),
            ("127.0.0.1", vec!["127.0.0.1"], true),
            ("127.0.0.1", vec!["127.0.0.1", "192.168.1.4"], false),
            ("::1", vec!["192.168.1.4"], false),
            ("0.0.0.0", vec![], false),
            ("224.0.0.1", vec![], false),
        ] {
            assert_eq!(may_dial(seen.parse().unwrap(), &ips(&own)), may, "{seen} by {own:?}");
        }
    }
}
