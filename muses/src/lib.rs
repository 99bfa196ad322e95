//! MUSeS: secured sessions between named devices, which survive moves, outages of any length, and restarts.
//!
//! Pure: no sockets, no clock, no entropy. Of `overlay` it uses ids, time, timers and the generator; a path is opaque bytes.
//!
//! # Security (the paper's SSM)
//! Two nodes agree on SessID = pSessID-a . pSessID-b in [four messages](handshake), with keys [certified](cert) by their
//! identities. The handshake leaves behind one small value, [`keys::Secrets`], and the keys of the first epoch. Packets are
//! [sealed and opened](packet) by the [cipher] that both agreed on, under the keys of an epoch; a [window](replay) lets every packet number through once.
//!
//! After an outage, a move or a restart the ends [`resume`]: Re-Hello, answer, and the first packet of a new epoch, which
//! proves the path. That takes symmetric cryptography only; [`dh::PublicKeyOps`] counts what would be more.
//!
//! # Reliability (SRM)
//! [`sessions::Sessions`] is the endpoint: at most one session with each peer, set up by the first stream and kept. Inside it
//! a *flow* turns streams into [frames](frame) and back: exact byte streams with half-close, credit for each and for all, and
//! [acknowledgement](ack), [loss detection](recovery) and a [window](congestion) that heeds marks and delay before loss.
//! Packet numbers are never used twice; what was lost travels again in a new packet.
//!
//! ```text
//! application -> write -> SendHalf -> Flow::poll -> Sealer -> Outgoing          (back-pressure: write takes 0)
//! Arrival -> Opener -> Flow::handle -> RecvHalf -> read -> application           (back-pressure: credit)
//! ```
//!
//! A session whose path falls silent is *suspended*: nothing is taken from applications, nothing is closed, however long
//! it lasts. A new place of this node, or a new path of the peer, sets off a Re-Hello at once; what was in flight is sent
//! again right after the resume, but for what the peer says it has.
//!
//! # Keys
//! | | key | lives |
//! | --- | --- | --- |
//! | static | X25519, certified by the identity | as long as the node; 30 days a certificate |
//! | ephemeral | X25519 and ML-KEM-768 | one handshake |
//! | RS | the ladder of resume secrets, see [`keys`] | one resume, and 10 minutes as the one before; a fresh secret is mixed in every day |
//! | epoch | HKDF(RS, na . nb, SessID) | until the next resume |
//! | packet | one per direction and step of an epoch | 2^20 packets, 1 GiB or 120 s |

pub mod ack;
pub mod cert;
pub mod cipher;
pub mod config;
pub mod congestion;
pub mod content;
pub mod dh;
pub mod error;
pub mod event;
mod flow;
pub mod frame;
pub mod handshake;
mod held;
mod kdf;
mod kem;
pub mod keys;
pub mod packet;
mod pool;
pub mod recovery;
mod recv;
pub mod replay;
pub mod resume;
mod send;
mod session;
pub mod sessions;
mod stream;
pub mod window;

pub use config::Config;
pub use error::OpenError;
pub use event::{
    Arrival, Command, Event, HandshakeFailure, Outgoing, Path, Read, ResetReason, Resolved, SessionLabel, StreamKey,
};
pub use held::{MAX_HELD_BYTES, SESSION_HELD_BYTES};
pub use sessions::{SessionInfo, SessionState, Sessions};

/// Nothing that holds a key can be printed, so that none comes into a log.
#[cfg(test)]
mod secrecy {
    use core::fmt::{Debug, Display};

    use static_assertions::assert_not_impl_any;

    use crate::{cert, dh, handshake, kdf, keys, packet};

    assert_not_impl_any!(cert::StaticKey: Debug, Display);
    assert_not_impl_any!(cert::LocalKeys: Debug, Display);
    assert_not_impl_any!(dh::KeyPair: Debug, Display);
    assert_not_impl_any!(handshake::Initiator: Debug, Display);
    assert_not_impl_any!(handshake::Responder: Debug, Display);
    assert_not_impl_any!(handshake::Established: Debug, Display);
    assert_not_impl_any!(kdf::AeadKey: Debug, Display);
    assert_not_impl_any!(kdf::Kdf: Debug, Display);
    assert_not_impl_any!(keys::Secrets: Debug, Display);
    assert_not_impl_any!(keys::Agreed: Debug, Display);
    assert_not_impl_any!(packet::Sealer: Debug, Display);
    assert_not_impl_any!(packet::Opener: Debug, Display);
}
