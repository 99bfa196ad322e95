//! What keys promise, through crashes, disks that go back in time, and forgers without end.

use core::time::Duration;
use std::collections::BTreeMap;

use overlay::id::{Identity, NodeId};
use overlay::io::Snapshot;
use overlay::rng::Rng;
use overlay::time::{Now, WallTime};

use crate::ack::Ranges;
use crate::config::{Config, HALF_OPEN_LIFETIME, REHELLO_MAX_WAIT, UNPROVEN_RESET_WAIT};
use crate::content::ContentType;
use crate::event::{Arrival, Command, Event, Path, Read, ResetReason, Resolved, StreamKey};
use crate::frame::{Ack, Frame};
use crate::kdf::used;
use crate::packet::FAILURES_MAX;
use crate::packet::HEADER_BYTES;
use crate::sessions::Sessions;

const STEP: Duration = Duration::from_millis(20);
/// States of a disk that may come back.
const BACKUPS: usize = 5;

/// A node that can crash.
struct End {
    name: u8,
    sessions: Sessions,
    disk: Snapshot,
    backups: Vec<Snapshot>,
    heard: BTreeMap<StreamKey, usize>,
}

fn id(name: u8) -> NodeId {
    Identity::from_secret(&[name; 32]).id()
}

fn fresh(name: u8, rng: &mut Rng, disk: &Snapshot, now: Now) -> Sessions {
    let identity = Identity::from_secret(&[name; 32]);
    let mut sessions = Sessions::new(Config::default(), identity, [name + 50; 32], rng.bytes(), now);
    sessions.restore(disk, now);
    sessions.handle_attached(Path(vec![name]), now);
    sessions
}

/// Two of them, and a network that loses packets.
struct World {
    ends: [End; 2],
    now: Now,
    rng: Rng,
    loss_percent: u64,
    /// Whether streams are accepted, and not refused.
    serves: bool,
    /// What a relay keeps back.
    drops: Option<ContentType>,
}

impl World {
    fn new(loss_percent: u64) -> Self {
        let now = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
        let mut rng = Rng::from_seed([6; 32]);
        let ends = [1, 2].map(|name| {
            let disk = Snapshot::new();
            let sessions = fresh(name, &mut rng, &disk, now);
            End { name, sessions, disk, backups: Vec::new(), heard: BTreeMap::new() }
        });
        Self { ends, now, rng, loss_percent, serves: true, drops: None }
    }

    /// One whose first end has said something, which the second has heard.
    fn talking() -> Self {
        let mut world = Self::new(0);
        world.say();
        world.run(Duration::from_secs(1));
        world
    }

    /// A few bytes on a new stream from the first to the second.
    fn say(&mut self) {
        let sessions = &mut self.ends[0].sessions;
        let stream = sessions.open(id(2), "files", 0, self.now).unwrap();
        sessions.write(stream, b"something to say", self.now);
        sessions.finish(stream, self.now);
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while self.now.instant < end {
            for index in [0, 1] {
                self.obey(index);
                while let Some(out) = self.ends[index].sessions.poll_transmit() {
                    let (from, to) = (self.ends[index].name, &mut self.ends[1 - index]);
                    let arrival =
                        Arrival { from: id(from), return_path: Path(vec![from]), via: None, ecn: false, hops: 1 };
                    let is_dropped = self.drops.is_some() && ContentType::of(&out.payload) == self.drops;
                    if out.path.0 == [to.name] && !is_dropped && self.rng.below(100) >= self.loss_percent {
                        to.sessions.handle_packet(arrival, out.payload, self.now);
                    }
                }
            }
            self.now = self.now.after(STEP);
            self.ends.iter_mut().for_each(|one| one.sessions.handle_timeout(self.now));
        }
    }

