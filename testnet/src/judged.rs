//! What a measurement came to, and whether that is good enough.

use serde::Serialize;

use crate::command::print_line;
use crate::wait::{Result, Trouble};

/// How good it is.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Verdict {
    /// Whether all of it was exact.
    pub ok: bool,
    /// What was not, in words.
    pub failures: Vec<String>,
    /// What did not reach its bar, in words.
    pub missed: Vec<String>,
}

/// What a measurement came to, for programs (its JSON) and for people.
pub trait Judged: Serialize {
    /// How good it is.
    fn verdict(&self) -> &Verdict;
    /// The table for people.
    fn table(&self) -> String;
}

/// Prints it; whether it is good enough: `strict` makes what was missed count.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn conclude(outcome: &impl Judged, json: bool, strict: bool) -> Result<bool> {
    let Verdict { ok, failures, missed } = outcome.verdict();
    failures.iter().for_each(|failure| eprintln!("testnet: {failure}"));
    missed.iter().for_each(|missed| eprintln!("not reached: {missed}"));
    let text = if json {
        serde_json::to_string(outcome).map_err(|error| Trouble::new(error.to_string()))?
    } else {
        outcome.table()
    };
    print_line(&text);
    Ok(*ok && (missed.is_empty() || !strict))
}
