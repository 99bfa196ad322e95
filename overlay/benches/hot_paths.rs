//! What a relay does for each packet, each frame and each record: `cargo bench -p overlay`.
//!
//! The neighbourhood is a full one: 16 neighbours in four trees, each advertising 16 of its own, and a packet with four hints.

#![allow(clippy::unwrap_used, missing_docs)]

use divan::{Bencher, black_box};
use overlay::address::{Address, AddressSet, MAX_DEPTH, Place, TreeId};
use overlay::hyperbolic::Plane;
use overlay::id::{Identity, NodeId};
use overlay::io::LinkId;
use overlay::potential::{Index, Known, Surroundings, Which, Who, next_hop};
use overlay::record::{Hint, NodeRecord, Record, SignedRecord};
use overlay::rng::Rng;
use overlay::routes::{Before, Routes};
use overlay::wire::link::{Advert, Advertised, Frame};
use overlay::wire::packet::{FIXED_BYTES, Header, Kind};

const Q: u16 = 64;
const NEIGHBOURS: usize = 16;
const ADVERTISED: usize = 16;
/// Links of a hub, as in a network of 100,000 nodes with a power law. So many only look at each other's neighbours for the destination itself.
const HUB_NEIGHBOURS: usize = 3000;
/// Edges from the root: as deep as a node of an overlay of 100,000.
const DEPTHS: (usize, usize) = (4, 7);

fn main() {
    divan::main();
}

fn word(rng: &mut Rng) -> Address {
    let depth = DEPTHS.0 + rng.index(DEPTHS.1 - DEPTHS.0);
    let ordinals: Vec<u8> = (0..depth).map(|_| u8::try_from(rng.below(8)).unwrap()).collect();
    Address::from_ordinals(&ordinals).unwrap()
}

fn addresses(rng: &mut Rng) -> AddressSet {
    let mut set = AddressSet::default();
    TreeId::ALL.into_iter().for_each(|tree| set.insert(tree, word(rng)));
    set
}

fn place(rng: &mut Rng) -> Place {
    Place { addresses: addresses(rng), seq: 1_800_000_000_000_000 }
}

fn node(rng: &mut Rng) -> NodeId {
    NodeId::from_bytes(rng.bytes())
}

fn header(rng: &mut Rng) -> Header {
    let mut header = Header::new(Kind::Data, node(rng), place(rng), node(rng), place(rng), 7);
    header.hints = (0..4).map(|_| addresses(rng)).collect();
    header
}

struct Neighbourhood {
    /// Of each neighbour, who it is, and where it and those are to whom it has links.
    told: Vec<(NodeId, Vec<AddressSet>)>,
    index: Index,
}

impl Neighbourhood {
    fn new(neighbours: usize, advertised: usize, rng: &mut Rng) -> Self {
        let mut one = |_| (node(rng), (0..=advertised).map(|_| addresses(rng)).collect());
        let told: Vec<(NodeId, Vec<AddressSet>)> = (0..neighbours).map(&mut one).collect();
        let mut index = Index::default();
        for (neighbour, (_, places)) in (0..).zip(&told) {
            let which = core::iter::once(Which::Itself).chain((0..).map(Which::Beyond));
            which.zip(places).for_each(|(which, addresses)| index.add(Who { neighbour, which }, addresses));
        }
        index.sort();
        Self { told, index }
    }
}

impl Surroundings for Neighbourhood {
    fn index(&self) -> &Index {
        &self.index
    }

    fn known(&self, who: Who) -> Option<Known<'_>> {
        let (id, places) = self.told.get(usize::try_from(who.neighbour).ok()?)?;
        let addresses = match who.which {
            Which::Beyond(number) => places.get(1 + usize::from(number))?,
            _ => places.first()?,
        };
        Some(Known { link: LinkId(who.neighbour.into()), id, addresses, load_bytes: 0 })
    }
}

fn cold(bencher: Bencher<'_, '_>, neighbours: usize, advertised: usize) {
    let mut rng = Rng::from_seed([1; 32]);
    let (plane, around) = (Plane::new(Q).unwrap(), Neighbourhood::new(neighbours, advertised, &mut rng));
    bencher
        .with_inputs(|| header(&mut rng))
        .bench_local_refs(|header| black_box(next_hop(&plane, header, black_box(&around))));
}