    fn obey(&mut self, index: usize) {
        let cert = self.ends[1 - index].sessions.cert().to_vec();
        let one = &mut self.ends[index];
        while let Some(command) = one.sessions.poll_command() {
            match command {
                Command::Resolve(peer) => {
                    let path = Path(vec![3 - one.name]);
                    one.sessions.handle_peer(peer, Resolved { cert: cert.clone(), path }, self.now);
                }
                Command::Persist { key, bytes } if bytes.is_empty() => _ = one.disk.remove(&key),
                Command::Persist { key, bytes } => {
                    one.disk.insert(key.clone(), bytes);
                    one.sessions.handle_persisted(&key, self.now);
                }
            }
        }
        while let Some(event) = one.sessions.poll_event() {
            match event {
                Event::StreamOpened { stream, .. } if !self.serves => {
                    one.sessions.refuse(stream, ResetReason::Refused, self.now);
                }
                Event::StreamOpened { stream, .. } => {
                    one.sessions.accept(stream, self.now);
                    one.sessions.finish(stream, self.now);
                    one.heard.insert(stream, 0);
                }
                Event::StreamClosed { stream, .. } => _ = one.heard.remove(&stream),
                _ => {}
            }
        }
        for (stream, heard) in &mut one.heard {
            while let Read::Data(bytes) = one.sessions.read(*stream, 100) {
                *heard += bytes.len();
            }
        }
    }

    /// The node is killed, and starts again with what its disk has, or with what it once had; whether that is something else.
    fn kill(&mut self, index: usize, roll_back: bool) -> bool {
        let one = &mut self.ends[index];
        let older: Vec<usize> = (0..one.backups.len()).filter(|at| one.backups[*at] != one.disk).collect();
        let rolled_back = roll_back && !older.is_empty();
        if rolled_back {
            one.disk = one.backups.remove(older[self.rng.index(older.len())]);
        }
        one.sessions = fresh(one.name, &mut self.rng, &one.disk, self.now);
        one.heard.clear();
        rolled_back
    }

    fn back_up(&mut self, index: usize) {
        let one = &mut self.ends[index];
        one.backups.push(one.disk.clone());
        if one.backups.len() > BACKUPS {
            one.backups.remove(0);
        }
    }
}

/// Kills now and then, and one in ten of them with a disk that goes back in time, to another state than that of the moment; `used` fails when a number is used
/// twice under one key.
fn no_number_twice(kills: u64) {
    used::watch();
    let mut world = World::new(10);
    let mut rolled_back = 0;
    for kill in 0..kills {
        world.say();
        let span = Duration::from_millis(50 + world.rng.below(800));
        world.run(span);
        let index = world.rng.index(2);
        world.back_up(index);
        // Where there is nothing older, the next one makes up for it.
        rolled_back += u64::from(world.kill(index, rolled_back < (kill + 1) / 10));
    }
    assert_eq!(rolled_back, kills / 10, "disks that went back in time");
    assert!(used::count() as u64 > 4 * kills, "hardly anything was sealed: {}", used::count());
    // It was a life worth living: what is said now is heard.
    world.loss_percent = 0;
    // If the second was killed before it had the first one's Finished, that one cannot know for so long.
    world.run(HALF_OPEN_LIFETIME + Duration::from_secs(10));
    // Who was rolled back to before there was a session says so when it is spoken to; the next word founds another.
    for _ in 0..2 {
        world.say();
        world.run(Duration::from_secs(5));
    }
    assert!(world.ends[1].sessions.sessions().next().is_some_and(|session| session.received_bytes > 0));
}

#[test]
fn no_number_is_used_twice_under_one_key() {
    no_number_twice(300);
}

#[test]
#[ignore = "10^4 kills and 10^3 rollbacks; for the night"]
fn no_number_is_used_twice_through_many_kills() {
    no_number_twice(10_000);
}

