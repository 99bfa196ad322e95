//! `testnet soak`: many movers move again and again under open connections. No application notices, every byte is right, and what the nodes hold
//! does not grow.
//!
//! Each mover has one TCP connection to the server behind the overlay, and both of its ends talk all the time. In a round every mover loses his
//! network for a second, one shortly after the other, and comes back at another address; after an even number of rounds all are where they began,
//! with the links that they began with. So a node at rest has as many descriptors open as it had after the first two rounds, or something leaks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use node::machine::raise_descriptors;

use crate::judged::conclude;
use crate::memory::pss_bytes;
use crate::movers::{MAX_MOVERS, Movers, Step, schedule};
use crate::process::NodeProcess;
use crate::progress::Progress;
use crate::usage::descriptors;
use crate::wait::{Result, Trouble, io, sleep_until, stop_wanted, until};

mod outcome;
mod talk;

use outcome::{Outcome, Sample};
use talk::Talk;

/// How long a mover is without a network.
const OUTAGE: Duration = Duration::from_secs(1);
/// From one mover's cut to the next one's.
const BETWEEN_CUTS: Duration = Duration::from_millis(200);
/// Both ends have new bytes within this time after a mover is back, or the connection does not go on.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// A mover's port leads to the server's application within this time.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// After so many rounds everything that is made once is there; it is even, as the number of all rounds.
const WARM_UP_ROUNDS: u64 = 2;
/// A node finds out that a link is dead within a few heartbeats. After this its descriptors are those at rest, but for one that is used for a moment.
const SETTLE: Duration = Duration::from_secs(10);
/// So the least that was seen in this time counts, ..
const REST_WATCH: Duration = Duration::from_secs(3);
/// .. in looks so far apart.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What has not come back to what it was by then has grown.
const REST_LIMIT: Duration = Duration::from_secs(60);
const SERVICE: &str = "talk";
/// The longest run: a day.
const MAX_SPAN_S: u64 = 86_400;
/// The most rounds.
const MAX_ROUNDS: u64 = 10_000;

/// The arguments of `testnet soak`.
#[derive(Args, Debug)]
pub struct SoakArgs {
    /// Begin new rounds for so long: seconds, or with s, m or h behind the number
    #[arg(long = "for", value_name = "DURATION", default_value = "3m", value_parser = span, conflicts_with = "rounds")]
    span: Duration,
    /// So many rounds instead, an even number, at least 4
    #[arg(long, value_name = "ROUNDS", value_parser = round_count)]
    rounds: Option<u64>,
    /// How many movers
    #[arg(long, default_value_t = 20, value_parser = mover_count)]
    movers: usize,
    /// Exit with 1, too, when a node's memory grew
    #[arg(long)]
    strict: bool,
    /// Print one JSON object on stdout and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

fn span(text: &str) -> std::result::Result<Duration, String> {
    let (number, unit_s) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) if text.ends_with('h') => (number, 3600),
        Some(number) => (number, 1),
        None => (text, 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    match seconds {
        Some(seconds) if (1..=MAX_SPAN_S).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("1 to {MAX_SPAN_S} s, such as 90, 5m or 2h")),
    }
}

fn round_count(text: &str) -> std::result::Result<u64, String> {
    match text.parse::<u64>() {
        Ok(rounds) if rounds.is_multiple_of(2) && (WARM_UP_ROUNDS + 2..=MAX_ROUNDS).contains(&rounds) => Ok(rounds),
        _ => Err(format!("an even number, {} to {MAX_ROUNDS}", WARM_UP_ROUNDS + 2)),
    }
}

fn mover_count(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(movers) if (1..=MAX_MOVERS).contains(&movers) => Ok(movers),
        _ => Err(format!("1 to {MAX_MOVERS}")),
    }
}

impl SoakArgs {
    /// Runs it; true when everything was exact and nothing leaked and, with `--strict`, no node's memory grew.
    ///
    /// # Errors
    /// When the overlay or the connections do not come about, the user wants an end, or the result cannot be written.
    pub fn run(&self, out: &Path) -> Result<bool> {
        raise_descriptors();
        let progress = Progress::of_steps();
        progress.say(&format!("starting an overlay with {} movers", self.movers));
        let movers = Movers::start(self.movers, &out.join("soak-logs"))?;
        let talks = connect(&movers)?;
        let mut soak = Soak { movers, talks, rounds: 0, moves: 0, samples: Vec::new() };
        let outcome = soak.carry_through(self, &progress)?;
        drop(soak);
        drop(progress);
        conclude(&outcome, self.json, self.strict)
    }
}

