//! How soon data flows again after an outage: many movers in one overlay, each with a download of its own, cut one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::movers::{Movers, Step, schedule};
use crate::progress::Progress;
use crate::sink::Sink;
use crate::source::{Content, Source};
use crate::wait::{Result, Trouble, sleep_until, until};

/// From one mover's cut to the next one's.
const BETWEEN_CUTS: Duration = Duration::from_secs(2);
/// Each download's pace: a block of the source every 62 ms, so that there is always one on its way or waiting.
const BYTES_PER_S: f64 = 256.0 * 1024.0;
/// A download lasts so much longer than the cuts: the last mover has data left when he is back.
const MARGIN: Duration = Duration::from_secs(2);
/// A download has its first bytes within this time, and its end within this time after it is due.
const PATIENCE: Duration = Duration::from_secs(60);
/// A mover that has no new byte this long after his network is back has not resumed.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// No byte may arrive in this part of an outage, its last one; what was under way at the cut is there before.
const QUIET_PART: f64 = 0.5;

/// The movers and how often they have moved.
pub struct Outages {
    /// Rounds so far.
    rounds: u64,
    movers: Movers,
}

/// What one round brought.
pub struct Round {
    /// From the network being back to the first new byte at the mover's application, in seconds.
    pub resume_s: Vec<f64>,
    /// Public-key operations of the session layer in all nodes, from before the first cut to after the last resume.
    pub public_key_ops: u64,
}

impl Outages {
    /// Starts the overlay; logs go to `logs`.
    ///
    /// # Errors
    /// When a node does not start, or the nodes do not find each other.
    pub fn start(count: usize, logs: &Path) -> Result<Self> {
        Ok(Self { rounds: 0, movers: Movers::start(count, logs)? })
    }

    /// The same with real interfaces, as root: one hop, over a line on which a packet takes `one_way`.
    ///
    /// # Errors
    /// The same, or namespaces cannot be had.
    pub fn over_a_line(count: usize, one_way: Duration, logs: &Path) -> Result<Self> {
        Ok(Self { rounds: 0, movers: Movers::over_a_line(count, one_way, logs)? })
    }

    /// Cuts each mover for this long and lets him come back elsewhere.
    ///
    /// # Errors
    /// When a download is not exact, or does not go on.
    pub fn round(&mut self, outage: Duration, progress: &Progress) -> Result<Round> {
        self.rounds += 1;
        let cuts = BETWEEN_CUTS * u32::try_from(self.movers.names().len()).unwrap_or(u32::MAX);
        let content = Content { seed: self.rounds, bytes: bytes_in(cuts + MARGIN) };
        let source = Source::start(self.movers.listen()?, content, BYTES_PER_S)?;
        let sinks = self.downloads(&source)?;
        until("every mover's first bytes", PATIENCE, || Ok(sinks.iter().all(|sink| sink.bytes() > 0).then_some(())))?;

        let ops_before = self.movers.public_key_ops()?;
        let backs = self.cut_all(outage, &sinks, progress)?;
        let mut resume_s = Vec::new();
        for ((name, sink), back) in self.movers.names().iter().zip(&sinks).zip(&backs) {
            let first = until(&format!("{name} to go on"), RESUME_LIMIT, || {
                let first = sink.first_beyond(back.held_bytes);
                // Who was back long ago may have all of it by now.
                if first.is_none() {
                    sink.must_run()?;
                }
                Ok(first)
            })?;
            resume_s.push(first.saturating_duration_since(back.at).as_secs_f64());
        }
        let public_key_ops = self.movers.public_key_ops()?.saturating_sub(ops_before);

        progress.doing("waiting for the ends of the downloads");
        let digest = content.digest();
        for (name, sink) in self.movers.names().iter().zip(&sinks) {
            let end = until(&format!("the end of {name}'s download"), cuts + PATIENCE, || Ok(sink.end()))?;
            if end.as_ref() != Ok(&digest) {
                return Err(Trouble::new(format!("{name}'s download is not exact: {:?}", end.err())));
            }
        }
        if source.accepts() != sinks.len() as u64 {
            return Err(Trouble::new(format!("{} connections for {} downloads", source.accepts(), sinks.len())));
        }
        Ok(Round { resume_s, public_key_ops })
    }

    /// A download at each mover, of what `source` serves.
    fn downloads(&self, source: &Source) -> Result<Vec<Sink>> {
        // A name of its own for each round: what is left of an earlier one is not in the way.
        let service = format!("file-{}", self.rounds);
        self.movers.expose(&service, source.address())?;
        let download = |name: &String| Sink::on(self.movers.connect(name, &service)?);
        self.movers.names().iter().map(download).collect()
    }

    /// Carries out all cuts and returns; when and with how many bytes each mover was back.
    fn cut_all(&mut self, outage: Duration, sinks: &[Sink], progress: &Progress) -> Result<Vec<Back>> {
        let start = Instant::now();
        let mut backs = vec![None; sinks.len()];
        for (at, index, step) in schedule(sinks.len(), BETWEEN_CUTS, outage) {
            sleep_until(start + at)?;
            self.movers.must_run()?;
            let (Some(name), Some(sink)) = (self.movers.names().get(index).cloned(), sinks.get(index)) else {
                continue;
            };
            sink.must_run()?;
            progress.doing(&format!("outages of {} s: {step:?} {name}", outage.as_secs_f64()));
            match step {
                Step::Cut => self.movers.cut(&name)?,
                Step::Back => {
                    let held_bytes = sink.bytes();
                    let quiet = sink.latest().map(|latest| latest.elapsed()).unwrap_or_default();
                    if quiet < outage.mul_f64(QUIET_PART) {
                        let why = format!("{name} received bytes {:.3} s ago, without a network", quiet.as_secs_f64());
                        return Err(Trouble::new(why).see(&self.movers.cluster().node(&name)?.log));
                    }
                    let at = self.movers.bring_back(&name)?.at;
                    if let Some(back) = backs.get_mut(index) {
                        *back = Some(Back { at, held_bytes });
                    }
                }
            }
        }
        backs.into_iter().collect::<Option<_>>().ok_or_else(|| Trouble::new("a mover was not brought back"))
    }
}

/// When a mover's network was back, and what his application held then.
#[derive(Clone, Copy, Debug)]
struct Back {
    at: Instant,
    held_bytes: u64,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few minutes of a small rate")]
fn bytes_in(span: Duration) -> u64 {
    (span.as_secs_f64() * BYTES_PER_S) as u64
}
