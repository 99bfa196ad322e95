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

#[cfg(test)]
mod tests {
    use libp2p::tcp::tokio as tcp;
    use overlay::id::NodeId;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::links::gate::Gate;

    fn keys(attempt: u32) -> Keys {
        Keys::derive(&[1; 32], &[2; 32], (NodeId::from_bytes([3; 32]), NodeId::from_bytes([4; 32])), attempt)
    }

    /// What the door does with a connection that begins so, and what it answers.
    async fn knock_with(door: &Door, first: &[u8]) -> (io::Result<GatedStream>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let mut near = near.unwrap();
        near.write_all(first).await.unwrap();
        near.shutdown().await.unwrap();
        let sorted = door.sort(Gate::open().guard(tcp::TcpStream(far.unwrap().0))).await;
        let mut answer = vec![0; PROOF_BYTES];
        let answered = if sorted.is_ok() { 0 } else { near.read(&mut answer).await.unwrap() };
        answer.truncate(answered);
        (sorted, answer)
    }

    #[tokio::test]
    async fn only_the_proof_opens_and_only_once() {
        let (news_in, mut news) = mpsc::unbounded_channel();
        let door = Door::new(news_in);
        door.expect(LinkId(7), 1, keys(1));
        let right = keys(1).knock();
        for bit in 0..8 * right.len() {
            let mut wrong = right;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let (sorted, answer) = knock_with(&door, &wrong).await;
            assert_eq!((sorted.is_ok(), answer.len()), (wrong[0] != FIRST_BYTE, 0), "bit {bit}");
        }
        assert!(news.try_recv().is_err());
        let (sorted, answer) = knock_with(&door, &right).await;
        assert!(sorted.is_err() && keys(1).is_answer(answer.as_slice().try_into().unwrap()));
        assert!(matches!(news.try_recv(), Ok(News::Proven { link: LinkId(7), attempt: 1, .. })));
        assert_eq!(knock_with(&door, &right).await.1.len(), 0, "seen on the way, and said again");
    }

    #[tokio::test]
    async fn a_link_expects_its_latest_attempt_until_it_is_gone() {
        let (news_in, mut news) = mpsc::unbounded_channel();
        let door = Door::new(news_in);
        door.expect(LinkId(7), 1, keys(1));
        door.expect(LinkId(7), 2, keys(2));
        assert_eq!(knock_with(&door, &keys(1).knock()).await.1.len(), 0);
        door.forget(LinkId(7));
        assert_eq!(knock_with(&door, &keys(2).knock()).await.1.len(), 0);
        assert!(news.try_recv().is_err());
    }
}
