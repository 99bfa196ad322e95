//! The choreography of one run: overlay, transfer, cut, outage, another network, end, judgement.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Lost};
use crate::network::Network;
use crate::progress::Progress;
use crate::report::{PAPER_RESUME_S, Report, Timeline, received};
use crate::sink::Sink;
use crate::source::{Content, Source};
use crate::topology::{ALICE, BOB};
use crate::wait::{Result, Trouble, io, sleep_until, until};

/// The source is paced so that an undisturbed transfer takes this long: enough for 5 s on either side of the cut, with
/// room for what is under way in buffers.
pub const TRANSFER_S: f64 = 12.0;
/// The network is taken away when Bob's application holds this part of the bytes.
const CUT_AT: f64 = 0.48;
/// Bob's node has this long to resume.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// All names have to resolve from everywhere within this time after the last join.
const NAMES_LIMIT: Duration = Duration::from_secs(60);
/// The session may carry its first byte this long after the connect.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(30);
/// What the transfer may take longer than its pace says, outage aside.
const SLACK: Duration = Duration::from_secs(90);
/// How long after the first new byte the new path is asked for its hops.
const SETTLE: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Length of the file.
    pub bytes: u64,
    /// How long Bob is without a network.
    pub outage: Duration,
    /// Which file.
    pub seed: u64,
}

/// Runs the experiment once. The nodes' logs go to `logs`.
///
/// # Errors
/// When it cannot be carried through; a run that ends but is not exact is an `Ok` with `report.ok` false.
pub fn run(network: &mut dyn Network, plan: &Plan, logs: &Path) -> Result<(Report, Timeline)> {
    let progress = Progress::new(plan.bytes);
    let topology = network.topology();
    progress.say(&format!("starting {} node processes, {}", topology.nodes.len(), network.label()));
    let mut cluster = Cluster::start(network, &topology, logs, |name| progress.say(&format!("{name} has joined")))?;
    cluster.wait_names(NAMES_LIMIT)?;
    progress.say("every name resolves from every node");

    let mut run = Run::start(network, plan, &progress, cluster)?;
    let report = run.go(network, topology.hops_required);
    report.map_err(|trouble| trouble.see(&logs.join(format!("{BOB}.log"))))
}

struct Run<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    content: Content,
    bytes_per_s: f64,
    source: Source,
    sink: Sink,
    control: Option<(Source, Sink)>,
    ops_at_start: u64,
    // Dropped last: the applications end before the nodes.
    cluster: Cluster,
}

impl<'a> Run<'a> {
    fn start(network: &dyn Network, plan: &'a Plan, progress: &'a Progress, cluster: Cluster) -> Result<Self> {
        let content = Content { seed: plan.seed, bytes: plan.bytes };
        let bytes_per_s = plan.bytes as f64 / TRANSFER_S;
        let ops_at_start = public_key_ops(&cluster)?;
        let source = Source::start(network.hosts().listen(ALICE)?, content, bytes_per_s)?;
        expose(&cluster, source.address())?;
        let port = local_port(&cluster)?;
        let sink = Sink::on(network.hosts().connect(BOB, port)?)?;
        let control = match network.control()? {
            None => None,
            Some((listener, address)) => {
                let source = Source::start(listener, content, bytes_per_s)?;
                Some((source, Sink::on(network.hosts().connect(BOB, address)?)?))
            }
        };
        progress.say(&format!("alice offers a file of {} bytes; bob downloads it from his port {port}", plan.bytes));
        Ok(Self { plan, progress, content, bytes_per_s, source, sink, control, ops_at_start, cluster })
    }

