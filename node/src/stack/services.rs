//! What this node offers, and to whom. Nobody but itself by default.

use std::collections::BTreeMap;

use overlay::id::NodeId;

use super::event::Who;

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

    /// Where `peer`'s connections to `service` go; none when it is not offered, or not to this peer: the two look the same from outside.
    pub fn forward_for(&self, service: &str, peer: NodeId) -> Option<&str> {
        let exposure = self.0.get(service)?;
        let allowed = exposure.allow.iter().any(|who| match who {
            Who::Anyone => true,
            Who::Node(id) => *id == peer,
        });
        allowed.then_some(exposure.forward.as_str())
    }

    /// The names of the services.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
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
        assert_eq!(services.forward_for("ssh", friend), Some("127.0.0.1:22"));
        assert_eq!(services.forward_for("ssh", stranger), None);
        assert_eq!(services.forward_for("web", stranger), Some("127.0.0.1:80"));
        assert_eq!(services.forward_for("mine", friend), None);
        services.unexpose("web");
        assert_eq!(services.forward_for("web", friend), None);
    }
}