/// Data of the second came, but never its Finished; then it forgets everything.
#[test]
fn a_session_whose_end_cannot_be_proven_ends_all_the_same() {
    let mut world = World::talking();
    let session = world.ends[0].sessions.sessions.get_mut(&id(2)).unwrap();
    session.bound_mut().unwrap().secrets.peer_token = None;
    world.ends[1].disk.clear();
    world.kill(1, false);
    for _ in 0..2 {
        world.say();
        world.run(UNPROVEN_RESET_WAIT + REHELLO_MAX_WAIT * 2);
    }
    assert!(world.ends[1].sessions.sessions().next().is_some_and(|session| session.received_bytes > 0));
}

/// It may have left, and have somebody else at its place flooded. It is there: it answers, and all goes on.
#[test]
fn who_acknowledges_what_was_never_sent_has_to_show_that_it_is_there() {
    let mut world = World::talking();
    let skipped = |world: &World| {
        let recovery = &world.ends[0].sessions.sessions[&id(2)].flow.recovery;
        recovery.skipped().next_back()
    };
    let number = (0..1000).find_map(|_| {
        world.say();
        world.run(STEP);
        skipped(&world)
    });
    let number = number.expect("no number was left out");
    let resumes = |world: &World| world.ends[0].sessions.sessions[&id(2)].resumes;
    assert_eq!((resumes(&world), world.ends[0].sessions.counters().violations), (0, 0));
    let liar = world.ends[1].sessions.sessions.get_mut(&id(1)).unwrap();
    let mut ranges = Ranges::default();
    ranges.insert(0, number);
    let mut packet = vec![0; HEADER_BYTES];
    Frame::Ack(Ack { ranges, delay_us: 0, ecn_count: 0 }).encode(&mut packet);
    liar.bound_mut().unwrap().sealer().unwrap().seal_in_place(&mut packet).unwrap();
    let arrival = Arrival { from: id(2), return_path: Path(vec![2]), via: None, ecn: false, hops: 1 };
    world.ends[0].sessions.handle_packet(arrival, packet, world.now);
    assert_eq!(world.ends[0].sessions.counters().violations, 1);
    assert!(world.ends[0].sessions.sessions[&id(2)].is_suspended());
    world.run(Duration::from_secs(5));
    assert_eq!(resumes(&world), 1, "by an answer");
}

/// Each place is asked by a Re-Hello of its own, so the answer says which it was.
#[test]
fn an_answer_is_taken_from_any_of_the_last_places_asked() {
    for (places, is_taken) in [(1, true), (3, true), (4, false)] {
        let mut world = World::talking();
        world.say();
        let now = world.now;
        let [asker, asked] = &mut world.ends;
        asker.sessions.handle_detached(now);
        asker.sessions.handle_attached(Path(vec![1]), now);
        // Its record names other places, one after the other.
        for place in (20..).take(places - 1) {
            let cert = asked.sessions.cert().to_vec();
            asker.sessions.handle_peer(id(2), Resolved { cert, path: Path(vec![place]) }, now);
        }
        let sent = core::iter::from_fn(|| asker.sessions.poll_transmit());
        let hellos: Vec<_> = sent.filter(|out| ContentType::of(&out.payload) == Some(ContentType::ReHello)).collect();
        assert_eq!(hellos.len(), places);
        let arrival = |from| Arrival { from: id(from), return_path: Path(vec![from]), via: None, ecn: false, hops: 1 };
        asked.sessions.handle_packet(arrival(1), hellos[0].payload.clone(), now);
        while let Some(out) = asked.sessions.poll_transmit() {
            asker.sessions.handle_packet(arrival(2), out.payload, now);
        }
        let session = &asker.sessions.sessions[&id(2)];
        assert_eq!(!session.is_suspended(), is_taken, "{places} places");
        assert!(!is_taken || session.path == Path(vec![2]), "where it was asked");
    }
}

