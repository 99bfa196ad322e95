//! Order, room and shares of one link.

use super::*;
use crate::io::LinkId;
use crate::rng::Rng;

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

impl LinkQueue {
    /// One of the node's own packets.
    fn push_data(&mut self, flow: u32, packet: Vec<u8>) -> bool {
        self.push_packet(Lane::Data, None, flow, packet, at(0))
    }

    fn push_link_frame(&mut self, frame: Vec<u8>) -> bool {
        self.push_frame(Order::InTurn, frame)
    }

    /// What leaves now, by the first byte of each frame.
    fn leaves(&mut self) -> Vec<u8> {
        core::iter::from_fn(|| self.pop(at(0))).map(|(_, frame)| frame[0]).collect()
    }
}

#[test]
fn nothing_leaves_without_room_and_control_goes_first() {
    let mut queue = LinkQueue::default();
    assert!(queue.push_data(1, vec![0; 100]));
    assert!(queue.push_link_frame(vec![1; 10]));
    assert_eq!(queue.pop(at(0)), None);
    queue.add_room(Lane::Data, 1);
    queue.add_room(Lane::Control, 1);
    assert_eq!(queue.pop(at(0)), Some((Lane::Control, vec![1; 10])));
    assert_eq!(queue.pop(at(0)), Some((Lane::Data, vec![0; 100])));
    assert!(queue.push_data(1, vec![0; 1]));
    queue.add_room(Lane::Data, 99);
    assert_eq!(queue.pop(at(0)), None, "room was overdrawn by 99");
    queue.add_room(Lane::Data, 1);
    assert!(queue.pop(at(0)).is_some() && queue.is_empty());
}

#[test]
fn a_small_flow_passes_a_large_one() {
    let mut queue = LinkQueue::default();
    queue.add_room(Lane::Data, usize::MAX);
    for _ in 0..30 {
        assert!(queue.push_data(1, vec![1; 60_000]));
    }
    assert!(queue.push_data(2, vec![2; 100]));
    let position = (0..).find(|_| queue.pop(at(0)).is_some_and(|(_, packet)| packet[0] == 2));
    assert!(position.is_some_and(|position| position <= 2), "{position:?}");
}

#[test]
fn equal_flows_share_alike_whatever_their_packet_size() {
    let mut queue = LinkQueue::default();
    queue.add_room(Lane::Data, 1_000_000);
    for _ in 0..1000 {
        assert!(queue.push_data(1, vec![1; 1000]));
    }
    for _ in 0..25 {
        assert!(queue.push_data(2, vec![2; 40_000]));
    }
    let mut bytes = [0usize; 3];
    while let Some((_, packet)) = queue.pop(at(0)) {
        bytes[usize::from(packet[0])] += packet.len();
    }
    assert!(bytes[1].abs_diff(bytes[2]) <= 2 * 64 * 1024, "{bytes:?}");
}

#[test]
fn waiting_marks_and_a_full_queue_drops() {
    let mut queue = LinkQueue::default();
    queue.add_room(Lane::Data, usize::MAX);
    assert!(queue.push_data(1, vec![0; 100]));
    let (_, packet) = queue.pop(at(5_001)).unwrap();
    assert_eq!((packet[1], queue.marked()), (1, 1));
    while queue.push_data(1, vec![0; 60_000]) {}
    assert!(queue.data_bytes() <= MAX_DATA_BYTES && queue.dropped() == 1);
    while queue.push_link_frame(vec![0; 1000]) {}
    assert_eq!(queue.dropped(), 2);
}

#[test]
fn who_fills_the_queue_keeps_nobody_else_out() {
    let mut queue = LinkQueue::default();
    while queue.push_data(1, vec![1; 1000]) {}
    let refused = queue.dropped();
    for label in 2..12 {
        for _ in 0..10 {
            assert!(queue.push_data(label, vec![2; 1200]), "{label}");
        }
    }
    // Of the first flow, and no more than it takes.
    let taken = 10 * 10 * 1200_u64;
    assert!((taken / 1000..=taken / 1000 + 1).contains(&(queue.dropped() - refused)), "{}", queue.dropped());
    assert!(!queue.push_data(1, vec![1; 1000]), "it is the longest itself");
    assert!(queue.data_bytes() <= MAX_DATA_BYTES);
    queue.add_room(Lane::Data, usize::MAX);
    let mut bytes = [0usize; 3];
    let waiting = queue.data_bytes();
    while let Some((_, packet)) = queue.pop(at(0)) {
        bytes[usize::from(packet[0])] += packet.len();
    }
    assert_eq!((bytes[2], bytes[1] + bytes[2]), (10 * 10 * 1200, waiting));
    assert!(queue.is_empty());
}

#[test]
fn one_flow_after_the_other_is_the_longest() {
    let mut queue = LinkQueue::default();
    for label in 0..1000 {
        for _ in 0..50 {
            queue.push_data(label, vec![0; 60_000 - usize::try_from(label).unwrap()]);
            assert!(queue.data_bytes() <= MAX_DATA_BYTES);
        }
        // A newcomer has room while there is a longer one, which as few as these have.
        let fits = queue.push_data(5000 + label, vec![0; 1000]);
        assert!(fits || label > 5, "{label}");
    }
    queue.add_room(Lane::Data, usize::MAX);
    let (mut left, mut count) = (queue.data_bytes(), 0);
    while let Some((_, packet)) = queue.pop(at(0)) {
        left -= packet.len();
        count += 1;
    }
    assert!(left == 0 && count > 0 && queue.is_empty());
}

