//! Connections that are to end.

use serde_json::{Value, json};

use super::Desk;
use crate::exit::{Code, Fault};
use crate::local::service::ServiceName;
use crate::stack::Who;

impl Desk {
    /// Ends the session with a peer, or the connections to one service alone.
    pub(super) async fn cut(&self, peer: &str, service: Option<ServiceName>) -> Result<Value, Fault> {
        let typed = peer.to_owned();
        let known = self.ask(move |stack, _| stack.known(&typed)).await?;
        let node = match known {
            Some(node) => node,
            None => match self.who(peer).await? {
                Who::Node(node) => node,
                Who::Anyone => return Err(Fault::new(Code::Usage, "`anyone` is no peer; `muses sessions` lists them")),
            },
        };
        let (missing, ended) = match service {
            None => ("session".to_owned(), self.ask(move |stack, now| stack.cut(node, now)).await?),
            Some(service) => {
                let missing = format!("connection to {service}");
                let ended = self.ask(move |stack, now| stack.cut_service(node, service.as_str(), now)).await?;
                (missing, Some(ended).filter(|ended| *ended > 0))
            }
        };
        let streams = ended
            .ok_or_else(|| Fault::new(Code::Usage, format!("no {missing} with {peer}; `muses sessions` lists them")))?;
        Ok(json!({ "node": node.to_string(), "streams": streams }))
    }
}