    fn go(&mut self, network: &mut dyn Network, hops_required: u64) -> Result<(Report, Timeline)> {
        self.wait_for_bytes(0, FIRST_BYTE_LIMIT, "waiting for the first byte")?;
        let cut_bytes = share(self.plan.bytes, CUT_AT);
        self.wait_for_bytes(cut_bytes, Duration::from_secs_f64(TRANSFER_S) + SLACK, "before the move")?;
        let hops_before = self.hops()?;
        let ops_before = public_key_ops(&self.cluster)?;

        let cut = Instant::now();
        let held_at_cut_bytes = self.sink.bytes();
        network.down(self.cluster.node(BOB)?)?;
        self.progress.say(&format!("bob's network is gone, with {held_at_cut_bytes} bytes there"));
        self.sit_out(cut + self.plan.outage)?;

        let (held_bytes, latest) = (self.sink.bytes(), self.sink.latest());
        let held_control_bytes = self.control.as_ref().map(|(_, sink)| sink.bytes());
        let back = network.up(self.cluster.node(BOB)?, true)?.at;
        self.wait_for_bytes(held_bytes, RESUME_LIMIT, "back, with another address and other neighbours")?;
        let resumed = self.sink.first_beyond(held_bytes).unwrap_or_else(Instant::now);
        let resume_overlay_s = self.first_link_up(back)?.map(|up| resumed.saturating_duration_since(up).as_secs_f64());
        let resume_s = resumed.saturating_duration_since(back).as_secs_f64();
        self.progress.say(&format!("the transfer goes on {resume_s:.3} s after the network is back"));
        self.watch_until(resumed + SETTLE)?;
        let hops_after = self.hops()?;

        let digest = self.wait_for_end()?;
        let ops_after = public_key_ops(&self.cluster)?;
        self.progress.say("the download has ended; asking every node for every name");
        let lost = self.cluster.lost_names();

        let start = self.sink.started();
        let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
        let ended = self.sink.latest().unwrap_or_else(Instant::now);
        let control_resume_s = self.control.as_ref().zip(held_control_bytes).map(|((_, sink), held)| {
            sink.first_beyond(held).map(|at| at.saturating_duration_since(back).as_secs_f64())
        });
        let timeline = Timeline {
            received: received(&self.sink.marks(), start),
            control: self.control.as_ref().map(|(_, sink)| received(&sink.marks(), start)),
            cut_s: seconds(cut),
            back_s: seconds(back),
            resumed_s: seconds(resumed),
            end_s: seconds(ended),
        };
        let rest_bytes = self.plan.bytes.saturating_sub(held_bytes);
        let report = Report {
            network: network.label(),
            nodes: self.cluster.nodes().len(),
            hops_before,
            hops_after,
            hops_required,
            bytes: self.sink.bytes(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            sha256_match: digest == self.content.digest(),
            cut_fraction: held_at_cut_bytes as f64 / self.plan.bytes as f64,
            before_cut_s: held_at_cut_bytes as f64 / self.bytes_per_s,
            after_cut_s: rest_bytes as f64 / self.bytes_per_s,
            outage_s: (back - cut).as_secs_f64(),
            quiet_s: latest.map_or(0.0, |at| back.saturating_duration_since(at).as_secs_f64()),
            resume_s,
            resume_overlay_s,
            paper_resume_s: PAPER_RESUME_S,
            public_key_ops_in_handshake: ops_before.saturating_sub(self.ops_at_start),
            public_key_ops_in_resume: ops_after.saturating_sub(ops_before),
            app_reconnects: self.source.accepts().saturating_sub(1),
            records_lost: names(&lost).len(),
            lost: lost.iter().map(|lost| format!("{} from {} ({})", lost.name, lost.from, lost.why)).collect(),
            mbytes_per_s_before: held_at_cut_bytes as f64 / 1e6 / seconds(cut),
            mbytes_per_s_after: rest_bytes as f64 / 1e6 / ended.saturating_duration_since(resumed).as_secs_f64(),
            control_resume_s,
            ..Report::default()
        };
        Ok((report.judged(), timeline))
    }

    fn wait_for_bytes(&mut self, beyond: u64, limit: Duration, what: &str) -> Result<()> {
        until(&format!("{what}, more than {beyond} bytes"), limit, || {
            let bytes = self.sink.bytes();
            self.progress.bytes(bytes, what);
            if bytes > beyond {
                return Ok(Some(()));
            }
            self.sink.must_run()?;
            self.cluster.must_run().map(|()| None)
        })
    }

    fn sit_out(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            self.progress.bytes(self.sink.bytes(), &format!("no network for another {:.0} s", left.as_secs_f64()));
            sleep_until(end.min(Instant::now() + Duration::from_millis(200)))?;
            self.sink.must_run()?;
            self.cluster.must_run()?;
        }
        Ok(())
    }

