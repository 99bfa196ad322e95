//! What a peer may use here, told to whoever asks: `muses services PEER`.
//!
//! Whoever opens the service [`SERVICE`] hears one JSON object, an [`Answer`], with what he himself may use and nothing else: not what others may, and of
//! nothing where it is. A stranger hears what is for `anyone`. Who may use nothing is told that nothing answers. A program that has the library
//! and no command answers nobody.

use serde::{Deserialize, Serialize};

use super::service::{LISTEN, MAX_SERVICE_NAME_BYTES, ServiceName};
use crate::driver::Conn;

/// The service at which one can ask. No person can offer a service of this name.
pub const SERVICE: &str = "~services";
/// Most rows of an answer; more are left out.
const MAX_ROWS: usize = 1024;
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = MAX_ROWS * (MAX_SERVICE_NAME_BYTES + 64);

/// What the asker may use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// By name.
    pub services: Vec<Row>,
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub service: ServiceName,
    /// Whether it is a place to listen, for `muses reverse`, and not one to connect to.
    #[serde(default)]
    pub listen: bool,
}

impl Answer {
    /// The answer about these names and forwards.
    pub fn of<'a>(offered: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let row = |(name, forward): (&str, &str)| {
            Some(Row { service: name.parse().ok()?, listen: forward.starts_with(LISTEN) })
        };
        // The node's own services have no name that parses.
        Self { services: offered.filter_map(row).take(MAX_ROWS).collect() }
    }

    /// The asker's side; none when something else was said.
    pub async fn read(conn: &Conn) -> Option<Self> {
        conn.finish();
        serde_json::from_slice(&conn.read_to_end(MAX_ANSWER_BYTES).await?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_pinned() {
        let offered = [("door", "listen:127.0.0.1:0"), ("web", "127.0.0.1:80"), (SERVICE, ""), ("~invite", "")];
        let answer = Answer::of(offered.into_iter());
        let text = r#"{"services":[{"service":"door","listen":true},{"service":"web","listen":false}]}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        let later = r#"{"services":[{"service":"door","listen":true},{"service":"web","about":"x"}],"more":1}"#;
        assert_eq!(serde_json::from_str::<Answer>(later).unwrap(), answer, "a later version may say more");
        for bad in ["{}", "[]", r#"{"services":[{"service":"a/b"}]}"#, r#"{"services":[{"service":"\u001b[31m"}]}"#] {
            assert!(serde_json::from_str::<Answer>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_answer_can_be_read() {
        let names: Vec<String> = (0..=MAX_ROWS).map(|n| format!("{n:0>64}")).collect();
        let answer = Answer::of(names.iter().map(|name| (name.as_str(), "listen:h:1")));
        assert_eq!(answer.services.len(), MAX_ROWS);
        assert!(serde_json::to_vec(&answer).unwrap().len() <= MAX_ANSWER_BYTES);
    }
}
