//! `testnet bench`: what MUSeS over CLOAK costs beside a chain of plain TCP relays, measured on real processes.
//!
//! Every part starts nodes of its own, measures, and ends them. What could be faster or slower because of other work on the machine is done
//! in turns with the baseline, and compared turn by turn. `figures` is the result; docs/bench.md says how each figure comes about.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use node::machine::raise_descriptors;

use crate::judged::conclude;
use crate::progress::Progress;
use crate::wait::{Result, Trouble, stop_wanted};

mod bars;
mod figures;
mod flood;
mod helper;
mod latency;
mod mobisocket;
mod pair;
pub mod peers;
pub mod relay;
mod resume;
mod route;
mod seal;
pub(crate) mod service;
mod sessions;
mod spread;
mod streams;
mod throughput;

use figures::Figures;
use resume::Outages;
use route::Routes;
use sessions::Sessions;
use throughput::Throughput;

/// The chains that are measured, by the number of links in them.
const HOPS: [usize; 3] = [1, 3, 5];

/// The arguments of `testnet bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// A slice of everything but the flood, in less than 50 s
    #[arg(long)]
    quick: bool,
    /// Only this part, or the part that gives this figure; may be repeated
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Part>,
    /// Exit with 1, too, when a figure misses what it should reach
    #[arg(long)]
    strict: bool,
    /// Print one JSON object on stdout and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be measured on its own. The aliases are the names of the figures.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Downloads through 1, 3 and 5 links, and CPU time
    #[value(aliases = ["throughput_ratio_1hop", "throughput_ratio_3hop", "throughput_ratio_5hop", "baseline_gbit_s", "cpu_s_per_gib"])]
    Throughput,
    /// Round trips of small messages
    #[value(alias = "rtt_over_baseline_us")]
    Rtt,
    /// Time until a new connection has carried a byte there and back
    #[value(alias = "stream_open_us")]
    Open,
    /// How fast one node sets up sessions
    #[value(alias = "handshakes_per_s")]
    Handshakes,
    /// Memory and CPU time of a node that has sessions and nothing to do
    #[value(aliases = ["bytes_per_idle_session", "idle_sessions_cpu_share"])]
    IdleSessions,
    /// Memory of nodes that have many open connections in one session
    #[value(alias = "bytes_per_idle_stream")]
    IdleStreams,
    /// How long handshakes take in a flood of forged Hellos
    #[value(alias = "hello_flood")]
    Flood,
    /// Time until data flows again after an outage
    #[value(alias = "resume_by_outage_s")]
    Resume,
    /// The same over one hop with a round trip of 40 ms, on real interfaces, as root
    #[value(alias = "resume_over_40_ms_s")]
    Line,
    /// The same for streams of the library, with and without `reset_timers`, and when both ends move
    #[value(alias = "mobisocket_resume_s")]
    Mobisocket,
}

/// How much of everything.
pub struct Size {
    /// Length of a timed download, in bytes.
    download_bytes: u64,
    /// Length of the download of which every byte is looked at, in bytes.
    exact_bytes: u64,
    /// Pairs of timed downloads, through one hop and through more.
    pairs: usize,
    pairs_beyond: usize,
    /// Pairs of baseline and `socat`.
    socat_pairs: usize,
    /// Turns of round trips each way, and round trips in each.
    turns: usize,
    rounds: usize,
    /// Connections opened each way.
    opens: usize,
    /// Handshakes, where idle sessions are not wanted.
    handshakes: usize,
    /// Idle sessions of one node, and for how long they are looked at.
    idle_sessions: usize,
    idle_watch: Duration,
    /// Turns of handshakes without and with a flood, and handshakes in each.
    flood_turns: usize,
    flood_handshakes: usize,
    /// Idle connections in one session.
    idle_streams: usize,
    /// Movers in one overlay.
    movers: usize,
    /// How long each of them is without a network, round by round, in seconds.
    outages_s: &'static [u64],
    /// Movers at the end of a line, and how long each of them is without a network.
    line_movers: usize,
    line_outage: Duration,
    /// Moves of each kind of a library's stream, and for how long each end is without a network.
    stream_moves: usize,
    stream_outage: Duration,
}