/// A connection of each mover's, through the overlay to an application beside the server.
fn connect(movers: &Movers) -> Result<Vec<Talk>> {
    let listener = movers.listen()?;
    listener.set_nonblocking(true).map_err(io("the server's application"))?;
    movers.expose(SERVICE, listener.local_addr().map_err(io("the server's application"))?)?;
    let mut talks = Vec::new();
    for (number, name) in movers.names().iter().enumerate() {
        let near = movers.connect(name, SERVICE)?;
        let (far, _) = until(&format!("{name}'s connection"), CONNECT_LIMIT, || Ok(listener.accept().ok()))?;
        far.set_nonblocking(false).map_err(io("the server's application"))?;
        talks.push(Talk::start(number, [near, far])?);
    }
    Ok(talks)
}

/// One run.
struct Soak {
    // Dropped in this order: the applications end before the nodes.
    talks: Vec<Talk>,
    movers: Movers,
    rounds: u64,
    moves: u64,
    samples: Vec<Sample>,
}

impl Soak {
    /// What is wrong with the connections or the nodes is in the outcome.
    fn carry_through(&mut self, wanted: &SoakArgs, progress: &Progress) -> Result<Outcome> {
        let start = Instant::now();
        self.hear_from_all([0, 0])?;
        let (ops_before, resumes_before) = (self.movers.public_key_ops()?, self.resumes()?);
        let mut outcome = Outcome { movers: self.movers.names().len(), ..Outcome::default() };
        let all = self.all_rounds(wanted, start, progress, &mut outcome);
        if stop_wanted() {
            return Err(Trouble::new("interrupted"));
        }
        outcome.verdict.failures.extend(all.err().map(|trouble| trouble.to_string()));
        progress.doing("waiting for what is under way");
        for talk in &self.talks {
            outcome.lost_bytes += talk.finish()?;
        }
        outcome.wrong_bytes = self.talks.iter().map(Talk::wrong).sum();
        outcome.app_resets = self.talks.iter().map(Talk::cut_off).sum();
        let heard: u64 = self.talks.iter().flat_map(Talk::heard).sum();
        outcome.bytes_exact = heard.saturating_sub(outcome.wrong_bytes);
        outcome.rounds = self.rounds;
        outcome.moves = self.moves;
        outcome.resumes = self.resumes()?.saturating_sub(resumes_before);
        outcome.public_key_ops_in_resumes = self.movers.public_key_ops()?.saturating_sub(ops_before);
        outcome.samples = std::mem::take(&mut self.samples);
        outcome.took_s = start.elapsed().as_secs_f64();
        Ok(outcome.judged())
    }

    fn all_rounds(
        &mut self,
        wanted: &SoakArgs,
        start: Instant,
        progress: &Progress,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let is_enough = |rounds: u64| match wanted.rounds {
            Some(wanted) => rounds >= wanted,
            None => start.elapsed() >= wanted.span && rounds > WARM_UP_ROUNDS,
        };
        while !is_enough(self.rounds) && self.rounds < MAX_ROUNDS {
            // There and back.
            self.round(progress)?;
            if self.rounds < WARM_UP_ROUNDS {
                // Links there come to carry so much that they get their third lane.
                sleep_until(Instant::now() + SETTLE)?;
            }
            self.round(progress)?;
            if self.rounds == WARM_UP_ROUNDS {
                progress.doing("looking at the nodes at rest");
                outcome.take_warm_up(self.at_rest(|_, _| true)?);
            }
        }
        progress.doing("looking at the nodes at rest");
        let before = outcome.descriptors_by_node();
        outcome.take_end(&self.at_rest(|node, now| before.get(node).is_none_or(|before| now <= *before))?);
        Ok(())
    }

