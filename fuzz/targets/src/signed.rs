//! What is signed: genesis, records, grants and chains of them. The fuzzer cannot forge a signature, but whoever has a key signs what he likes: so these
//! are signed here, or the signature counts as right, and what lies behind it is decoded.

use std::sync::LazyLock;

use overlay::address::{FIRST_TREE, MAX_DEPTH};
use overlay::genesis::{Genesis, SignedGenesis};
use overlay::grant::{GRANT_BYTES, Grant, GrantChain, MAX_CHAIN};
use overlay::id::{CheckEach, CheckSignatures, Identity, NodeId, SIGNATURE_BYTES, Signature};
use overlay::membership::{MAX_MEMBERSHIP_BYTES, Membership};
use overlay::record::{MAX_LIFETIME_S, MAX_RECORD_BYTES, REVOKED_SEQ, Record, Revocation, SignedRecord};

use crate::script::Script;

/// Takes every signature for right.
pub struct Believe;

impl CheckSignatures for Believe {
    fn check(&self, _: &NodeId, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// Who signs here.
static SIGNER: LazyLock<Identity> = LazyLock::new(|| Identity::from_secret(&[7; 32]));

/// What is accepted is within all limits and has one encoding.
pub fn overlay_signed(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    match script.below(4) {
        0 => genesis(script.rest()),
        1 => record(script.rest()),
        2 => {
            let bytes = script.rest();
            grants(bytes);
            membership(bytes);
        }
        _ => {
            assert!(SignedRecord::verify(script.rest()).is_err(), "a forged record");
        }
    }
}

fn genesis(body: &[u8]) {
    assert!(SignedGenesis::from_bytes(body).is_err(), "a forged genesis");
    let mut bytes = body.to_vec();
    let Some(founder) = bytes.get_mut(1..33) else { return };
    founder.copy_from_slice(SIGNER.id().as_bytes());
    let signature = SIGNER.sign(&[b"muses-genesis-v1\0", bytes.as_slice()].concat());
    bytes.extend_from_slice(&signature);
    let Ok(genesis) = SignedGenesis::from_bytes(&bytes) else { return };
    assert_eq!(genesis.as_bytes(), bytes);
    assert_eq!(SignedGenesis::sign(&SIGNER, *genesis.genesis()), Ok(genesis));
}

fn record(body: &[u8]) {
    let mut bytes = body.to_vec();
    let Some(signer) = bytes.get_mut(1..33) else { return };
    signer.copy_from_slice(SIGNER.id().as_bytes());
    bytes.extend_from_slice(&[0; SIGNATURE_BYTES]);
    let Ok(record) = SignedRecord::verify_with(&bytes, &Believe) else { return };
    assert!(bytes.len() <= MAX_RECORD_BYTES && (1..=MAX_LIFETIME_S).contains(&record.lifetime_s()));
    assert_eq!(record.key(), &record.query().key());
    assert_eq!(record.is_revocation(), record.seq() == REVOKED_SEQ);
    if matches!(record.record(), Record::Revocation(Revocation { recovery: Some(_), .. })) {
        assert!(SignedRecord::verify(&bytes).is_err(), "a forged revocation");
        return;
    }
    let again = SignedRecord::sign(&SIGNER, record.record().clone()).expect("what was accepted can be signed");
    assert_eq!(again.as_bytes().split_last_chunk::<SIGNATURE_BYTES>().map(|(said, _)| said), Some(body_of(&bytes)));
    assert_eq!(SignedRecord::verify(again.as_bytes()).as_ref(), Ok(&again));
}

fn body_of(bytes: &[u8]) -> &[u8] {
    bytes.split_last_chunk::<SIGNATURE_BYTES>().map_or(bytes, |(said, _)| said)
}

fn membership(bytes: &[u8]) {
    let genesis = Genesis { founder: SIGNER.id(), q: 32, trees: 1, created_unix_s: 0, open: false };
    let genesis = SignedGenesis::sign(&SIGNER, genesis).expect("a sensible genesis");
    // Whoever is named last; who is named by nobody is not tried.
    let Some(named) =
        bytes.len().checked_sub(32 + 1 + SIGNATURE_BYTES).and_then(|at| bytes.get(at..)?.first_chunk::<32>())
    else {
        return;
    };
    let member = NodeId::from_bytes(*named);
    let Ok(membership) = Membership::verify(bytes, &genesis, &member, &Believe) else { return };
    assert_eq!(membership.as_bytes(), bytes);
    assert!(bytes.len() <= MAX_MEMBERSHIP_BYTES);
    assert!(Membership::verify(bytes, &genesis, &member, &CheckEach).is_err(), "a forged membership");
}

fn grants(bytes: &[u8]) {
    if let Ok(grant) = Grant::from_bytes(bytes) {
        assert_eq!(grant.to_bytes(), bytes);
    }
    let Ok(chain) = GrantChain::from_bytes(bytes) else { return };
    assert_eq!(chain.to_bytes(), bytes);
    assert!(chain.grants().len() <= MAX_CHAIN && bytes.len() <= MAX_CHAIN * GRANT_BYTES);
    let linked = chained(&chain);
    let (Some(root), Some(last)) = (linked.root(), linked.grants().last()) else { return };
    for q in [3, 64, 256] {
        if let Ok(address) = linked.verify(&root, &last.child, FIRST_TREE, q, &Believe) {
            assert!(address.depth() <= MAX_DEPTH && address.depth() >= linked.grants().len());
        }
    }
}

/// The chain with what has to agree from grant to grant made to agree: what is left are slots and epochs.
fn chained(chain: &GrantChain) -> GrantChain {
    let mut linked = GrantChain::default();
    let mut parent = NodeId::from_bytes([0; 32]);
    for grant in chain.grants() {
        let mut grant = grant.clone();
        (grant.parent, grant.tree) = (parent, FIRST_TREE);
        parent = grant.child;
        linked = linked.extended(grant);
    }
    linked
}
