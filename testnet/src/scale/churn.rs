//! Nodes come and go all the time, and look each other up meanwhile; and a network that falls into two parts and finds together.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::ProgressBar;
use overlay::address::{Address, TreeId};
use overlay::dht::LookupResult;
use overlay::event::{Event, LookupId};
use overlay::record::Query;
use overlay::rng::Rng;
use overlay::time::Instant;

use super::world::World;

/// How long a node is away, in the mean.
const AWAY: Duration = Duration::from_mins(5);
/// Between two looks at who comes, goes and asks.
const STEP: Duration = Duration::from_secs(1);
/// The last look-ups are answered within this.
const LAST_ANSWERS: Duration = Duration::from_secs(6);
/// A node is looked up, and looks up, after it has been there for this long.
pub const SETTLED: Duration = Duration::from_mins(1);
/// A record is old when its node has had another place for longer than this. The Kademlia needs no such time: there a record changes only when its node starts,
/// and nobody looks that up before it is [`SETTLED`].
const NEWS_TRAVELS: Duration = Duration::from_secs(1);
/// How long the parts of a network are apart, and how long they have to become one again.
const APART: Duration = Duration::from_mins(1);
const TOGETHER: Duration = Duration::from_mins(2);

/// Look-ups, and how they ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookups {
    /// All.
    pub asked: usize,
    /// Those that found a record of the node.
    pub found: usize,
    /// Of those, the ones that found an old one.
    pub stale: usize,
}

impl Lookups {
    /// The share that found something.
    pub fn success(&self) -> Option<f64> {
        (self.asked > 0).then(|| self.found as f64 / self.asked as f64)
    }

    /// The share of what was found that was old.
    pub fn stale_share(&self) -> Option<f64> {
        (self.found > 0).then(|| self.stale as f64 / self.found as f64)
    }

    /// Counts what the events of `world` say about look-ups that are `open`.
    pub fn hear(&mut self, world: &mut World, open: &mut BTreeMap<(usize, LookupId), usize>) {
        for (node, event) in std::mem::take(&mut world.events) {
            let Event::LookupFinished { id, result, .. } = event else { continue };
            let Some(target) = open.remove(&(node, id)) else { continue };
            let LookupResult::Found(record) = result else { continue };
            self.found += 1;
            let found = record.node().map_or(0, |record| record.place.seq);
            let newest =
                world.node(target).overlay.as_ref().and_then(|overlay| overlay.place()).map_or(0, |place| place.seq);
            let now = world.now.wall.as_unix_micros();
            let travelled = now.saturating_sub(newest) > u64::try_from(NEWS_TRAVELS.as_micros()).unwrap_or(u64::MAX);
            if newest > found && travelled {
                self.stale += 1;
            }
        }
    }
}

/// Asks for `count` look-ups between random nodes that `may`, all at once.
pub fn ask(
    world: &mut World,
    count: usize,
    open: &mut BTreeMap<(usize, LookupId), usize>,
    rng: &mut Rng,
    may: impl Fn(&World, usize) -> bool,
) -> usize {
    let mut asked = 0;
    for _ in 0..count {
        let (source, target) = (rng.index(world.len()), rng.index(world.len()));
        if source == target || !may(world, source) || !may(world, target) {
            continue;
        }
        let query = Query::Node(world.node(target).id);
        if let Some(id) = world.with(source, |overlay, now| overlay.lookup(query, true, now)) {
            open.insert((source, id), target);
            asked += 1;
        }
    }
    asked
}

/// What happened while nodes came and went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Churned {
    /// Look-ups meanwhile.
    pub lookups: Lookups,
    /// How often a node went or came back.
    pub changes: usize,
    /// Frames that arrived meanwhile.
    frames: u64,
    /// Seconds that nodes were there, of all nodes.
    node_seconds: f64,
}

impl Churned {
    /// Frames that a node which was there received in a second.
    pub fn messages_per_node_per_s(&self) -> Option<f64> {
        (self.node_seconds > 0.0).then(|| self.frames as f64 / self.node_seconds)
    }
}