const FULL: Size = Size {
    download_bytes: 1 << 30,
    exact_bytes: 128 << 20,
    pairs: 7,
    pairs_beyond: 5,
    socat_pairs: 5,
    turns: 9,
    rounds: 2000,
    opens: 500,
    handshakes: 3000,
    idle_sessions: 10_000,
    idle_watch: Duration::from_secs(30),
    flood_turns: 5,
    flood_handshakes: 100,
    idle_streams: 1000,
    movers: 20,
    outages_s: &[1, 15, 120],
    line_movers: 20,
    line_outage: Duration::from_secs(15),
    stream_moves: 10,
    stream_outage: Duration::from_secs(5),
};
const QUICK: Size = Size {
    download_bytes: 256 << 20,
    exact_bytes: 16 << 20,
    pairs: 2,
    pairs_beyond: 1,
    socat_pairs: 1,
    turns: 3,
    rounds: 1000,
    opens: 100,
    handshakes: 1000,
    idle_sessions: 1000,
    idle_watch: Duration::from_secs(2),
    flood_turns: 1,
    flood_handshakes: 100,
    idle_streams: 200,
    movers: 3,
    outages_s: &[1],
    line_movers: 3,
    line_outage: Duration::from_secs(1),
    stream_moves: 1,
    stream_outage: Duration::from_millis(500),
};

impl BenchArgs {
    /// Runs it; true when all that was measured was exact and, with `--strict`, good enough.
    ///
    /// # Errors
    /// When the user wants an end, or the result cannot be written. What fails in one part is told with the figures of the others.
    pub fn run(&self, out: &Path) -> Result<bool> {
        raise_descriptors();
        let started = Instant::now();
        let mut bench = Bench {
            only: &self.only,
            size: if self.quick { &QUICK } else { &FULL },
            out,
            progress: Progress::of_steps(),
            figures: Figures::new(self.quick),
        };
        bench.measure();
        let Bench { progress, figures, .. } = bench;
        drop(progress);
        if stop_wanted() {
            return Err(Trouble::new("interrupted"));
        }
        conclude(&figures.judged(started.elapsed()), self.json, self.strict)
    }
}

/// One run.
struct Bench<'a> {
    only: &'a [Part],
    size: &'a Size,
    out: &'a Path,
    progress: Progress,
    figures: Figures,
}

