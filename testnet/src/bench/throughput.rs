//! How fast bytes go through a chain of nodes, and what CPU time they cost, beside the chain of plain relays.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Size;
use super::pair::{Pair, ratio};
use super::relay::Chain;
use super::route::{Role, Routes, plain_relays};
use super::service::{Look, download};
use crate::progress::Progress;
use crate::report::median;
use crate::wait::Result;

const GIB: f64 = (1_u64 << 30) as f64;

/// What was measured on one chain.
pub struct Throughput {
    /// Links in the chain.
    pub hops: usize,
    /// Length of each download, in bytes.
    pub bytes: u64,
    /// The downloads, in turns.
    pub pairs: Vec<Pair>,
    /// CPU time by what a process does.
    pub cpu: BTreeMap<Role, Cpu>,
    /// The baseline's speed over that of the same chain of `socat`, where that is installed.
    pub over_socat: Option<f64>,
}

/// CPU time that processes used, and what they carried.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    /// Seconds, of all processes together.
    pub used_s: f64,
    /// GiB carried, counted for each process.
    pub carried_gib: f64,
}

impl Cpu {
    /// Seconds of one process for one GiB.
    pub fn s_per_gib(self) -> f64 {
        self.used_s / self.carried_gib
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self { used_s: self.used_s + other.used_s, carried_gib: self.carried_gib + other.carried_gib }
    }
}

impl Throughput {
    /// Downloads each way once with every byte looked at, then in turns.
    ///
    /// # Errors
    /// When bytes are not exact, or come another way than they should.
    pub fn measure(routes: &Routes, size: &Size, progress: &Progress) -> Result<Self> {
        let bytes = size.download_bytes;
        let mut cpu = BTreeMap::new();
        let mut pairs = Vec::new();
        download(routes.baseline.address(), size.exact_bytes, Look::Every)?;
        download(routes.ours, size.exact_bytes, Look::Every)?;
        let turns = if routes.hops == 1 { size.pairs } else { size.pairs_beyond };
        for turn in 1..=turns {
            progress.doing(&format!("{} hops, download {turn} of {turns}", routes.hops));
            let baseline = with_cpu(
                routes,
                bytes,
                &mut cpu,
                |role| role == Role::Baseline,
                || download(routes.baseline.address(), bytes, Look::Edges),
            )?;
            let ours = with_cpu(
                routes,
                bytes,
                &mut cpu,
                |role| role != Role::Baseline,
                || download(routes.ours, bytes, Look::Edges),
            )?;
            pairs.push(Pair::new(baseline, ours));
        }
        routes.must_have_crossed()?;
        // The shortest chain is the one that the baseline is judged by.
        let over_socat = if routes.hops == 1 { over_socat(routes, size, progress)? } else { None };
        Ok(Self { hops: routes.hops, bytes, pairs, cpu, over_socat })
    }

    /// Of the baseline, in Gbit/s.
    pub fn baseline_gbit_s(&self) -> Option<f64> {
        self.gbit_s(|pair| pair.baseline_s)
    }

    /// Through the nodes, in Gbit/s.
    pub fn ours_gbit_s(&self) -> Option<f64> {
        self.gbit_s(|pair| pair.ours_s)
    }

    fn gbit_s(&self, took_s: impl Fn(&Pair) -> f64) -> Option<f64> {
        Some(self.bytes as f64 * 8.0 / 1e9 / median(self.pairs.iter().map(took_s))?)
    }

    /// For people who watch.
    pub fn line(&self) -> String {
        let shown = |value: Option<f64>| value.unwrap_or(f64::NAN);
        format!(
            "{} hops: {:.2} of {:.2} Gbit/s, ratio {:.3}",
            self.hops,
            shown(self.ours_gbit_s()),
            shown(self.baseline_gbit_s()),
            shown(ratio(&self.pairs)),
        )
    }
}

/// Charges what `transfer` used to the roles that took part in it.
fn with_cpu(
    routes: &Routes,
    bytes: u64,
    cpu: &mut BTreeMap<Role, Cpu>,
    takes_part: impl Fn(Role) -> bool,
    transfer: impl FnOnce() -> Result<Duration>,
) -> Result<Duration> {
    let before = routes.cpu()?;
    let took = transfer()?;
    for ((role, used_s), (_, before_s)) in routes.cpu()?.into_iter().zip(before) {
        if takes_part(role) {
            let used = Cpu { used_s: used_s - before_s, carried_gib: bytes as f64 / GIB };
            let sum = cpu.entry(role).or_default();
            *sum = sum.and(used);
        }
    }
    Ok(took)
}

fn over_socat(routes: &Routes, size: &Size, progress: &Progress) -> Result<Option<f64>> {
    let Some(socat) = Chain::start_socat(plain_relays(routes.hops), routes.server())? else {
        progress.say("socat is not installed, so the baseline is not compared with it");
        return Ok(None);
    };
    progress.doing("the baseline beside socat");
    let mut ratios = Vec::new();
    for _ in 0..size.socat_pairs {
        let theirs = download(socat.address(), size.download_bytes, Look::Edges)?;
        let baseline = download(routes.baseline.address(), size.download_bytes, Look::Edges)?;
        ratios.push(theirs.as_secs_f64() / baseline.as_secs_f64());
    }
    Ok(median(ratios))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_shared_by_what_was_carried() {
        let one = Cpu { used_s: 1.5, carried_gib: 1.0 };
        let idle = Cpu { used_s: 0.5, carried_gib: 1.0 };
        assert!((one.and(idle).s_per_gib() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn speed_is_bytes_by_the_median_time() {
        let pairs = [(1.0, 2.0), (0.5, 4.0), (1.0, 2.0)].map(|(baseline_s, ours_s)| Pair { baseline_s, ours_s });
        let measured =
            Throughput { hops: 1, bytes: 1 << 30, pairs: pairs.to_vec(), cpu: BTreeMap::new(), over_socat: None };
        assert!((measured.baseline_gbit_s().unwrap() - 8.589_934_592).abs() < 1e-9);
        assert!((measured.ours_gbit_s().unwrap() - 4.294_967_296).abs() < 1e-9);
        assert!(measured.line().ends_with("ratio 0.500"), "{}", measured.line());
    }
}
