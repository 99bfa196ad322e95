//! Thousands of peers of one node in one process: each has an identity and sessions of its own, and groups of them share a neighbour's link.
//!
//! The node that is measured is an ordinary one and cannot tell: packets from many sources come over a few real links, as they do from any
//! neighbour that many peers are behind. Such a neighbour, a *front*, is an overlay node with real links, and the peers behind it live at vertices
//! below its own, as its children's children would. What arrives for one of them is handed to that peer's [`muses::Sessions`]; what these send leaves with
//! the peer's id as its source.
//!
//! The process says `ready` when its fronts have joined and know the node's certificate. After a line on stdin each peer opens a
//! connection to a service that the node does not have, which leaves a session without streams. Then it says how that went, and stays. With a
//! batch, each line lets so many more peers do so, one after the other, and it says how long each took.

use std::future::Future;
use std::io::{BufRead as _, stdin};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use overlay::rng::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::command::print_line;
use crate::process::die_with_parent;

pub mod flood;
mod front;
mod neighbour;

use front::{Front, Note, Pace};

/// The hidden subcommand under which our binary is many peers.
pub const PEERS_PROCESS: &str = "bench-peers";

/// Fronts: a node that limits what one neighbour may ask of it is asked by several.
const FRONTS: usize = 8;
/// Many at a time: 48 handshakes are under way in all, fewer than a node lets wait for their last message, so that none is given up for another.
const MANY: Pace = Pace { in_flight: 6, every: Duration::ZERO };
/// One after the other, and no more in a second than a node takes from one neighbour without asking for a cookie.
const ONE_BY_ONE: Pace = Pace { in_flight: 1, every: Duration::from_millis(20) };

/// What the process says, one JSON object a line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// All fronts have joined.
    Ready,
    /// Every peer that may have one has a session.
    Established {
        /// From the first connection opened to the last session established, in seconds.
        took_s: f64,
        /// Handshakes that failed and were begun anew.
        failed: u64,
        /// How long each took, in seconds.
        each_s: Vec<f64>,
    },
}

/// Is `count` peers of `target`, which listens at `at`.
pub fn main(target: NodeId, at: &Multiaddr, count: usize, batch: Option<usize>) -> ExitCode {
    run_alone(PEERS_PROCESS, run(target, at, count, batch))
}

async fn run(target: NodeId, at: &Multiaddr, count: usize, batch: Option<usize>) -> Result<(), String> {
    // The same peers each time; the node that they meet is another one.
    let mut rng = Rng::from_seed([7; 32]);
    let (notes_in, mut notes) = mpsc::unbounded_channel();
    let (allowed_in, allowed) = watch::channel(0);
    let (fronts, pace) = if batch.is_some() { (1, ONE_BY_ONE) } else { (FRONTS.min(count), MANY) };
    for number in 0..fronts {
        let peers = count / fronts + usize::from(number < count % fronts);
        let front = Front::start(target, at.clone(), peers, pace, &mut rng, notes_in.clone())?;
        tokio::spawn(front.run(allowed.clone()));
    }
    drop(notes_in);
    let gone = || "all fronts have ended".to_owned();
    for _ in 0..fronts {
        // Before anything is allowed they have nothing else to say.
        notes.recv().await.ok_or_else(gone)?;
    }
    say(&Word::Ready);
    let mut wishes = lines();
    let mut most = 0;
    while most < count {
        wishes.recv().await.ok_or("nobody says when to begin")?;
        let more = batch.unwrap_or(count).clamp(1, count - most);
        let (began, mut each_s, mut failed) = (Instant::now(), Vec::new(), 0);
        most += more;
        allowed_in.send_replace(most);
        while each_s.len() < more {
            match notes.recv().await.ok_or_else(gone)? {
                Note::Established(took) => each_s.push(took.as_secs_f64()),
                Note::Failed => failed += 1,
                Note::Ready => {}
            }
        }
        say(&Word::Established { took_s: began.elapsed().as_secs_f64(), failed, each_s });
    }
    while notes.recv().await.is_some() {}
    Err(gone())
}

/// Runs this process: it ends with the harness, or says why it does before.
fn run_alone(name: &str, work: impl Future<Output = Result<(), String>>) -> ExitCode {
    die_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Something for each line on stdin.
fn lines() -> mpsc::UnboundedReceiver<()> {
    let (lines_in, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        stdin().lock().lines().map_while(Result::ok).try_for_each(|_| lines_in.send(()).map_err(drop))
    });
    lines
}

fn say(word: &impl Serialize) {
    print_line(&serde_json::to_string(word).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peers_say_is_one_line() {
        for word in [Word::Ready, Word::Established { took_s: 1.5, failed: 2, each_s: vec![0.25, 0.5] }] {
            let line = serde_json::to_string(&word).unwrap();
            assert!(!line.contains('\n') && serde_json::from_str::<Word>(&line).unwrap() == word, "{line}");
        }
    }
}