impl Bench<'_> {
    fn measure(&mut self) {
        for hops in HOPS {
            let wanted = [(Part::Throughput, true), (Part::Rtt, hops == 1), (Part::Open, hops == 1)];
            if wanted.iter().any(|(part, here)| *here && self.wants(*part)) {
                self.part(&format!("{hops} hops"), |bench| bench.chain(hops));
            }
        }
        if self.wants(Part::Handshakes) || self.wants(Part::IdleSessions) {
            self.part("sessions", Self::sessions);
        }
        // It needs a second of rest around each turn.
        if self.wants(Part::Flood) && !self.is_left_out(Part::Flood) {
            self.part("flood", Self::flood);
        }
        if self.wants(Part::IdleStreams) {
            self.part("streams", Self::streams);
        }
        if self.wants(Part::Resume) {
            self.part("resume", Self::resumes);
        }
        if self.wants(Part::Line) && !self.is_left_out(Part::Line) {
            self.part("line", Self::resumes_over_a_line);
        }
        if self.wants(Part::Mobisocket) {
            self.part("mobisocket", Self::streams_that_move);
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The short slice has no time for it, but when it is asked for alone.
    fn is_left_out(&self, part: Part) -> bool {
        self.figures.quick && !self.only.contains(&part)
    }

    /// What goes wrong in one part leaves the others alone.
    fn part(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<()>) {
        if stop_wanted() {
            return;
        }
        if let Err(trouble) = work(self) {
            self.figures.verdict.failures.push(format!("{name}: {trouble}"));
        }
    }

    fn chain(&mut self, hops: usize) -> Result<()> {
        self.progress.say(&format!("starting a chain of nodes, {hops} hops, and the plain chain beside it"));
        let routes = Routes::start(hops, "", &self.out.join(format!("bench-{hops}hop-logs")))?;
        if self.wants(Part::Throughput) {
            let measured = Throughput::measure(&routes, self.size, &self.progress)?;
            self.progress.say(&measured.line());
            self.figures.take_throughput(hops, measured);
            if self.figures.link_encryption_cpu_s_per_gib.is_none() {
                self.figures.link_encryption_cpu_s_per_gib = Some(seal::cpu_s_per_gib(self.size.download_bytes)?);
            }
        }
        if hops == 1 && self.wants(Part::Rtt) {
            let rtt = latency::round_trips(&routes, self.size, &self.progress)?;
            self.figures.take_round_trips(&rtt);
        }
        if hops == 1 && self.wants(Part::Open) {
            let opens = latency::opens(&routes, self.size, &self.progress)?;
            self.figures.take_opens(&opens);
        }
        Ok(())
    }

    fn sessions(&mut self) -> Result<()> {
        let idle = self.wants(Part::IdleSessions);
        let count = if idle { self.size.idle_sessions } else { self.size.handshakes };
        self.progress.say(&format!("starting a node and {count} peers"));
        let watch = idle.then_some(self.size.idle_watch);
        let measured = Sessions::measure(count, watch, &self.out.join("bench-sessions-logs"), &self.progress)?;
        let rate = measured.handshakes_per_s();
        self.progress.say(&format!("{count} handshakes, {rate:.0} in a second; {} begun anew", measured.failed));
        self.figures.take_sessions(&measured);
        Ok(())
    }

    fn flood(&mut self) -> Result<()> {
        let Size { flood_turns, flood_handshakes, .. } = self.size;
        self.progress.say("starting a node, its peers and a flood");
        let logs = self.out.join("bench-flood-logs");
        let flood = flood::measure(*flood_turns, *flood_handshakes, &logs, &self.progress)?;
        self.progress.say(&flood.line());
        self.figures.take_flood(flood);
        Ok(())
    }

    fn streams(&mut self) -> Result<()> {
        let count = self.size.idle_streams;
        self.progress.say(&format!("starting two nodes for {count} connections in one session"));
        let logs = self.out.join("bench-streams-logs");
        self.figures.bytes_per_idle_stream = Some(streams::bytes_per_idle_stream(count, &logs, &self.progress)?);
        Ok(())
    }

    fn streams_that_move(&mut self) -> Result<()> {
        self.progress.say("starting nodes in this process, for a stream whose ends move");
        let resumes = mobisocket::measure(self.size.stream_moves, self.size.stream_outage, &self.progress)?;
        self.figures.mobisocket_resume_s = Some(resumes);
        Ok(())
    }

    fn resumes_over_a_line(&mut self) -> Result<()> {
        if let Some(why) = crate::netns::missing() {
            self.progress.say(&format!("no long line: {why}"));
            return Ok(());
        }
        let Size { line_movers, line_outage, .. } = *self.size;
        self.progress.say(&format!("starting {line_movers} movers and, behind a line of 20 ms, a server"));
        let mut outages = Outages::over_a_line(line_movers, LINE_ONE_WAY, &self.out.join("bench-line-logs"))?;
        let round = outages.round(line_outage, &self.progress)?;
        if let Some(spread) = self.figures.take_round_over_a_line(&round) {
            let (p50, max, n) = (spread.p50, spread.max, spread.n);
            self.progress
                .say(&format!("{n} outages, 40 ms there and back: resumed after {p50:.3} s, at most {max:.3} s"));
        }
        Ok(())
    }

    fn resumes(&mut self) -> Result<()> {
        self.progress.say(&format!("starting an overlay with {} movers", self.size.movers));
        let mut outages = Outages::start(self.size.movers, &self.out.join("bench-resume-logs"))?;
        for outage_s in self.size.outages_s {
            let round = outages.round(Duration::from_secs(*outage_s), &self.progress)?;
            if let Some(spread) = self.figures.take_round(*outage_s, &round) {
                let (p50, max, n) = (spread.p50, spread.max, spread.n);
                self.progress
                    .say(&format!("{n} outages of {outage_s} s: resumed after {p50:.3} s, at most {max:.3} s"));
            }
        }
        Ok(())
    }
}

/// One way over the long line: a round trip of 40 ms.
const LINE_ONE_WAY: Duration = Duration::from_millis(20);

/// How long something took, in microseconds.
fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
