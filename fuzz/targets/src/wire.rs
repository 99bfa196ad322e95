//! What travels over links: frames of neighbours, and routed packets.

use overlay::address::Place;
use overlay::wire::link::{self, Frame};
use overlay::wire::packet::{Header, Kind, MAX_DETOUR, MAX_HEADER_BYTES, MAX_HINTS, mark_ecn};

/// A frame that was taken is within all limits, and means the same when it is written again, in no more bytes. (The lengths in it may have been written
/// longer than needed, so it need not be the same bytes.)
pub fn overlay_frames(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    let again = frame.encode();
    assert!(again.len() <= bytes.len());
    assert_eq!(Frame::decode(&again).as_ref(), Ok(&frame));
    if let Frame::Hello(hello) = &frame {
        let addresses = link::from_wire(&hello.addresses);
        assert!(addresses.len() <= link::MAX_ADDRESSES);
        assert_eq!(link::from_wire(&link::to_wire(&addresses, link::MAX_ADDRESSES)), addresses);
    }
}

/// A header that was taken is written back as the same bytes, and what relays do to it keeps it one.
pub fn overlay_packets(bytes: &[u8]) {
    let Ok((mut header, payload_at)) = Header::decode(bytes) else { return };
    assert!(payload_at <= bytes.len().min(MAX_HEADER_BYTES));
    assert!(header.hints.len() <= MAX_HINTS && header.detour.len() <= MAX_DETOUR);
    let payload = bytes.get(payload_at..).unwrap_or_default();
    assert_eq!(header.with_payload(payload), bytes);

    let mut packet = bytes.to_vec();
    header.ttl = header.ttl.saturating_sub(1);
    header.ecn = true;
    mark_ecn(&mut packet);
    header.update(&mut packet);
    assert_eq!(Header::decode(&packet), Ok((header.clone(), payload_at)));

    // Walks are not sent on to anybody's other place.
    if header.kind == Kind::DhtWalk {
        return;
    }
    let hops = header.hops();
    let place = Place { addresses: header.return_place.addresses.clone(), seq: 1 };
    header.turn_to(&place, &[]);
    assert!(header.hops() >= hops || header.ttl == 0);
    assert!(Header::decode(&header.with_payload(payload)).is_ok());
}
