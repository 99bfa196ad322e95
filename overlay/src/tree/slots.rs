//! The places below this node: who holds which slot, under what epoch.
//!
//! Epochs of one slot rise strictly, also over a crash: they are reserved on disk in blocks, and no grant leaves before its block is
//! stored. At each start they go on from the wall time in microseconds, if that is more, so that they rise also where the disk was lost, where an old copy of it was put
//! back, and where another overlay was founded with the same key: one place given twice under one epoch would convict an honest parent for ever. A child that comes back, within the lease or as long as nobody else needed its slot, gets the same slot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::address::TreeId;
use crate::codec::{self, CodecError};
use crate::grant::{Grant, MAX_SLOTS};
use crate::id::{Identity, NodeId};
use crate::time::{Instant, Now, WallTime};

/// Epochs reserved with one write to disk.
const EPOCH_BLOCK: u64 = 64;
/// Most bytes of the stored table.
const STORED_LIMIT_BYTES: usize = 64 * 1024;

/// One child's place.
struct Slot {
    child: NodeId,
    epoch: u64,
    /// Signed in this run of the process.
    grant: Option<Grant>,
    /// When its link was lost; none while it is there.
    lost_at: Option<Instant>,
}

/// The answer to a child that asks.
#[derive(Debug)]
pub(crate) enum Allotment {
    /// Its grant.
    Granted(Grant),
    /// Not before more epochs are on disk; [`Slots::stored`] says when to ask again.
    Wait,
    /// No slot is free.
    Full,
}

/// All slots of this node in one tree.
pub(crate) struct Slots {
    tree: TreeId,
    by_slot: BTreeMap<u16, Box<Slot>>,
    next_epoch: u64,
    /// Epochs below this are on disk.
    reserved: u64,
    /// What the writes under way reserve, oldest first.
    writing: VecDeque<u64>,
    dirty: bool,
}

impl Slots {
    /// No children yet.
    pub const fn new(tree: TreeId) -> Self {
        Self { tree, by_slot: BTreeMap::new(), next_epoch: 0, reserved: 0, writing: VecDeque::new(), dirty: false }
    }

    /// Takes over the stored table: all children are gone for now, all epochs that may have been used are.
    pub fn restore(tree: TreeId, bytes: &[u8], now: Now) -> Result<Self, CodecError> {
        type Stored = (u64, Vec<(u16, NodeId, u64)>);
        let (reserved, children): Stored = codec::decode::<Stored, STORED_LIMIT_BYTES>(bytes)?;
        let by_slot = children
            .into_iter()
            .map(|(slot, child, epoch)| {
                (slot, Box::new(Slot { child, epoch, grant: None, lost_at: Some(now.instant) }))
            })
            .collect();
        let next_epoch = reserved.max(now.wall.as_unix_micros());
        Ok(Self { by_slot, next_epoch, reserved, ..Self::new(tree) })
    }