/// Lets nodes live for a time with this median, and come back after a while, for so long, with so many look-ups meanwhile.
pub fn churn(
    world: &mut World,
    median_s: f64,
    span: Duration,
    lookups: usize,
    rng: &mut Rng,
    bar: &ProgressBar,
) -> Churned {
    let mut comings = Comings::new(world.len(), median_s, world.now.instant, rng);
    let mut since = vec![Instant::ZERO; world.len()];
    let steps = span.as_secs().max(1);
    let (mut result, mut open) = (Lookups::default(), BTreeMap::new());
    let (frames, mut node_seconds, mut changes) = (world.frames(), 0.0, 0);
    bar.set_length(steps);
    bar.set_prefix("s");
    bar.set_position(0);
    for step in 0..steps {
        for node in comings.due(world.now.instant, |node| world.node(node).overlay.is_some(), rng) {
            changes += 1;
            if world.node(node).overlay.is_some() {
                world.kill(node);
            } else {
                since[node] = world.now.instant;
                world.start(node, Duration::ZERO);
            }
        }
        let due = usize::try_from(lookups as u64 * (step + 1) / steps - lookups as u64 * step / steps).unwrap_or(0);
        let settled = |world: &World, node: usize| {
            let alive = |node: usize| world.node(node).overlay.is_some();
            let linked = world.graph().neighbours(node).iter().any(|other| alive(*other as usize));
            alive(node) && linked && world.now.instant.since(since[node]) >= SETTLED
        };
        result.asked += ask(world, due, &mut open, rng, settled);
        world.run(STEP);
        node_seconds += world.nodes().filter(|node| node.overlay.is_some()).count() as f64 * STEP.as_secs_f64();
        result.hear(world, &mut open);
        // Who died does not learn the answer, and nobody waits for it.
        open.retain(|(source, _), _| {
            let alive = world.node(*source).overlay.is_some();
            result.asked -= usize::from(!alive);
            alive
        });
        bar.inc(1);
    }
    let frames = world.frames() - frames;
    world.run(LAST_ANSWERS);
    result.hear(world, &mut open);
    Churned { lookups: result, changes, frames, node_seconds }
}

/// Who comes and goes, and when: lifetimes and absences are exponential. Node 0 stays: who else would name heirs?
pub struct Comings {
    changes: BTreeSet<(Instant, usize)>,
    lifetime_s: f64,
}

impl Comings {
    /// All are there, and live for a time with this median.
    pub fn new(nodes: usize, median_s: f64, now: Instant, rng: &mut Rng) -> Self {
        let lifetime_s = median_s / std::f64::consts::LN_2;
        let changes = (1..nodes).map(|node| (now + exponential(lifetime_s, rng), node)).collect();
        Self { changes, lifetime_s }
    }

    /// Those who come or go by `now`; whether they are there says which.
    pub fn due(&mut self, now: Instant, is_there: impl Fn(usize) -> bool, rng: &mut Rng) -> Vec<usize> {
        let mut due = Vec::new();
        while let Some(&(at, node)) = self.changes.first().filter(|(at, _)| *at <= now) {
            self.changes.remove(&(at, node));
            due.push(node);
            let mean = if is_there(node) { AWAY.as_secs_f64() } else { self.lifetime_s };
            // No two changes of one node at one time.
            let next = exponential(mean, rng).max(Duration::from_micros(1));
            self.changes.insert((now + next, node));
        }
        due
    }
}

fn exponential(mean_s: f64, rng: &mut Rng) -> Duration {
    let share = (rng.below(1 << 53) as f64 + 0.5) / (1u64 << 53) as f64;
    Duration::try_from_secs_f64(-mean_s * share.ln()).unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
}

/// Cuts the network at random into two parts, calls `apart` when these have had time to be overlays of their own, and lets them find together again;
/// vertices that two nodes then hold.
pub fn split_and_merge(world: &mut World, rng: &mut Rng, apart: impl FnOnce(&mut World, &mut Rng)) -> usize {
    let sides: Vec<bool> = (0..world.len()).map(|_| rng.below(2) == 1).collect();
    world.cut(sides);
    world.run(APART);
    world.events.clear();
    apart(world, rng);
    world.heal();
    world.run(TOGETHER);
    world.events.clear();
    duplicates(world)
}

/// How many vertices are held by more than one node.
pub fn duplicates(world: &World) -> usize {
    let mut seen: BTreeSet<(TreeId, Address)> = BTreeSet::new();
    let places = world.nodes().filter_map(|node| node.overlay.as_ref()?.place());
    let all = places.flat_map(|place| place.addresses.iter().map(|(tree, address)| (tree, address.clone())));
    all.filter(|vertex| !seen.insert(vertex.clone())).count()
}
