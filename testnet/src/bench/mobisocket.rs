//! What the MobiSocket paper leaves open (its section V): how soon data flows again with and without `resetTimer`, and when both ends move.
//!
//! ```text
//!          before ....... client, server ...     at 127.0.3.K
//!   hub ---
//!          after ........ client, server ...     at 127.0.4.K
//! ```
//!
//! The nodes are [`Node`]s in this process, and the stream is a [`MobileStream`] that both ends made mobile. With each move an end gets
//! another relay, and with it another address in the overlay. When both move, the second one leaves with the first and is back as long
//! after it as the first was away, so that each has to find the other, and the first has waited in vain for a while. `reset_timers` is called
//! at both ends when the last one is back, as the paper's SIP messages would have it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use multiaddr::Multiaddr;
use node::config::Config;
use node::{Control, MobileStream, Node, Update, Who};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::spread::Spread;
use crate::progress::Progress;
use crate::wait::{Result, Trouble, io, stop_wanted};

/// What the server sends at once, and how often: at most 500 KiB in a second.
const CHUNK_BYTES: usize = 1024;
const CHUNK_PERIOD: Duration = Duration::from_millis(2);
/// Whoever has no new byte this long after the network is back has not resumed.
const RESUME_LIMIT: Duration = Duration::from_secs(90);
/// All nodes have joined within this time.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// How often the reader's count is looked at. With the 2 ms between two chunks a figure is up to 4 ms too long.
const LOOK: Duration = Duration::from_millis(1);
/// Between two rounds, for records to settle.
const PAUSE: Duration = Duration::from_secs(2);

const HUB: &str = "127.0.0.10";
/// The relays before and after a move.
const RELAYS: [&str; 2] = ["127.0.0.11", "127.0.0.12"];
const SERVICE: &str = "stream";

/// From the network being back to the first new byte at the application, in seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Resumes {
    /// One end moved.
    pub one_end: Timers,
    /// Both did; counted from when the second one is back.
    pub both_ends: Timers,
}

/// The same with and without `reset_timers`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timers {
    /// It was called at both ends.
    pub with_reset_timers: Option<Spread>,
    /// It was not.
    pub without: Option<Spread>,
}

impl Resumes {
    /// Each with its name.
    pub fn all(&self) -> [(&'static str, Option<&Spread>); 4] {
        let Self { one_end, both_ends } = self;
        [
            ("one end moves", one_end.without.as_ref()),
            ("  with reset_timers", one_end.with_reset_timers.as_ref()),
            ("both ends move", both_ends.without.as_ref()),
            ("  with reset_timers", both_ends.with_reset_timers.as_ref()),
        ]
    }
}

/// Measures `rounds` moves of each kind, each end being without a network for `outage`.
///
/// # Errors
/// When a node does not start, or a stream breaks or does not go on.
pub fn measure(rounds: usize, outage: Duration, progress: &Progress) -> Result<Resumes> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(io("the runtime"))?;
    runtime.block_on(async {
        let mut pair = Pair::start().await?;
        // By kind: one end or both, without or with the verb. In turns, so that what else the machine does hits all alike.
        let mut resume_s = [const { Vec::new() }; 4];
        for round in 0..rounds {
            for (kind, times) in resume_s.iter_mut().enumerate() {
                if stop_wanted() {
                    return Err(Trouble::new("interrupted"));
                }
                progress.doing(&format!("moves of streams: round {} of {rounds}", round + 1));
                times.push(pair.round(kind >= 2, kind % 2 == 1, outage).await?.as_secs_f64());
            }
        }
        pair.end().await;
        let [one_without, one_with, both_without, both_with] = resume_s.map(|times| Spread::of(&times));
        Ok(Resumes {
            one_end: Timers { with_reset_timers: one_with, without: one_without },
            both_ends: Timers { with_reset_timers: both_with, without: both_without },
        })
    })
}

/// The two ends, and the stream from the server to the client.
struct Pair {
    relays: Vec<Node>,
    ends: [End; 2],
    received_bytes: Arc<AtomicU64>,
    reading: JoinHandle<std::io::Result<()>>,
    /// Whether the ends are behind the second relay.
    after: bool,
}

