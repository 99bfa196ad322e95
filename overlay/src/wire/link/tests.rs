use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn samples() -> Vec<(Frame, &'static str)> {
    let id = NodeId::from_bytes([7; 32]);
    let tree = TreeId::ALL[1];
    let contact = Contact { id, addresses: vec![vec![1, 2]] };
    let id7 = "07".repeat(32);
    let text = |s: String| -> &'static str { Box::leak(s.into_boxed_str()) };
    vec![
        (
            Frame::Hello(Hello {
                version: 1,
                genesis: vec![9],
                expected: None,
                attach_seq: 5,
                addresses: vec![vec![3]],
                flags: 0,
            }),
            "81010109000501010300",
        ),
        (
            Frame::Heartbeat(Heartbeat {
                lines: vec![Line { tree, ancestors: vec![contact.clone()], size: 6 }],
                sizes: [3, 1, 1, 1],
            }),
            text(format!("82010101{id7}010201020603010101")),
        ),
        (Frame::Probe(1), "8301"),
        (Frame::ProbeAck(1), "8401"),
        (Frame::Ask(Ask { tree, chain: vec![], no_other: true }), "85010001"),
        (Frame::Grant(Granted { grant: vec![1], chain: vec![2] }), "8601010102"),
        (Frame::Refuse(Refuse { tree, why: RefuseReason::Loop, others: vec![] }), "87010200"),
        (Frame::Chain(Chain { tree, chain: vec![4] }), "88010104"),
        (Frame::Detached(Detached { tree, levels: 2 }), "890102"),
        (
            Frame::Advert(Advert {
                place: vec![5],
                held: vec![vec![4]],
                neighbours: vec![Advertised { id, place: vec![6], addresses: vec![] }],
                standing: Standing::Mover,
            }),
            text(format!("8a010501010401{id7}01060001")),
        ),
        (Frame::Beacon(BeaconFrame { age_ms: 1, beacon: vec![1] }), "8b010101"),
        (Frame::Titles(vec![1]), "8e0101"),
        (Frame::Table(TableFrame { tree, depth: 2, own: 1, children: vec![(3, 4)] }), "8f010201010304"),
        (Frame::Proof(Proof { one: vec![1], other: vec![2] }), "9001010102"),
        (Frame::Member(vec![1, 2]), "91020102"),
        (Frame::Enrol([5; 16]), text(format!("92{}", "05".repeat(16)))),
        (Frame::Enrolled(vec![3]), "930103"),
        (Frame::Revoked(vec![4]), "940104"),
        (Frame::Release(tree), "8c01"),
        (Frame::Goodbye(Goodbye { why: GoodbyeReason::Leaving, others: vec![] }), "8d0500"),
        (Frame::Goodbye(Goodbye { why: GoodbyeReason::NotMember, others: vec![] }), "8d0600"),
        (Frame::Goodbye(Goodbye { why: GoodbyeReason::NotInvited, others: vec![] }), "8d0700"),
        (Frame::Goodbye(Goodbye { why: GoodbyeReason::Revoked, others: vec![] }), "8d0800"),
    ]
}

#[test]
fn golden_vectors() {
    for (frame, golden) in samples() {
        let bytes = frame.encode();
        assert_eq!(hex(&bytes), golden, "{frame:?}");
        assert_eq!(Frame::decode(&bytes), Ok(frame));
    }
}

#[test]
fn truncated_extended_and_unknown_frames_are_errors() {
    for (frame, _) in samples() {
        let bytes = frame.encode();
        for end in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..end]).is_err(), "{frame:?} cut at {end}");
        }
        assert!(Frame::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
    assert!(Frame::decode(&[0xff, 0]).is_err());
    assert!(Frame::decode(&[0x88, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    let long = vec![0; MAX_MEMBERSHIP_BYTES + 1];
    assert!(Frame::decode(&Frame::Member(long.clone()).encode()).is_err());
    assert!(Frame::decode(&Frame::Enrolled(long).encode()).is_err());
    let many = Advert {
        neighbours: vec![
            Advertised { id: NodeId::from_bytes([0; 32]), place: vec![], addresses: vec![] };
            MAX_ADVERTISED + 1
        ],
        ..Advert::default()
    };
    assert!(Frame::decode(&Frame::Advert(many).encode()).is_err());
}

/// Whatever a node takes as an address: else an advert could be dropped at its own node.
#[test]
fn the_longest_advert_fits_its_lane() {
    let place = vec![7; crate::address::MAX_PLACE_BYTES];
    let neighbour = |n: u8| Advertised {
        id: NodeId::from_bytes([n; 32]),
        place: place.clone(),
        addresses: vec![vec![9; MAX_ADDRESS_BYTES]],
    };
    let advert = Advert {
        place: place.clone(),
        held: vec![vec![5; crate::address::MAX_WORD_BYTES]; MAX_HELD],
        neighbours: (0..16).map(neighbour).collect(),
        standing: Standing::Relay,
    };
    assert_eq!(advert.neighbours.len(), MAX_ADVERTISED);
    let bytes = Frame::Advert(advert.clone()).encode();
    assert!(bytes.len() <= MAX_CONTROL_FRAME_BYTES, "{} bytes", bytes.len());
    assert_eq!(Frame::decode(&bytes), Ok(Frame::Advert(advert)));
}
