//! Which node keeps a record: how evenly that is spread, and whether all sources agree.
//!
//! The decisions are the nodes' own; only that the walk goes from one to the next without a link is done here.

use std::collections::HashMap;

use overlay::address::{Address, TreeId};
use overlay::dht::{Choice, REPLICAS};
use overlay::id::NodeId;
use overlay::record::RecordKey;
use overlay::rng::Rng;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::world::World;

/// Longer than any walk down.
const MAX_STEPS: usize = 256;

/// Who is where.
pub struct Binders<'a> {
    world: &'a World,
    by_id: HashMap<NodeId, usize>,
    by_address: HashMap<(TreeId, Address), usize>,
}

impl<'a> Binders<'a> {
    /// Of the nodes as they are now.
    pub fn new(world: &'a World) -> Self {
        let by_id = (0..world.len()).map(|number| (world.node(number).id, number)).collect();
        let mut by_address = HashMap::new();
        for number in 0..world.len() {
            let place = world.node(number).overlay.as_ref().and_then(|overlay| overlay.place());
            for (tree, address) in place.into_iter().flat_map(|place| place.addresses.iter()) {
                by_address.insert((tree, address.clone()), number);
            }
        }
        Self { world, by_id, by_address }
    }

    /// Where a walk ends that begins at `source`; none when that does not know enough.
    fn from(&self, source: usize, key: &RecordKey, replica: u8) -> Option<usize> {
        let vertex = self.world.node(source).overlay.as_ref()?.walk_turns_at(key, replica)?;
        let mut at = *self.by_address.get(&vertex)?;
        for _ in 0..MAX_STEPS {
            match self.world.node(at).overlay.as_ref()?.walk_goes_on(key, replica)? {
                Choice::Here => return Some(at),
                Choice::Child(child) => at = *self.by_id.get(&child)?,
            }
        }
        None
    }

    /// Replicas of the fullest binder over the mean, for so many keys.
    pub fn max_over_mean(&self, keys: usize, rng: &mut Rng) -> Option<f64> {
        let keys: Vec<RecordKey> = (0..keys).map(|_| rng.bytes()).collect();
        let founder = self.by_address.get(&(TreeId::ALL[0], Address::root()))?;
        let replicas =
            |key: &RecordKey| (0..REPLICAS).filter_map(|replica| self.from(*founder, key, replica)).collect();
        let found: Vec<Vec<usize>> = keys.into_par_iter().map(|key| replicas(&key)).collect();
        let mut kept = vec![0u32; self.world.len()];
        for binder in found.iter().flatten() {
            kept[*binder] += 1;
        }
        let mean = kept.iter().sum::<u32>() as f64 / kept.len() as f64;
        let most = kept.iter().max().copied().map(f64::from)?;
        (mean > 0.0).then_some(most / mean)
    }

    /// How many of so many look-ups, of random keys from random nodes, end elsewhere than a look-up from another node does.
    pub fn disagreements(&self, lookups: usize, rng: &mut Rng) -> usize {
        let all: Vec<(usize, usize, RecordKey, u8)> = (0..lookups)
            .map(|_| (rng.index(self.world.len()), rng.index(self.world.len()), rng.bytes()))
            .zip((0..REPLICAS).cycle())
            .map(|((one, other, key), replica)| (one, other, key, replica))
            .collect();
        all.into_par_iter()
            .filter(|(one, other, key, replica)| {
                let binder = self.from(*one, key, *replica);
                binder.is_none() || binder != self.from(*other, key, *replica)
            })
            .count()
    }
}
