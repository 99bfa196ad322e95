//! Where bulk lanes come in: at the listeners of the links, told apart by their first byte.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use multiaddr::Multiaddr;
use overlay::io::LinkId;

use super::keys::{FIRST_BYTE, KNOCK_BYTES, Keys, NAME_BYTES, PROOF_BYTES};
use super::{News, NewsIn};
use crate::links::gate::GatedStream;
use crate::links::transport::Dialler;

/// The door of one node. Clones are the same door.
#[derive(Clone)]
pub(in crate::links) struct Door(Arc<Shared>);

struct Shared {
    /// By name; at most one for each link.
    expected: Mutex<BTreeMap<[u8; NAME_BYTES], Expected>>,
    news: NewsIn,
}

struct Expected {
    link: LinkId,
    attempt: u32,
    keys: Keys,
}

impl Door {
    pub(in crate::links) fn new(news: NewsIn) -> Self {
        Self(Arc::new(Shared { expected: Mutex::default(), news }))
    }

    /// Lets the lane in that has these keys, once; what was expected for this link before is not any more.
    pub(super) fn expect(&self, link: LinkId, attempt: u32, keys: Keys) {
        let mut expected = self.lock();
        expected.retain(|_, other| other.link != link);
        expected.insert(keys.name(), Expected { link, attempt, keys });
    }

    /// The link is gone.
    pub(in crate::links) fn forget(&self, link: LinkId) {
        self.lock().retain(|_, expected| expected.link != link);
    }

    /// Gives a new connection back when it is libp2p's. Otherwise it is a bulk lane, or of a stranger, and the error says which.
    ///
    /// # Errors
    /// When there is nothing left for libp2p to do.
    pub(in crate::links) async fn sort(&self, stream: GatedStream) -> io::Result<GatedStream> {
        match stream.peek().await? {
            Some(FIRST_BYTE) => {
                Err(self.admit(stream).await.err().unwrap_or_else(|| io::Error::other("it is a bulk lane")))
            }
            _ => Ok(stream),
        }
    }

    async fn admit(&self, stream: GatedStream) -> io::Result<()> {
        let stranger =
            || io::Error::new(io::ErrorKind::PermissionDenied, "it knocked as a bulk lane that is not expected");
        let knock: [u8; KNOCK_BYTES] = read_array(&stream).await?;
        let name = knock.get(1..).and_then(|rest| rest.first_chunk()).ok_or_else(stranger)?;
        let Expected { link, attempt, keys } = {
            let mut expected = self.lock();
            // A name without its proof must not use up what is expected.
            if !expected.get(name).is_some_and(|expected| expected.keys.is_knock(&knock)) {
                return Err(stranger());
            }
            expected.remove(name).ok_or_else(stranger)?
        };
        write_all(&stream, &keys.answer()).await?;
        let _ = self.0.news.send(News::Proven { link, attempt, stream, keys: Box::new(keys) });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; NAME_BYTES], Expected>> {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// D's side: dials, and shows its key.
///
/// # Errors
/// When nobody is there, or not the neighbour.
pub(super) async fn knock(dialler: &Dialler, address: &Multiaddr, keys: &Keys) -> io::Result<GatedStream> {
    let stream = dialler.dial(address).await?;
    write_all(&stream, &keys.knock()).await?;
    let answer: [u8; PROOF_BYTES] = read_array(&stream).await?;
    if keys.is_answer(&answer) { Ok(stream) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

async fn read_array<const N: usize>(stream: &GatedStream) -> io::Result<[u8; N]> {
    let mut bytes = Vec::with_capacity(N);
    while bytes.len() < N {
        let missing = N - bytes.len();
        stream.read_into(&mut bytes, missing).await?;
    }
    bytes.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

async fn write_all(stream: &GatedStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = stream.write_some(&[io::IoSlice::new(bytes)]).await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
