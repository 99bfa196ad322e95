//! Thousands of peers of one node in one process: each has an identity and sessions of its own, and groups of them share a neighbour's link.
//!
//! The node that is measured is an ordinary one and cannot tell: packets from many sources come over a few real links, as they do from any
//! neighbour that many peers are behind. Such a neighbour, a *front*, is an overlay node with real links, and the peers behind it live at vertices
//! below its own, as its children's children would. What arrives for one of them is handed to that peer's [`muses::Sessions`]; what these send leaves with
//! the peer's id as its source.
//!
//! The process says `ready` when its fronts have joined and know the node's certificate. After a line on stdin each peer opens a
//! connection to a service that the node does not have, which leaves a session without streams. Then it says how that went, and stays.

use std::io::{BufRead as _, stdin};
use std::process::ExitCode;
use std::time::Instant;

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use overlay::rng::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::command::print_line;
use crate::process::die_with_parent;

mod front;

use front::{Front, Note};

/// The hidden subcommand under which our binary is many peers.
pub const PEERS_PROCESS: &str = "bench-peers";

/// Fronts: a node that limits what one neighbour may ask of it is asked by several.
const FRONTS: usize = 8;

/// What the process says, one JSON object a line.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// All fronts have joined.
    Ready,
    /// Every peer has a session.
    Established {
        /// From the first connection opened to the last session established, in seconds.
        took_s: f64,
        /// Handshakes that failed and were begun anew.
        failed: u64,
    },
}

/// Is `count` peers of `target`, which listens at `at`.
pub fn main(target: NodeId, at: &Multiaddr, count: usize) -> ExitCode {
    die_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(target, at, count))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{PEERS_PROCESS}: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(target: NodeId, at: &Multiaddr, count: usize) -> Result<(), String> {
    // The same peers each time; the node that they meet is another one.
    let mut rng = Rng::from_seed([7; 32]);
    let (notes_in, mut notes) = mpsc::unbounded_channel();
    let (go_in, go) = watch::channel(false);
    let fronts = FRONTS.min(count);
    for number in 0..fronts {
        let peers = count / fronts + usize::from(number < count % fronts);
        let front = Front::start(target, at.clone(), peers, &mut rng)?;
        tokio::spawn(front.run(go.clone(), notes_in.clone()));
    }
    let (mut ready, mut established, mut failed) = (0, 0, 0);
    let mut began = Instant::now();
    while let Some(note) = notes.recv().await {
        match note {
            Note::Ready => ready += 1,
            Note::Established { failed: more } => (established, failed) = (established + 1, failed + more),
        }
        if matches!(note, Note::Ready) && ready == fronts {
            say(Word::Ready);
            let asked = tokio::task::spawn_blocking(|| stdin().lock().read_line(&mut String::new()));
            asked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            began = Instant::now();
            go_in.send_replace(true);
        }
        if matches!(note, Note::Established { .. }) && established == fronts {
            say(Word::Established { took_s: began.elapsed().as_secs_f64(), failed });
        }
    }
    Err("all fronts have ended".into())
}

fn say(word: Word) {
    print_line(&serde_json::to_string(&word).unwrap_or_default());
}