/// Otherwise anybody on the way could end it later.
#[test]
fn what_proves_the_end_of_a_session_comes_by_packets_that_no_relay_can_tell_from_others() {
    let mut world = World::new(0);
    world.drops = Some(ContentType::FinishedB);
    world.say();
    world.run(Duration::from_secs(5));
    let session = world.ends[0].sessions.sessions.get(&id(2)).unwrap().bound_ref().unwrap();
    let token = world.ends[1].sessions.end.keys.reset_token(session.secrets.label());
    assert_eq!(session.secrets.peer_token, Some(*token));
    assert!(!world.ends[0].disk.is_empty() && !world.ends[0].sessions.sessions[&id(2)].is_confirming());
}

/// What was stored of it would never be of use again if the peer forgot it.
#[test]
fn a_session_whose_end_cannot_be_proven_is_not_stored() {
    let mut world = World::new(0);
    world.say();
    let has_token = |world: &World| {
        let session = world.ends[0].sessions.sessions.get(&id(2)).and_then(|session| session.bound_ref());
        session.map(|bound| bound.secrets.peer_token.is_some())
    };
    let mut was_unproven = false;
    while world.ends[0].disk.is_empty() {
        was_unproven |= has_token(&world) == Some(false);
        world.run(STEP);
    }
    assert_eq!((was_unproven, has_token(&world)), (true, Some(true)));
    world.run(Duration::from_secs(1));
    assert!(!world.ends[1].disk.is_empty());
}

/// Anybody may shake hands; what is on disk is whom this node had something to do with.
#[test]
fn a_stranger_who_is_not_served_is_not_stored() {
    let mut world = World::new(0);
    world.serves = false;
    world.say();
    world.run(Duration::from_secs(1));
    assert!(world.ends[1].sessions.sessions().next().is_some() && world.ends[1].disk.is_empty());
    world.serves = true;
    world.say();
    world.run(Duration::from_secs(1));
    assert_eq!(world.ends[1].disk.len(), 1);
}

/// As of another version, or broken.
#[test]
fn what_cannot_be_read_is_deleted_and_its_peer_begins_anew() {
    let mut world = World::talking();
    for bytes in world.ends[0].disk.values_mut() {
        bytes[0] ^= 1;
    }
    world.kill(0, false);
    world.run(STEP);
    assert!(world.ends[0].disk.is_empty());
    world.say();
    world.run(Duration::from_secs(1));
    assert_eq!(world.ends[0].disk.len(), 1);
}

/// The node is killed between two writes: the sessions of one peer, one after the other, share a place.
#[test]
fn two_sessions_with_one_peer_are_never_both_on_disk() {
    let mut world = World::new(0);
    for _ in 0..5 {
        world.say();
        world.run(Duration::from_secs(1));
        // The first begins anew, the second hears of it by the handshake.
        world.ends[0].disk.clear();
        world.kill(0, false);
        world.say();
        while world.ends[0].disk.is_empty() {
            world.run(STEP);
            assert!(world.ends[1].disk.len() == 1, "{:?}", world.ends[1].disk.keys());
        }
    }
    world.run(Duration::from_secs(1));
    world.kill(1, false);
    world.say();
    world.run(Duration::from_secs(1));
    let session = world.ends[1].sessions.sessions().next().unwrap();
    assert_eq!((session.resumes, world.ends[1].disk.len()), (1, 1), "what is on disk is the latest");
}

#[test]
fn a_key_that_forgers_have_used_up_is_replaced_by_a_resume() {
    let mut world = World::talking();
    let resumes = |world: &World, index: usize| world.ends[index].sessions.sessions().next().unwrap().resumes;
    assert_eq!((resumes(&world, 0), resumes(&world, 1)), (0, 0));
    let session = world.ends[1].sessions.sessions.get_mut(&id(1)).unwrap();
    session.bound_mut().unwrap().opener().unwrap().set_failures(FAILURES_MAX);
    world.say();
    world.run(Duration::from_secs(1));
    assert_eq!((resumes(&world, 0), resumes(&world, 1)), (1, 1));
    let heard = world.ends[1].sessions.sessions().next().unwrap().received_bytes;
    assert_eq!(heard, 2 * b"something to say".len() as u64);
}