    /// Every mover moves once, and every connection goes on.
    fn round(&mut self, progress: &Progress) -> Result<()> {
        self.rounds += 1;
        progress.doing(&format!("round {}, {} moves", self.rounds, self.moves));
        let start = Instant::now();
        let mut held = vec![[0; 2]; self.talks.len()];
        for (at, index, step) in schedule(self.talks.len(), BETWEEN_CUTS, OUTAGE) {
            sleep_until(start + at)?;
            self.movers.must_run()?;
            let (Some(name), Some(talk)) = (self.movers.names().get(index).cloned(), self.talks.get(index)) else {
                continue;
            };
            match step {
                Step::Cut => self.movers.cut(&name)?,
                Step::Back => {
                    held.get_mut(index).into_iter().for_each(|held| *held = talk.heard());
                    self.movers.bring_back(&name)?;
                    self.moves += 1;
                }
            }
        }
        for (index, held) in held.into_iter().enumerate() {
            self.hear_from(index, held)?;
        }
        let mut sample = Sample { round: self.rounds, descriptors: 0, pss_bytes: 0 };
        for node in self.movers.cluster().nodes() {
            sample.descriptors += self.open_descriptors(node)?;
            sample.pss_bytes += pss_bytes(node.pid())?;
        }
        progress.say(&format!(
            "round {}: {} moves, {} descriptors, {} MiB in all nodes",
            self.rounds,
            self.moves,
            sample.descriptors,
            sample.pss_bytes >> 20
        ));
        self.samples.push(sample);
        Ok(())
    }

    fn hear_from_all(&self, held: [u64; 2]) -> Result<()> {
        (0..self.talks.len()).try_for_each(|index| self.hear_from(index, held))
    }

    /// Waits until both ends of a connection have heard more than this.
    fn hear_from(&self, index: usize, held: [u64; 2]) -> Result<()> {
        let (Some(name), Some(talk)) = (self.movers.names().get(index), self.talks.get(index)) else { return Ok(()) };
        let heard = until(&format!("both ends of {name}'s connection to hear something new"), RESUME_LIMIT, || {
            if talk.cut_off() > 0 {
                return Err(Trouble::new(format!("{name}'s connection has broken")));
            }
            Ok(talk.heard().iter().zip(held).all(|(now, then)| *now > then).then_some(()))
        });
        heard.map_err(|trouble| match self.movers.cluster().node(name) {
            Ok(node) => trouble.see(&node.log),
            Err(_) => trouble,
        })
    }

    /// The least descriptors of each node that were seen, and its memory, once `good` says yes to all or [`REST_LIMIT`] is over.
    fn at_rest(&self, good: impl Fn(&str, usize) -> bool) -> Result<BTreeMap<String, (usize, u64)>> {
        let settled = Instant::now() + SETTLE;
        sleep_until(settled)?;
        let mut least = BTreeMap::new();
        loop {
            for node in self.movers.cluster().nodes() {
                let open = self.open_descriptors(node)?;
                let seen = least.entry(node.name.clone()).or_insert(open);
                *seen = open.min(*seen);
            }
            let waited = settled.elapsed();
            if waited >= REST_LIMIT || (waited >= REST_WATCH && least.iter().all(|(name, open)| good(name, *open))) {
                break;
            }
            sleep_until(Instant::now() + LOOK_EVERY)?;
        }
        let nodes = self.movers.cluster().nodes().iter();
        nodes
            .map(|node| Ok((node.name.clone(), (least.remove(&node.name).unwrap_or_default(), pss_bytes(node.pid())?))))
            .collect()
    }

    /// Those of a node, without the dead sockets of links that were cut off. A mover keeps these open, 256 at most, since flight mode must not let its neighbours
    /// hear of their end (`node::links::gate`); at rest the neighbours have given up on them.
    fn open_descriptors(&self, node: &NodeProcess) -> Result<usize> {
        let found = descriptors(node.pid())?;
        let dead = if self.movers.names().contains(&node.name) { found.half_closed } else { 0 };
        Ok(found.open.saturating_sub(dead))
    }

    /// Sessions that the movers resumed so far.
    fn resumes(&self) -> Result<u64> {
        let names = self.movers.names().iter();
        names.map(|name| Ok(self.movers.cluster().node(name)?.status()?.counters.resumes)).sum()
    }
}