#[divan::bench]
fn next_hop_cold(bencher: Bencher<'_, '_>) {
    cold(bencher, NEIGHBOURS, ADVERTISED);
}

#[divan::bench]
fn next_hop_cold_at_a_hub(bencher: Bencher<'_, '_>) {
    cold(bencher, HUB_NEIGHBOURS, 0);
}

/// The worst that one packet can ask for: targets deeper than any tree.
#[divan::bench]
fn next_hop_cold_to_the_depths(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([1; 32]);
    let (plane, around) = (Plane::new(Q).unwrap(), Neighbourhood::new(NEIGHBOURS, ADVERTISED, &mut rng));
    let deep = |tree: TreeId| (tree, Address::from_ordinals(&[tree.get(); MAX_DEPTH]).unwrap());
    let mut target = AddressSet::default();
    TreeId::ALL.map(deep).into_iter().for_each(|(tree, address)| target.insert(tree, address));
    let mut header = header(&mut rng);
    header.hints = vec![target.clone(); header.hints.len()];
    header.target = target;
    bencher
        .with_inputs(|| header.clone())
        .bench_local_refs(|header| black_box(next_hop(&plane, header, black_box(&around))));
}

#[divan::bench]
fn next_hop_cached(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([2; 32]);
    let before = header(&mut rng);
    let mut after = before.clone();
    after.last = 12.5;
    let mut routes = Routes::default();
    // As it is in the packet: between what is always as long, and the place of the sender and what follows that.
    let packet = before.with_payload(b"");
    let way = packet[FIXED_BYTES..packet.len() - before.return_place.to_bytes().len() - 1].to_vec();
    routes.learn(Before::of(&before), &after, &way, LinkId(3));
    bencher.with_inputs(|| before.clone()).bench_local_refs(|header| black_box(routes.find(header, black_box(&way))));
}

#[divan::bench]
fn distance(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([3; 32]);
    let plane = Plane::new(Q).unwrap();
    bencher.with_inputs(|| (word(&mut rng), word(&mut rng))).bench_local_refs(|(a, b)| black_box(plane.distance(a, b)));
}

#[divan::bench]
fn place_encode(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([4; 32]);
    bencher.with_inputs(|| place(&mut rng)).bench_local_refs(|place| black_box(place.to_bytes()));
}

#[divan::bench]
fn place_decode(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([5; 32]);
    bencher.with_inputs(|| place(&mut rng).to_bytes()).bench_local_refs(|bytes| black_box(Place::from_bytes(bytes)));
}

#[divan::bench]
fn record_verify(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([6; 32]);
    let identity = Identity::from_secret(&rng.bytes());
    let here = place(&mut rng);
    let record = NodeRecord {
        id: identity.id(),
        seq: here.seq,
        place: here,
        static_cert: vec![7; 200],
        hints: (0..4).map(|_| Hint { id: node(&mut rng), place: place(&mut rng) }).collect(),
        multiaddrs: Vec::new(),
        flags: 0,
        lifetime_s: 3600,
    };
    let signed = SignedRecord::sign(&identity, Record::Node(record)).unwrap();
    bencher.bench_local(|| black_box(SignedRecord::verify(black_box(signed.as_bytes()))));
}

#[divan::bench]
fn advert_decode(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([7; 32]);
    let neighbours = (0..ADVERTISED)
        .map(|_| Advertised {
            id: node(&mut rng),
            place: place(&mut rng).to_bytes(),
            addresses: vec![vec![4, 10, 0, 0, 1, 6, 15, 161]],
        })
        .collect();
    let bytes = Frame::Advert(Advert { place: place(&mut rng).to_bytes(), neighbours, ..Advert::default() }).encode();
    bencher.bench_local(|| black_box(Frame::decode(black_box(&bytes))));
}

#[divan::bench]
fn packet_decode(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::from_seed([8; 32]);
    let bytes = header(&mut rng).with_payload(&[0; 1200]);
    bencher.bench_local(|| black_box(Header::decode(black_box(&bytes))));
}