    fn watch_until(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end && self.sink.end().is_none() {
            self.progress.bytes(self.sink.bytes(), "after the move");
            sleep_until(end.min(Instant::now() + Duration::from_millis(100)))?;
        }
        Ok(())
    }

    fn wait_for_end(&mut self) -> Result<[u8; 32]> {
        let end = until("the end of the download", Duration::from_secs_f64(TRANSFER_S) + SLACK, || {
            self.progress.bytes(self.sink.bytes(), "after the move");
            match self.sink.end() {
                None => self.cluster.must_run().map(|()| None),
                Some(end) => Ok(Some(end)),
            }
        })?;
        end.map_err(|why| Trouble::new(format!("the download broke after {} bytes: {why}", self.sink.bytes())))
    }

    /// Links that the latest Data packet from Alice crossed, as Bob's node derives it from the TTL.
    fn hops(&self) -> Result<Option<u64>> {
        let session = self.cluster.node(BOB)?.session(&self.cluster.node(ALICE)?.id)?;
        Ok(session.and_then(|session| session.hops).map(u64::from))
    }

    /// When the first of Bob's links that are newer than `back` came up.
    fn first_link_up(&self, back: Instant) -> Result<Option<Instant>> {
        let asked = Instant::now();
        let peers = self.cluster.node(BOB)?.peers()?;
        let ups = peers.iter().filter_map(|peer| {
            let age = Duration::try_from_secs_f64(peer.up_s).ok()?;
            asked.checked_sub(age).filter(|up| *up >= back)
        });
        Ok(ups.min())
    }
}

/// Alice offers what is at `forward` to Bob, by name.
///
/// # Errors
/// See [`NodeProcess::ask`](crate::process::NodeProcess::ask).
pub fn expose(cluster: &Cluster, forward: SocketAddr) -> Result<()> {
    let request = json!({"verb": "expose", "service": "file", "forward": forward.to_string(), "allow": [BOB]});
    cluster.node(ALICE)?.ask::<Value>(request).map(drop)
}

/// Bob's local port for Alice's file.
///
/// # Errors
/// See [`NodeProcess::ask`](crate::process::NodeProcess::ask).
pub fn local_port(cluster: &Cluster) -> Result<SocketAddr> {
    let bob = cluster.node(BOB)?;
    let connect = json!({"verb": "connect", "target": format!("{ALICE}/file"), "listen": "127.0.0.1:0"});
    let data: Value = bob.ask(connect)?;
    let listen = data.get("listen").and_then(Value::as_str).and_then(|text| text.parse().ok());
    listen.ok_or_else(|| Trouble::new(format!("connect: no address in {data}")).see(&bob.log))
}

/// Of both ends together.
fn public_key_ops(cluster: &Cluster) -> Result<u64> {
    let mut sum = 0;
    for name in [ALICE, BOB] {
        sum += cluster.node(name)?.status()?.counters.public_key_ops;
    }
    Ok(sum)
}

fn names(lost: &[Lost]) -> std::collections::BTreeSet<&str> {
    lost.iter().map(|lost| lost.name.as_str()).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part between 0 and 1 of a length")]
fn share(bytes: u64, part: f64) -> u64 {
    (bytes as f64 * part) as u64
}

/// A folder for the results of a run.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(io(path.display()))
}
