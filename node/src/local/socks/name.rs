//! Host names under `.muses`: whom and what a program means that knows only hosts and ports.
//!
//! | host | what |
//! | --- | --- |
//! | `PEER.muses` | the service of PEER that the port chooses; PEER itself decides (`stack::services`) |
//! | `SERVICE.PEER.muses` | that service; the port means nothing |
//!
//! PEER is a petname, a claimed name or a node id. Browsers write host names in lower case, which a base58 id does not survive; they
//! reach a node without a name by its id in base36, `k51...`, the form that IPFS gateways use for the same reason.

use multibase::Base;
use overlay::id::NodeId;

use super::protocol::Reply;
use crate::local::service::ServiceName;

/// What names end in; a proxy serves no others.
pub const SUFFIX: &str = ".muses";
/// CIDv1 of codec libp2p-key: what comes before the binary peer id in this form (libp2p specification, peer-ids).
const CID_PREFIX: [u8; 2] = [0x01, 0x72];

/// Whose service a host and port mean, and which: a name, or `:PORT`.
///
/// # Errors
/// The reply for a host that is none under `.muses`, or has no meaning there.
pub fn target(host: &str, port: u16) -> Result<(String, String), Reply> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some((inner, suffix)) = host.len().checked_sub(SUFFIX.len()).and_then(|at| host.split_at_checked(at)) else {
        return Err(Reply::NotAllowed);
    };
    if !suffix.eq_ignore_ascii_case(SUFFIX) {
        return Err(Reply::NotAllowed);
    }
    let (service, peer) = inner.rsplit_once('.').map_or((None, inner), |(service, peer)| (Some(service), peer));
    let service = match service.map(str::parse::<ServiceName>) {
        None => format!(":{port}"),
        Some(Ok(service)) => service.to_string(),
        Some(Err(_)) => return Err(Reply::HostUnreachable),
    };
    Ok((peer_of(peer), service))
}

/// The host name under which any program reaches `node`.
pub fn host_of(node: &NodeId) -> String {
    let cid = [CID_PREFIX.as_slice(), &node.to_peer_id_bytes()].concat();
    multibase::encode(Base::Base36Lower, cid) + SUFFIX
}

/// The petname, name or id that one label of a host name is.
fn peer_of(label: &str) -> String {
    if label.parse::<NodeId>().is_ok() {
        return label.to_owned();
    }
    // Names have lower case only; host names do not mind case.
    let label = label.to_ascii_lowercase();
    let id = match multibase::decode(&label) {
        Ok((Base::Base36Lower, cid)) => cid.strip_prefix(&CID_PREFIX).and_then(NodeId::from_peer_id_bytes),
        _ => None,
    };
    id.map_or(label, |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(host: &str) -> Result<(String, String), Reply> {
        target(host, 80)
    }

    #[test]
    fn a_host_is_a_peer_and_perhaps_a_service() {
        let pair = |peer: &str, service: &str| Ok((peer.to_owned(), service.to_owned()));
        assert_eq!(means("alice.muses"), pair("alice", ":80"));
        assert_eq!(means("Alice.MUSES."), pair("alice", ":80"));
        assert_eq!(means("web.alice.muses"), pair("alice", "web"));
        assert_eq!(means("a.b_c.alice.muses"), pair("alice", "a.b_c"));
        for elsewhere in ["example.com", "muses", "alice.muses.org", "", ".", "xmuses", "аlice"] {
            assert_eq!(means(elsewhere), Err(Reply::NotAllowed), "{elsewhere}");
        }
        for nobody in ["..muses", ".alice.muses", "a b.alice.muses"] {
            assert_eq!(means(nobody), Err(Reply::HostUnreachable), "{nobody}");
        }
    }

    #[test]
    fn an_id_is_understood_in_both_forms() {
        let id: NodeId = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".parse().unwrap();
        assert_eq!(means(&format!("{id}.muses")).unwrap().0, id.to_string());
        let host = host_of(&id);
        assert!(host.starts_with("k51qzi5uqu5d") && host == host.to_lowercase(), "{host}");
        assert!(host.split('.').all(|label| label.len() <= 63), "{host}");
        assert_eq!(means(&host).unwrap().0, id.to_string());
        assert_eq!(means(&format!("web.{}", host.to_uppercase())).unwrap().0, id.to_string());
    }
}