/// One end of the stream.
struct End {
    node: Node,
    control: Control,
    /// The last number of its addresses.
    host: u8,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Pair {
    async fn start() -> Result<Self> {
        let hub = start(HUB, &RELAYS.map(host), &[]).await?;
        let mut relays = vec![hub];
        let mut ways = Vec::new();
        for (relay, after) in RELAYS.into_iter().zip([false, true]) {
            let mut only = vec![host(HUB)];
            only.extend([CLIENT, SERVER].map(|end| host(&place(number(end), after).to_string())));
            let way = way_to(relays.first().ok_or_else(gone)?).await?;
            let node = start(relay, &only, &[way]).await?;
            ways.push(way_to(&node).await?);
            relays.push(node);
        }
        let end = |end| {
            let ways = ways.clone();
            async move { start(&place(number(end), false).to_string(), &RELAYS.map(host), &ways).await }
        };
        let (client, server) = (end(CLIENT).await?, end(SERVER).await?);
        let mut offer = server.offer(SERVICE, [Who::Anyone]).await.map_err(io("the server"))?;
        let id = server.id().to_string();
        let (opened, accepted) = tokio::join!(open(&client, &id), offer.accept());
        let (opened, accepted) = (opened?, accepted.map_err(io("the server"))?);
        let mut ends = Vec::new();
        for (number, (node, stream)) in [(number(CLIENT), (client, &opened)), (number(SERVER), (server, &accepted))] {
            stream.activate_mobility().await.map_err(io("activate_mobility"))?;
            ends.push(End { node, control: stream.control(), host: number });
        }
        let ends = ends.try_into().map_err(|_| gone())?;
        let received_bytes = Arc::new(AtomicU64::new(0));
        let reading = tokio::spawn(read(opened, Arc::clone(&received_bytes)));
        tokio::spawn(write(accepted));
        Ok(Self { relays, ends, received_bytes, reading, after: false })
    }

    /// One move of the client, or of both: how long the client then waits for a new byte.
    async fn round(&mut self, both: bool, reset_timers: bool, outage: Duration) -> Result<Duration> {
        self.after = !self.after;
        self.wait_beyond(self.received_bytes.load(Ordering::Relaxed)).await?;
        let [client, server] = &self.ends;
        for end in [Some(client), both.then_some(server)].into_iter().flatten() {
            end.node.handle().network_down().await.map_err(|why| Trouble::new(why.to_string()))?;
        }
        tokio::time::sleep(outage).await;
        if both {
            client.back(self.after).await?;
            tokio::time::sleep(outage).await;
        }
        // What was on its way at the cut has long arrived.
        let held_bytes = self.received_bytes.load(Ordering::Relaxed);
        let last = if both { server } else { client };
        let since = Instant::now();
        last.back(self.after).await?;
        if reset_timers {
            for end in [client, server] {
                end.control.reset_timers().await.map_err(io("reset_timers"))?;
            }
        }
        self.wait_beyond(held_bytes).await?;
        let took = since.elapsed();
        if !both {
            // The server goes after the client, in peace, so that both are behind the same relay again.
            server.back(self.after).await?;
        }
        tokio::time::sleep(PAUSE).await;
        Ok(took)
    }

    async fn wait_beyond(&self, bytes: u64) -> Result<()> {
        let start = Instant::now();
        while self.received_bytes.load(Ordering::Relaxed) <= bytes {
            if self.reading.is_finished() {
                return Err(Trouble::new("the stream has ended"));
            }
            if start.elapsed() > RESUME_LIMIT {
                return Err(Trouble::new(format!("the stream did not go on within {} s", RESUME_LIMIT.as_secs())));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn end(self) {
        self.reading.abort();
        for node in self.ends.iter().map(|end| &end.node).chain(&self.relays) {
            node.stop().await;
        }
    }
}

impl End {
    /// Its network is back, behind the first or the second relay.
    async fn back(&self, after: bool) -> Result<()> {
        let to = place(self.host, after);
        self.control.update_address(Update::Source(to)).await.map_err(io(format!("moving to {to}")))
    }
}

async fn open(client: &Node, server: &str) -> Result<MobileStream> {
    // The server's record may be on its way still.
    let deadline = Instant::now() + JOIN_LIMIT;
    loop {
        match client.open(server, SERVICE).await {
            Err(error) if Instant::now() > deadline => return Err(io("opening the stream")(error)),
            Err(_) => tokio::time::sleep(PAUSE / 10).await,
            Ok(stream) => return Ok(stream),
        }
    }
}

/// Every byte is looked at: what a move loses, doubles or swaps would be no resume.
async fn read(mut stream: MobileStream, received_bytes: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0_usize;
    loop {
        let bytes = stream.read(&mut buffer).await?;
        let read = buffer.get(..bytes).unwrap_or_default();
        if bytes == 0 || !read.iter().enumerate().all(|(index, byte)| *byte == byte_at(offset + index)) {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        offset += bytes;
        received_bytes.store(offset as u64, Ordering::Relaxed);
    }
}

async fn write(mut stream: MobileStream) -> std::io::Result<()> {
    let mut offset = 0;
    loop {
        let chunk: Vec<u8> = (offset..offset + CHUNK_BYTES).map(byte_at).collect();
        stream.write_all(&chunk).await?;
        offset += CHUNK_BYTES;
        tokio::time::sleep(CHUNK_PERIOD).await;
    }
}

fn byte_at(offset: usize) -> u8 {
    (offset.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]
}

async fn start(ip: &str, only: &[String], join: &[Multiaddr]) -> Result<Node> {
    let quoted: Vec<String> = only.iter().map(|only| format!("'{only}'")).collect();
    let config = format!("listen = ['/ip4/{ip}/tcp/0']\n[links]\nonly = [{}]\n", quoted.join(", "));
    let config = Config::parse(&config, "mobisocket".as_ref()).map_err(|error| Trouble::new(error.to_string()))?;
    let builder = join.iter().cloned().fold(Node::builder().config(config), node::Builder::join);
    let node = builder.start().await.map_err(|fault| Trouble::new(format!("{ip}: {fault}")))?;
    match tokio::time::timeout(JOIN_LIMIT, node.joined()).await {
        Ok(joined) => joined.map(|()| node).map_err(io(ip)),
        Err(_) => Err(Trouble::new(format!("{ip} did not join"))),
    }
}

async fn way_to(node: &Node) -> Result<Multiaddr> {
    node.addresses().await.map_err(io("a relay"))?.into_iter().next().ok_or_else(gone)
}

fn gone() -> Trouble {
    Trouble::new("a node is gone")
}

fn host(ip: &str) -> String {
    format!("/ip4/{ip}")
}

fn number(end: usize) -> u8 {
    u8::try_from(end + 1).unwrap_or(u8::MAX)
}

fn place(host: u8, after: bool) -> IpAddr {
    Ipv4Addr::new(127, 0, if after { 4 } else { 3 }, host).into()
}
