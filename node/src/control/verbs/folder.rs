//! Whether the node's folder is still its own.

use std::sync::Arc;
use std::time::Duration;

use super::{Desk, on_disk};
use crate::exit::Code;
use crate::folder::check_ours;

/// How often that is looked at.
const PERIOD: Duration = Duration::from_secs(10);

impl Desk {
    /// Says when the folder is gone, or another one is in its place, and `status` with it: what the node stores from then on no later start finds. Until the
    /// node ends.
    pub async fn watch_folder(self: Arc<Self>) {
        let mut told = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let data_dir = self.data_dir.clone();
            let found = on_disk(move || check_ours(&data_dir)).await;
            let fault = found.err().filter(|fault| fault.code == Code::State as u8).map(|fault| fault.message);
            if fault == told {
                continue;
            }
            match &fault {
                Some(line) => tracing::error!("{line}"),
                None => tracing::warn!("the data folder is back"),
            }
            told.clone_from(&fault);
            if self.ask(|stack, _| stack.warn_of_folder(fault)).await.is_err() {
                return;
            }
        }
    }
}