    /// A place for `child`, the one it had if there is one, also by an own earlier grant of it; or else one of the first `count`.
    pub fn allot(
        &mut self,
        identity: &Identity,
        child: NodeId,
        earlier: Option<&Grant>,
        count: u16,
        lease_s: u32,
    ) -> Allotment {
        let is_free = |slot: &u16| *slot < MAX_SLOTS && !self.by_slot.contains_key(slot);
        let earlier_slot = earlier.map(|grant| grant.slot).filter(is_free);
        let Some(slot) = self.slot_of(&child).or(earlier_slot).or_else(|| (0..count).find(is_free)) else {
            return Allotment::Full;
        };
        if let Some(earlier) = earlier {
            self.next_epoch = self.next_epoch.max(earlier.epoch.saturating_add(1));
        }
        if let Some(held) = self.by_slot.get_mut(&slot)
            && let Some(grant) = held.grant.clone()
        {
            held.lost_at = None;
            return Allotment::Granted(grant);
        }
        if self.next_epoch >= self.reserved {
            self.dirty = true;
            return Allotment::Wait;
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        let grant = Grant::sign(identity, child, self.tree, slot, epoch, lease_s);
        self.by_slot.insert(slot, Box::new(Slot { child, epoch, grant: Some(grant.clone()), lost_at: None }));
        self.dirty = true;
        Allotment::Granted(grant)
    }

    /// Has epochs on disk before a child asks.
    pub fn reserve(&mut self) {
        self.dirty |= self.next_epoch >= self.reserved && self.writing.is_empty();
    }

    /// The table to be written, if it changed.
    pub fn take_unsaved(&mut self, now: WallTime) -> Option<Vec<u8>> {
        if !core::mem::take(&mut self.dirty) {
            return None;
        }
        if self.reserved == 0 && self.writing.is_empty() {
            self.next_epoch = self.next_epoch.max(now.as_unix_micros());
        }
        let highest = self.writing.back().copied().unwrap_or(self.reserved);
        let reserve = if self.next_epoch.saturating_add(EPOCH_BLOCK / 4) >= highest {
            self.next_epoch.saturating_add(EPOCH_BLOCK)
        } else {
            highest
        };
        self.writing.push_back(reserve);
        let children: Vec<_> = self.by_slot.iter().map(|(slot, held)| (*slot, held.child, held.epoch)).collect();
        codec::encode(&(reserve, children)).ok()
    }

    /// The oldest write under way is done.
    pub fn stored(&mut self) {
        if let Some(reserved) = self.writing.pop_front() {
            self.reserved = self.reserved.max(reserved);
        }
    }

    /// Whether nobody has a slot.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Whether a child is gone that has its slot still.
    pub fn misses_any(&self) -> bool {
        self.by_slot.values().any(|held| held.lost_at.is_some())
    }

    /// Bytes of the table, about.
    pub fn state_bytes(&self) -> usize {
        self.by_slot.len() * size_of::<Slot>()
    }

    /// Where `child` sits.
    pub fn slot_of(&self, child: &NodeId) -> Option<u16> {
        self.by_slot.iter().find(|(_, held)| held.child == *child).map(|(slot, _)| *slot)
    }

    /// The children in order of their grants, oldest first.
    pub fn children(&self) -> Vec<(NodeId, u16)> {
        let mut all: Vec<_> = self.by_slot.iter().map(|(slot, held)| (held.epoch, held.child, *slot)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, child, slot)| (child, slot)).collect()
    }

    /// The child's link is gone; its lease runs.
    pub fn lost(&mut self, child: &NodeId, now: Instant) {
        for held in self.by_slot.values_mut().filter(|held| held.child == *child) {
            held.lost_at = held.lost_at.or(Some(now));
        }
    }

    /// The child has a link again; its lease does not run.
    pub fn returned(&mut self, child: &NodeId) {
        for held in self.by_slot.values_mut().filter(|held| held.child == *child) {
            held.lost_at = None;
        }
    }

    /// The child does not need its slot any more. Whether it had one.
    pub fn release(&mut self, child: &NodeId) -> bool {
        let before = self.by_slot.len();
        self.by_slot.retain(|_, held| held.child != *child);
        let released = self.by_slot.len() < before;
        self.dirty |= released;
        released
    }

    /// Since when the holder of this grant is gone; none when it is there, or the slot is another one's by now.
    pub fn missed_since(&self, grant: &Grant) -> Option<Instant> {
        let slot = self.by_slot.get(&grant.slot)?;
        slot.lost_at.filter(|_| slot.child == grant.child && slot.epoch == grant.epoch)
    }

    /// Frees what was lost before `since`, but for the slots `in_use` by others. The next lease to run out began when the result says; that of a slot in use that has run out
    /// has no say any more, because it would be due at once, again and again.
    pub fn expire(&mut self, since: Instant, in_use: &BTreeSet<u16>) -> Option<Instant> {
        let before = self.by_slot.len();
        let kept = |slot: &u16, held: &Slot| in_use.contains(slot) || held.lost_at.is_none_or(|lost| lost > since);
        self.by_slot.retain(|slot, held| kept(slot, held));
        self.dirty |= self.by_slot.len() < before;
        self.by_slot.values().filter_map(|held| held.lost_at).filter(|lost| *lost > since).min()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::address::FIRST_TREE;

    const NOW: Now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_micros(1_700_000_000_000_000) };

