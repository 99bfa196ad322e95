//! What a neighbour that says too many words gets.

use overlay::io::Transmit;

use super::words::Word;
use super::*;
use crate::links::Input;
use crate::links::lane::Arrival;

/// Far beyond what anything here takes: a limit for a hang, not a measurement.
const HANG: Duration = Duration::from_secs(60);
/// Many more than an honest neighbour makes in a day.
const OFFERS: u32 = 100_000;
/// For the overlay, behind the words.
const LAST: &[u8] = &[0xff];

/// Two nodes' links; the first one has dialled.
async fn linked() -> [(Links, LinkId); 2] {
    let start = |seed| {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        Links::start(Zeroizing::new([seed; 32]), listen, true).unwrap()
    };
    let [mut near, mut far] = [start(1), start(2)];
    let address = until(&mut far, |input| match input {
        Input::Listening(addresses) => addresses.first().cloned(),
        _ => None,
    });
    near.dial(address.await);
    let up = |input: &Input| if let Input::Up { link, .. } = input { Some(*link) } else { None };
    let (near_link, far_link) = tokio::join!(until(&mut near, up), until(&mut far, up));
    [(near, near_link), (far, far_link)]
}

async fn until<R>(links: &mut Links, wanted: impl Fn(&Input) -> Option<R>) -> R {
    let finding = async {
        loop {
            let mut inputs = Vec::new();
            links.next(&mut inputs).await;
            if let Some(found) = inputs.iter().find_map(&wanted) {
                return found;
            }
        }
    };
    tokio::time::timeout(HANG, finding).await.expect("hangs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_without_end_cost_a_few_takes() {
    let [(mut near, near_link), (mut far, far_link)] = linked().await;
    let offers = (1..=OFFERS).map(|attempt| Word::Offer { attempt, random: [9; RANDOM_BYTES] }.to_bytes());
    // Nobody reads what comes back: `near` has no turn from here on.
    for bytes in offers.chain([LAST.to_vec()]) {
        near.transmit(Transmit { link: near_link, lane: Lane::Control, bytes });
    }
    until(&mut far, |input| matches!(input, Input::Frame { bytes, .. } if bytes == LAST).then_some(())).await;
    assert!(far.links[&far_link].bulk.unwritten_words <= MAX_UNWRITTEN_WORDS);
    far.transmit(Transmit { link: far_link, lane: Lane::Control, bytes: LAST.to_vec() });
    let mut takes = 0;
    let reading = async {
        while let Some(Arrival::Frame { bytes, .. }) = near.control.recv().await
            && bytes != LAST
        {
            takes += 1;
        }
    };
    tokio::time::timeout(HANG, reading).await.expect("hangs");
    let most = OFFERS_AT_ONCE + u32::try_from(HANG.as_secs()).unwrap();
    assert!((1..=most).contains(&takes), "{takes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_wait_until_those_before_are_written() {
    let [_near, (mut far, far_link)] = linked().await;
    let link = far.links.get_mut(&far_link).unwrap();
    assert_eq!((0..100).filter(|_| say(link, Word::Ask)).count(), MAX_UNWRITTEN_WORDS);
    let writing = async {
        while far.links[&far_link].bulk.unwritten_words > 0 {
            far.next(&mut Vec::new()).await;
        }
    };
    tokio::time::timeout(HANG, writing).await.expect("hangs");
    assert!(say(far.links.get_mut(&far_link).unwrap(), Word::Ask));
}
