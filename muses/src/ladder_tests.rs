//! Two ends that lose, delay and repeat each other's messages have a rung of the ladder in common all the time.

use super::*;

/// One of two ends between which any message may be lost, late or repeated.
struct Walker {
    end: End,
    attempt: Option<Proposal>,
    /// Answers of its own, by the nonce that they answer.
    offers: Vec<([u8; 32], Vec<u8>, Agreed)>,
    /// It climbed, and has heard nothing under the new epoch yet.
    waits: bool,
}

enum Sent {
    ReHello(Vec<u8>),
    Answer(Vec<u8>),
    Packet(Vec<u8>),
}

impl Walker {
    fn new(end: End) -> Self {
        Self { end, attempt: None, offers: Vec::new(), waits: false }
    }

    fn ask(&mut self, rng: &mut Rng) -> Sent {
        let proposal = Proposal::new(&self.end.secrets, b"", b"", rng).ok().unwrap();
        Sent::ReHello(self.attempt.insert(proposal).packet().to_vec())
    }

    fn say(&mut self) -> Sent {
        Sent::Packet(self.end.sealer.seal(b"news").unwrap().1)
    }

    fn hear(&mut self, sent: &Sent, rng: &mut Rng) -> Option<Sent> {
        match sent {
            Sent::ReHello(packet) => {
                let hello = ReHello::verify(&self.end.secrets, packet).ok()?;
                let na = *hello.na();
                if let Some((_, answer, _)) = self.offers.iter().find(|(known, _, _)| *known == na) {
                    return Some(Sent::Answer(answer.clone()));
                }
                let (answer, agreed) = hello.answer(&mut self.end.secrets, b"", rng).ok()?;
                self.offers.push((na, answer.clone(), agreed));
                Some(Sent::Answer(answer))
            }
            Sent::Answer(packet) => {
                let (_, agreed) = self.attempt.as_mut()?.handle_answer(&self.end.secrets, packet).ok()?;
                self.attempt = None;
                self.offers.clear();
                self.end.adopt(agreed);
                self.waits = true;
                Some(self.say())
            }
            Sent::Packet(packet) => {
                if self.end.opener.open(packet).is_ok() {
                    if core::mem::take(&mut self.waits) || self.offers.is_empty() {
                        self.end.secrets.settle();
                    }
                    return None;
                }
                let opened = self.offers.iter_mut().rposition(|(_, _, agreed)| agreed.open(packet).is_ok())?;
                let (_, _, agreed) = self.offers.drain(..=opened).next_back()?;
                self.attempt = None;
                self.end.adopt(agreed);
                self.waits = false;
                if !self.offers.is_empty() {
                    self.end.secrets.unsettle();
                }
                Some(self.say())
            }
        }
    }

    /// What it has left after an outage.
    fn after_an_outage(&self) -> Secrets {
        let mut secrets = self.end.stored();
        secrets.forget_previous();
        secrets
    }
}

/// Who asked is several answers further when the first packet under the first of them arrives.
#[test]
fn the_oldest_first_packet_leaves_nobody_behind() {
    let mut rng = Rng::from_seed([5; 32]);
    for answers in 1..8 {
        let Session { a, b, .. } = Session::new();
        let (mut a, mut b) = (Walker::new(a), Walker::new(b));
        let mut first = None;
        for _ in 0..answers {
            let asked = a.ask(&mut rng);
            let answer = b.hear(&asked, &mut rng).unwrap();
            let packet = a.hear(&answer, &mut rng).unwrap();
            first.get_or_insert(packet);
        }
        b.hear(&first.unwrap(), &mut rng).unwrap();
        let (left, right) = (a.after_an_outage(), b.after_an_outage());
        let again = Proposal::new(&left, b"", b"", &mut rng).ok().unwrap();
        assert_eq!(ReHello::verify(&right, again.packet()).err(), None, "{answers} answers");
    }
}

/// Whatever comes late, twice or never, and however long the outage is that begins then.
#[test]
fn two_ends_always_share_a_rung() {
    let mut rng = Rng::from_seed([4; 32]);
    for walk in 0..300 {
        let Session { a, b, .. } = Session::new();
        let mut ends = [Walker::new(a), Walker::new(b)];
        let mut sent: Vec<(usize, Sent)> = Vec::new();
        for step in 0..60 {
            let dice = rng.below(100);
            let who = usize::try_from(rng.below(2)).unwrap();
            if dice < 65 && !sent.is_empty() {
                // More often something new than something old.
                let age = if dice < 50 { rng.below(3) } else { rng.below(sent.len() as u64) };
                let index = sent.len() - 1 - usize::try_from(age).unwrap().min(sent.len() - 1);
                let to = 1 - sent[index].0;
                let reply = ends[to].hear(&sent[index].1, &mut rng);
                sent.extend(reply.map(|reply| (to, reply)));
            } else if dice < 85 {
                sent.push((who, ends[who].ask(&mut rng)));
            } else if dice < 95 {
                sent.push((who, ends[who].say()));
            } else {
                ends[who].offers.clear();
            }
            let left = [0, 1].map(|end: usize| ends[end].after_an_outage());
            assert!(left.iter().all(|secrets| secrets.rungs().count() <= MAX_RUNGS));
            let again = Proposal::new(&left[0], b"", b"", &mut rng).ok().unwrap();
            assert!(again.packet().len() <= MAX_RESUME_PACKET_BYTES);
            assert_eq!(ReHello::verify(&left[1], again.packet()).err(), None, "walk {walk}, step {step}");
        }
    }
}