    fn granted(allotment: Allotment) -> Grant {
        match allotment {
            Allotment::Granted(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn epochs_wait_for_the_disk_and_never_repeat_over_a_crash() {
        let key = Identity::from_secret(&[1; 32]);
        let child = |n: u8| NodeId::from_bytes([n; 32]);
        let mut slots = Slots::new(FIRST_TREE);
        assert!(matches!(slots.allot(&key, child(1), None, 3, 600), Allotment::Wait));
        let first = slots.take_unsaved(NOW.wall).unwrap();
        assert!(matches!(slots.allot(&key, child(1), None, 3, 600), Allotment::Wait));
        slots.stored();
        let one = granted(slots.allot(&key, child(1), None, 3, 600));
        let two = granted(slots.allot(&key, child(2), None, 3, 600));
        assert!(one.slot != two.slot && one.epoch < two.epoch);
        assert_eq!(granted(slots.allot(&key, child(1), None, 3, 600)).epoch, one.epoch, "asked again");

        // A crash before the second write: the table is forgotten, the epochs are not.
        let mut slots = Slots::restore(FIRST_TREE, &first, NOW).unwrap();
        assert!(matches!(slots.allot(&key, child(3), None, 3, 600), Allotment::Wait));
        assert!(slots.take_unsaved(NOW.wall).is_some());
        slots.stored();
        assert!(granted(slots.allot(&key, child(3), None, 3, 600)).epoch > two.epoch);
    }

    #[test]
    fn epochs_do_not_repeat_where_the_disk_was_lost_or_an_old_copy_put_back() {
        let key = Identity::from_secret(&[1; 32]);
        let first_of = |mut slots: Slots, now: Now| {
            assert!(matches!(slots.allot(&key, NodeId::from_bytes([1; 32]), None, 3, 600), Allotment::Wait));
            let stored = slots.take_unsaved(now.wall).unwrap();
            slots.stored();
            (granted(slots.allot(&key, NodeId::from_bytes([1; 32]), None, 3, 600)).epoch, stored)
        };
        let later = |minutes| NOW.after(Duration::from_mins(minutes));
        let (before, copy) = first_of(Slots::new(FIRST_TREE), NOW);
        let of_copy = |now| Slots::restore(FIRST_TREE, &copy, now).unwrap();
        let (again, _) = first_of(of_copy(later(1)), later(1));
        let (old, _) = first_of(of_copy(later(2)), later(2));
        let (lost, _) = first_of(Slots::new(FIRST_TREE), later(3));
        assert!(before < again && again < old && old < lost);
        // A clock that is behind takes nothing back.
        let (behind, _) = first_of(of_copy(Now::default()), Now::default());
        assert!(behind > before);
    }

    #[test]
    fn a_full_table_can_be_restored() {
        let key = Identity::from_secret(&[1; 32]);
        let mut slots = Slots { next_epoch: u64::MAX / 2, reserved: u64::MAX, ..Slots::new(FIRST_TREE) };
        for n in 0..MAX_SLOTS {
            let [high, low] = n.to_be_bytes();
            let mut id = [0; 32];
            (id[0], id[1]) = (high, low);
            granted(slots.allot(&key, NodeId::from_bytes(id), None, MAX_SLOTS, 600));
        }
        let bytes = slots.take_unsaved(NOW.wall).unwrap();
        assert!(bytes.len() <= STORED_LIMIT_BYTES);
        assert_eq!(Slots::restore(FIRST_TREE, &bytes, NOW).unwrap().children().len(), usize::from(MAX_SLOTS));
    }

    #[test]
    fn a_slot_is_kept_for_the_lease() {
        let key = Identity::from_secret(&[1; 32]);
        let child = |n: u8| NodeId::from_bytes([n; 32]);
        let mut slots = Slots { reserved: 100, ..Slots::new(FIRST_TREE) };
        let one = granted(slots.allot(&key, child(1), None, 1, 600));
        assert!(matches!(slots.allot(&key, child(2), None, 1, 600), Allotment::Full));
        slots.lost(&child(1), Instant::from_micros(5));
        slots.lost(&child(1), Instant::from_micros(9));
        assert_eq!(slots.expire(Instant::from_micros(4), &BTreeSet::new()), Some(Instant::from_micros(5)));
        assert_eq!(slots.slot_of(&child(1)), Some(one.slot));
        slots.returned(&child(1));
        assert_eq!(slots.expire(Instant::FAR_FUTURE, &BTreeSet::new()), None);
        slots.lost(&child(1), Instant::from_micros(5));
        let in_use = BTreeSet::from([one.slot]);
        assert_eq!(
            slots.expire(Instant::from_micros(4), &in_use),
            Some(Instant::from_micros(5)),
            "to be given up then"
        );
        assert_eq!(slots.expire(Instant::from_micros(5), &in_use), None, "given up as soon as nobody uses it");
        assert!(matches!(slots.allot(&key, child(2), None, 1, 600), Allotment::Full));
        slots.expire(Instant::from_micros(5), &BTreeSet::new());
        assert!(matches!(slots.allot(&key, child(2), None, 1, 600), Allotment::Granted(_)));
    }
}
