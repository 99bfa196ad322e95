//! What this node offers, and to whom. Nobody but itself by default.
//!
//! A peer asks for a service by its name, or by a port: `:PORT`, which is no name. A program that only knows hosts and ports (a
//! browser behind SOCKS) asks so. Only this side knows what it offers, so this side chooses, and only among what the peer may use:
//!
//! 1. the service that is named like the port, as in `muses expose 8080 127.0.0.1:80`;
//! 2. the only service that listens at this port here;
//! 3. one with the port's usual name: `web` or `http` for 80, `https` for 443, `ssh` for 22;
//! 4. for port 80, which is what a browser means when nobody named a port, the only service there is.

use std::collections::BTreeMap;

use muses::frame::INTERNAL;
use overlay::id::NodeId;

use super::event::Who;
use crate::local::service::LISTEN;

/// One offered service.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Exposure {
    forward: String,
    allow: Vec<Who>,
}

/// The offered services by name.
#[derive(Debug, Default)]
pub struct Services(BTreeMap<String, Exposure>);

impl Services {
    /// Offers `service`, replacing an earlier offer of that name.
    pub fn expose(&mut self, service: String, forward: String, allow: Vec<Who>) {
        self.0.insert(service, Exposure { forward, allow });
    }

    /// Takes an offer back.
    pub fn unexpose(&mut self, service: &str) {
        self.0.remove(service);
    }

    /// The name of the service that `peer` gets for `asked`, a name or `:PORT`, and where its connections go; none when it is not
    /// offered, or not to this peer: the two look the same from outside.
    pub fn choose(&self, asked: &str, peer: NodeId) -> Option<(&str, &str)> {
        let Some(port) = asked.strip_prefix(':') else { return self.offered(peer).find(|(name, _)| *name == asked) };
        self.by_port(port, peer)
    }

    fn by_port(&self, port: &str, peer: NodeId) -> Option<(&str, &str)> {
        // One spelling for each port, so that "0080" is no way around anything.
        let port = port.parse::<u16>().ok().filter(|number| number.to_string() == port)?;
        let offered =
            || self.offered(peer).filter(|(name, forward)| !name.starts_with(INTERNAL) && !forward.starts_with(LISTEN));
        let named = |name: &str| offered().find(|(offered, _)| *offered == name);
        named(&port.to_string())
            .or_else(|| only(offered().filter(|(_, forward)| port_of(forward) == Some(port))))
            .or_else(|| usual_names(port).iter().find_map(|name| named(name)))
            .or_else(|| only(offered()).filter(|_| port == HTTP_PORT))
    }

    /// What `peer` may use: names and forwards.
    pub fn offered(&self, peer: NodeId) -> impl Iterator<Item = (&str, &str)> {
        let allowed = move |exposure: &Exposure| {
            exposure.allow.iter().any(|who| match who {
                Who::Anyone => true,
                Who::Node(id) => *id == peer,
            })
        };
        let mine = self.0.iter().filter(move |(_, exposure)| allowed(exposure));
        mine.map(|(name, exposure)| (name.as_str(), exposure.forward.as_str()))
    }

    /// The names of the services, without those that are the node's own business.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().filter(|name| !name.starts_with(INTERNAL)).cloned().collect()
    }
}

/// What a URL means that names no port.
const HTTP_PORT: u16 = 80;

/// The names that people give to the service of a well-known port.
fn usual_names(port: u16) -> &'static [&'static str] {
    match port {
        22 => &["ssh"],
        HTTP_PORT => &["web", "http"],
        443 => &["https"],
        _ => &[],
    }
}

fn port_of(forward: &str) -> Option<u16> {
    forward.rsplit_once(':')?.1.parse().ok()
}

fn only<T>(mut among: impl Iterator<Item = T>) -> Option<T> {
    let first = among.next()?;
    among.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_refused_by_default() {
        let (friend, stranger) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let mut services = Services::default();
        services.expose("ssh".into(), "127.0.0.1:22".into(), vec![Who::Node(friend)]);
        services.expose("web".into(), "127.0.0.1:80".into(), vec![Who::Anyone]);
        services.expose("mine".into(), "127.0.0.1:1".into(), vec![]);
        assert_eq!(services.choose("ssh", friend), Some(("ssh", "127.0.0.1:22")));
        assert_eq!(services.choose("ssh", stranger), None);
        assert_eq!(services.choose("web", stranger), Some(("web", "127.0.0.1:80")));
        assert_eq!(services.choose("mine", friend), None);
        services.unexpose("web");
        assert_eq!(services.choose("web", friend), None);
    }

    #[test]
    fn a_port_means_what_people_expect_of_it() {
        let (friend, stranger) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let mut services = Services::default();
        let expose = |services: &mut Services, name: &str, forward: &str| {
            services.expose(name.into(), forward.into(), vec![Who::Node(friend)]);
        };
        expose(&mut services, "blog", "127.0.0.1:8000");
        expose(&mut services, "~own", "");
        expose(&mut services, "door", "listen:127.0.0.1:8000");
        let choose = |services: &Services, asked| services.choose(asked, friend).map(|(name, _)| name.to_owned());
        assert_eq!(choose(&services, ":80").as_deref(), Some("blog"), "the only one");
        assert_eq!(choose(&services, ":8000").as_deref(), Some("blog"), "a place to listen serves nothing");
        assert_eq!(choose(&services, ":443"), None, "but only for the port that nobody has to name");
        expose(&mut services, "ssh", "127.0.0.1:2222");
        expose(&mut services, "wiki", "[::1]:8001");
        assert_eq!(choose(&services, ":80"), None, "which of three");
        assert_eq!(choose(&services, ":8001").as_deref(), Some("wiki"), "where it listens");
        assert_eq!(choose(&services, ":22").as_deref(), Some("ssh"), "its usual name");
        expose(&mut services, "other", "10.0.0.1:8001");
        expose(&mut services, "http", "127.0.0.1:1");
        expose(&mut services, "8000", "127.0.0.1:9");
        assert_eq!(choose(&services, ":8001"), None, "two listen there");
        assert_eq!(choose(&services, ":80").as_deref(), Some("http"));
        assert_eq!(choose(&services, ":8000").as_deref(), Some("8000"), "its own name comes first");
        for asked in [":", ":080", ":+80", ":65616", ":x", ""] {
            assert_eq!(choose(&services, asked), None, "{asked}");
        }
        assert_eq!(services.choose(":80", stranger), None);
        assert_eq!(services.choose("~own", friend), Some(("~own", "")));
        assert!(services.names().iter().all(|name| !name.starts_with('~')));
    }
}
