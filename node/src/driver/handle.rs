//! How the rest of the process talks to the driver's loop.

use std::net::IpAddr;

use multiaddr::Multiaddr;
use overlay::time::Now;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::conn::Conn;
use crate::links::DialBack;
use crate::stack::{Answer, ConnId, Event, Failure, QueryId, Stack};

/// The node has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// Why a request was not fulfilled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The stack says why.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The node has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A cheap, cloneable reference to a running node.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::UnboundedSender<Request>,
    /// Weak, so that the receivers hear of the loop's end.
    console: broadcast::WeakSender<Event>,
}

impl Handle {
    pub(super) fn new(requests: mpsc::UnboundedSender<Request>, console: broadcast::WeakSender<Event>) -> Self {
        Self { requests, console }
    }

    /// Runs `call` on the driver's loop, which carries out afterwards what the stack then wants.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn with<R, F>(&self, call: F) -> Result<R, Stopped>
    where
        R: Send + 'static,
        F: FnOnce(&mut Stack, Now) -> R + Send + 'static,
    {
        with(&self.requests, call).await
    }

    /// The same without waiting, and without an answer.
    pub fn send(&self, call: impl FnOnce(&mut Stack, Now) + Send + 'static) {
        // A node that has ended needs nothing any more.
        let _ = self.requests.send(Request::Call(Box::new(call)));
    }

    /// Opens a connection and waits until the other side's service accepted it.
    ///
    /// # Errors
    /// Whatever kept it from opening.
    pub async fn open(&self, peer: String, service: String, port: u16) -> Result<Conn, Error> {
        let conn = self.start_open(peer, service, port).await?;
        conn.opened().await?;
        Ok(conn)
    }

    /// Opens a connection and returns at once: bytes may be written, [`Conn::opened`] tells how it went.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn start_open(&self, peer: String, service: String, port: u16) -> Result<Conn, Stopped> {
        self.ask(|reply| Request::Open { peer, service, port, reply }).await
    }

    /// Asks one of the stack's questions and waits for the answer.
    ///
    /// # Errors
    /// What the stack answers, or that the node has ended.
    pub async fn query<F>(&self, question: F) -> Result<Answer, Error>
    where
        F: FnOnce(&mut Stack, Now) -> QueryId + Send + 'static,
    {
        Ok(self.ask(|reply| Request::Ask { question: Box::new(question), reply }).await??)
    }

    /// Flight mode: all links go silent at once, without a goodbye; nothing is accepted or dialled.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn network_down(&self) -> Result<(), Stopped> {
        self.ask(|reply| Request::NetworkDown { reply }).await
    }

    /// Ends flight mode; with `bind` as if this node had moved to that address.
    ///
    /// # Errors
    /// One line when the address cannot be bound; nothing has changed then.
    pub async fn network_up(&self, bind: Option<IpAddr>) -> Result<(), String> {
        self.ask(|reply| Request::NetworkUp { bind, reply }).await.unwrap_or_else(|stopped| Err(stopped.to_string()))
    }

    /// Makes every link anew from the local address `to`, while the present one serves. How many are being made;
    /// [`Stack::copied_links`] tells how many are there.
    ///
    /// # Errors
    /// One line when the address cannot be bound; nothing has changed then.
    pub async fn copy_links(&self, to: IpAddr) -> Result<usize, String> {
        self.ask(|reply| Request::CopyLinks { to, reply }).await.unwrap_or_else(|stopped| Err(stopped.to_string()))
    }

    /// False in flight mode.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn network_is_up(&self) -> Result<bool, Stopped> {
        self.ask(|reply| Request::NetworkIsUp { reply }).await
    }

    /// The concrete addresses at which this node listens now.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn listening(&self) -> Result<Vec<Multiaddr>, Stopped> {
        self.ask(|reply| Request::Listening { reply }).await
    }

    /// The same, and those at which its router forwards a port.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn reachable_at(&self) -> Result<Vec<Multiaddr>, Stopped> {
        self.ask(|reply| Request::ReachableAt { reply }).await
    }

    /// At `outside` a router leads to this node, and no longer where an earlier call said: others are told.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn announce(&self, outside: Vec<Multiaddr>) -> Result<(), Stopped> {
        self.ask(|reply| Request::Outside { outside, reply }).await
    }

    /// What finds out whether a node answers somewhere, without a link to it.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn dial_back(&self) -> Result<DialBack, Stopped> {
        self.ask(|reply| Request::DialBack { reply }).await
    }

    /// Another receiver of console events, from now on until the node ends.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        match self.console.upgrade() {
            Some(console) => console.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Says goodbye to the neighbours, then ends the loop; returns when everything is on disk.
    pub async fn stop(&self) {
        let _ = self.stop_and_tell().await;
    }

    /// The same; what kept the last of it from being stored, if something did.
    pub async fn stop_and_tell(&self) -> Option<String> {
        self.ask(|reply| Request::Stop { reply }).await.ok().flatten()
    }

    async fn ask<R>(&self, request: impl FnOnce(oneshot::Sender<R>) -> Request) -> Result<R, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

type Call = Box<dyn FnOnce(&mut Stack, Now) + Send>;
type Question = Box<dyn FnOnce(&mut Stack, Now) -> QueryId + Send>;

/// One thing that the loop is asked to do. Unbounded, because whoever asks waits for the reply.
pub(super) enum Request {
    Call(Call),
    Open { peer: String, service: String, port: u16, reply: oneshot::Sender<Conn> },
    Ask { question: Question, reply: oneshot::Sender<Result<Answer, Failure>> },
    Forget { conn: ConnId, reset: bool },
    NetworkDown { reply: oneshot::Sender<()> },
    NetworkUp { bind: Option<IpAddr>, reply: oneshot::Sender<Result<(), String>> },
    CopyLinks { to: IpAddr, reply: oneshot::Sender<Result<usize, String>> },
    NetworkIsUp { reply: oneshot::Sender<bool> },
    Listening { reply: oneshot::Sender<Vec<Multiaddr>> },
    ReachableAt { reply: oneshot::Sender<Vec<Multiaddr>> },
    Outside { outside: Vec<Multiaddr>, reply: oneshot::Sender<()> },
    DialBack { reply: oneshot::Sender<DialBack> },
    Stop { reply: oneshot::Sender<Option<String>> },
}

pub(super) async fn with<R, F>(requests: &mpsc::UnboundedSender<Request>, call: F) -> Result<R, Stopped>
where
    R: Send + 'static,
    F: FnOnce(&mut Stack, Now) -> R + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let call = Box::new(move |stack: &mut Stack, now| {
        let _ = reply.send(call(stack, now));
    });
    requests.send(Request::Call(call)).map_err(|_| Stopped)?;
    answer.await.map_err(|_| Stopped)
}
