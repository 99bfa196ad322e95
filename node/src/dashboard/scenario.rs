//! Orders of the page to the testnet that this node is a part of: a line of JSON to its unix socket, and a line back as on the control socket.
//!
//! What orders there are is the testnet's business; here they are only carried. An ordinary node has no testnet, and its page no such menu.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::control::wire::{MAX_LINE_BYTES, Reply};
use crate::exit::{Code, Fault};

/// An order that many nodes have to be told about is carried out within this, or has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the testnet listens.
pub(super) struct Testnet(pub(super) PathBuf);

impl Testnet {
    /// What the testnet says to `order`.
    ///
    /// # Errors
    /// Its refusal; or that it does not answer.
    pub(super) async fn ask(&self, order: &Value) -> Result<Value, Fault> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(order)).await {
            Ok(Ok(reply)) => reply.into(),
            Ok(Err(error)) => Err(Fault::new(Code::NotRunning, format!("the testnet does not answer ({error})"))),
            Err(_) => Err(Fault::new(Code::Timeout, "the testnet does not answer in time")),
        }
    }

    async fn exchange(&self, order: &Value) -> io::Result<Reply> {
        let mut socket = BufReader::new(UnixStream::connect(&self.0).await?);
        socket.write_all(format!("{order}\n").as_bytes()).await?;
        let mut line = Vec::new();
        socket.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await?;
        Ok(serde_json::from_slice(&line)?)
    }
}
