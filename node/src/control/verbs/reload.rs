//! The configuration read again while the node runs.

use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::Value;

use super::{Desk, on_disk};
use crate::config::Config;
use crate::exit::Fault;

impl Desk {
    /// Takes over what a running node can of `after`, which differs from `before`: the keys that are in force now, and those that wait for the
    /// next start. Connections and sessions that are there go on, whatever the new lists and limits say; `muses cut` ends them.
    ///
    /// # Errors
    /// When the new configuration cannot be used, or the node has ended; then nothing has changed.
    pub async fn reload(&self, before: &Config, after: &Config) -> Result<(Vec<String>, Vec<String>), Fault> {
        let (taken_over, waiting) = before.differences(after);
        let (exposures, config) = (Arc::clone(&self.exposures), after.clone());
        let mut services = on_disk(move || exposures.reconfigure(&config)).await?;
        services.extend(self.exposures.all().into_keys());
        let stack_config = after.to_stack();
        self.ask(move |stack, now| stack.reconfigure(stack_config, now)).await?;
        self.offer(services).await?;
        self.set_in_force(&taken_over, &after.to_json());
        Ok((taken_over, waiting))
    }

    pub(super) fn config_in_force(&self) -> MutexGuard<'_, Value> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `muses config show` prints has the new values of these keys, and the old ones of all others.
    fn set_in_force(&self, keys: &[String], after: &Value) {
        let mut in_force = self.config_in_force();
        for key in keys {
            let (table, inner) =
                key.split_once('.').map_or((key.as_str(), None), |(table, inner)| (table, Some(inner)));
            let value = inner.map_or_else(|| after.get(table), |inner| after.get(table)?.get(inner)).cloned();
            let Some(mut fields) = in_force.as_object_mut() else { return };
            if inner.is_some() {
                let Some(nested) =
                    fields.entry(table).or_insert_with(|| Value::Object(serde_json::Map::new())).as_object_mut()
                else {
                    continue;
                };
                fields = nested;
            }
            let key = inner.unwrap_or(table);
            match value {
                Some(value) => _ = fields.insert(key.to_owned(), value),
                None => _ = fields.remove(key),
            }
        }
    }
}