#[test]
fn control_leaves_as_it_came_while_there_is_room_for_it() {
    let mut queue = LinkQueue::default();
    queue.add_room(Lane::Control, 1000);
    let frames = [Order::InTurn, Order::Last].map(Some).into_iter().chain([None; 2]);
    for (number, order) in (0..).zip(frames.cycle().take(8)) {
        let frame = vec![number; 100];
        assert!(match order {
            Some(order) => queue.push_frame(order, frame),
            None => queue.push_packet(Lane::Control, Some(LinkId(number.into())), number.into(), frame, at(0)),
        });
    }
    assert_eq!(queue.leaves(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn link_frames_that_wait_go_first_and_the_goodbye_last() {
    let mut queue = LinkQueue::default();
    assert!(queue.push_packet(Lane::Control, None, 0, vec![0; 100], at(0)));
    assert!(queue.push_frame(Order::Last, vec![3; 10]));
    assert!(queue.push_link_frame(vec![1; 10]));
    assert!(queue.push_link_frame(vec![2; 10]));
    queue.add_room(Lane::Control, 1000);
    assert_eq!(queue.leaves(), [1, 2, 0, 3]);
    assert!(queue.is_empty() && queue.dropped() == 0);
}

#[test]
fn packets_keep_no_link_frame_out_nor_those_of_another_neighbour() {
    let mut queue = LinkQueue::default();
    while queue.push_packet(Lane::Control, Some(LinkId(1)), 0, vec![1; 1000], at(0)) {}
    assert!(queue.push_packet(Lane::Control, Some(LinkId(2)), 0, vec![2; 1000], at(0)));
    assert!(queue.push_link_frame(vec![3; 1000]) && !queue.is_choked());
    queue.add_room(Lane::Control, 32 * 1024);
    let left = queue.leaves();
    assert!(left[0] == 3 && left.contains(&2), "{left:?}");
}

#[test]
fn news_takes_the_place_of_older_news_and_of_nothing_else() {
    let mut queue = LinkQueue::default();
    let chain = |tree| Order::Latest(Subject::Chain(tree));
    for (number, order) in (0..).zip([chain(0), chain(1), Order::InTurn, chain(0), Order::InTurn]) {
        assert!(queue.push_frame(order, vec![number; 10]));
    }
    for _ in 0..100_000 {
        assert!(queue.push_frame(Order::Latest(Subject::Neighbourhood), vec![5; 1000]));
    }
    queue.add_room(Lane::Control, usize::MAX);
    assert_eq!(queue.leaves(), [1, 2, 3, 4, 5]);
}

/// Who has not heard the root does not believe the chain.
#[test]
fn a_beacon_keeps_its_turn_before_the_chain() {
    use crate::address::TreeId;
    use crate::wire::link::{BeaconFrame, Frame};
    let beacon = || Frame::Beacon(BeaconFrame { beacon: vec![7; 100], age_ms: 0 });
    assert_eq!(Order::of(&beacon()), Order::InTurn);
    let mut queue = LinkQueue::default();
    let chain = Order::Latest(Subject::Chain(TreeId::ALL[1].get()));
    for (number, order) in (0..).zip([Order::of(&beacon()), chain, Order::of(&beacon())]) {
        assert!(queue.push_frame(order, vec![number; 10]));
    }
    queue.add_room(Lane::Control, usize::MAX);
    assert_eq!(queue.leaves(), [0, 1, 2]);
}

#[test]
fn a_link_frame_without_room_chokes_the_queue() {
    let mut queue = LinkQueue::default();
    while queue.push_link_frame(vec![0; 1000]) {}
    assert!(queue.is_choked() && queue.dropped() == 1);
    assert!(!queue.push_link_frame(vec![0; 1]), "nothing after it, either");
}

/// One has all labels, and packets of any length; of the others each has one flow with little in it.
#[test]
fn many_labels_are_one_neighbour() {
    let mut queue = LinkQueue::default();
    let mut push = |link, flow, bytes| queue.push_packet(Lane::Data, Some(LinkId(link)), flow, vec![0; bytes], at(0));
    for label in 0..20_000 {
        push(0, label, 1400 - usize::try_from(label % 1000).unwrap());
    }
    for link in 1..100 {
        for _ in 0..8 {
            assert!(push(link, 0, 1000), "{link}");
        }
    }
    assert!(!push(0, 30_000, 1400), "it has most");
    assert!(queue.data_bytes() <= MAX_DATA_BYTES);
}

#[test]
fn what_came_in_and_was_not_dropped_comes_out() {
    let mut rng = Rng::from_seed([7; 32]);
    let mut queue = LinkQueue::default();
    let (mut pushed, mut left) = (0, 0);
    for _ in 0..20_000 {
        let source = [None, Some(LinkId(rng.below(40)))][rng.index(2)];
        let (flow, bytes) = (u32::try_from(rng.below(60)).unwrap(), 1 + rng.index(60_000));
        queue.push_packet(Lane::Data, source, flow, vec![0; bytes], at(0));
        pushed += 1;
        if rng.below(3) == 0 {
            queue.add_room(Lane::Data, 20_000);
            left += queue.leaves().len();
        }
        assert!(queue.data_bytes() <= MAX_DATA_BYTES);
    }
    queue.add_room(Lane::Data, usize::MAX);
    left += queue.leaves().len();
    assert!(queue.is_empty());
    assert_eq!(u64::try_from(left).unwrap() + queue.dropped(), pushed);
}
