//! What a measurement came to, and whether that is good enough.

use serde::Serialize;

use crate::command::print_line;
use crate::wait::{Result, Trouble};

/// What a measurement came to, for programs (its JSON) and for people.
pub trait Judged: Serialize {
    /// Whether all of it was exact.
    fn is_ok(&self) -> bool;
    /// What was not, in words.
    fn failures(&self) -> &[String];
    /// What did not reach its bar, in words.
    fn missed(&self) -> &[String];
    /// The table for people.
    fn table(&self) -> String;
}

/// Prints it; whether it is good enough: `strict` makes what was missed count.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn conclude(outcome: &impl Judged, json: bool, strict: bool) -> Result<bool> {
    outcome.failures().iter().for_each(|failure| eprintln!("testnet: {failure}"));
    outcome.missed().iter().for_each(|missed| eprintln!("not reached: {missed}"));
    let text = if json {
        serde_json::to_string(outcome).map_err(|error| Trouble::new(error.to_string()))?
    } else {
        outcome.table()
    };
    print_line(&text);
    Ok(outcome.is_ok() && (outcome.missed().is_empty() || !strict))
}
