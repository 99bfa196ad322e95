//! A MUSeS over CLOAK node, as the command `muses` and as a library.
//!
//! # Streams that survive moves
//!
//! A [`Node`] is a peer of the overlay: it founds one or joins one, offers services, and opens [`MobileStream`]s to services of others, by
//! name or node id, wherever they are. No local TCP port is involved. A stream is what a TCP connection is, with tokio's [`AsyncRead`] and
//! [`AsyncWrite`], half-close and `io::Error`s, and it is encrypted between two keys that both ends know.
//!
//! ```
//! use node::{Node, Who};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let here = || "/ip4/127.0.0.1/tcp/0".parse();
//! let alice = Node::builder().listen(here()?).name("alice").start().await?;
//! let mut echo = alice.offer("echo", [Who::Anyone]).await?;
//! tokio::spawn(async move {
//!     while let Ok(stream) = echo.accept().await {
//!         stream.activate_mobility().await?;
//!         let (mut from, mut to) = tokio::io::split(stream);
//!         tokio::io::copy(&mut from, &mut to).await?;
//!         to.shutdown().await?;
//!     }
//!     Ok::<_, std::io::Error>(())
//! });
//!
//! let bob = Node::builder().listen(here()?).join(alice.addresses().await?.remove(0)).start().await?;
//! let mut stream = bob.open(&alice.id().to_string(), "echo").await?;
//! stream.activate_mobility().await?;
//! stream.write_all(b"hello").await?;
//!
//! // Bob goes elsewhere; the stream goes with him.
//! bob.handle().network_down().await?;
//! bob.handle().network_up(Some("127.0.0.2".parse()?)).await?;
//!
//! stream.shutdown().await?;
//! let mut back = String::new();
//! stream.read_to_string(&mut back).await?;
//! assert_eq!(back, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # MobiSocket's verbs
//!
//! The streams are the socket that *Mobile TCP socket for secure applications* (Thanh, Urano) proposes; what that paper leaves to
//! applications, the security of an update above all, is done by the session below.
//!
//! | the paper | here | when nobody calls it |
//! | --- | --- | --- |
//! | `acvMobi` | [`activate_mobility`](Control::activate_mobility) | the stream fails on a move, as TCP does |
//! | `updateTCB` | [`update_address`](Control::update_address) | moves are noticed by the system's word about interfaces, and by silence |
//! | `copyTCB` | [`copy_to_interface`](Control::copy_to_interface) | links stay on an interface as long as it works |
//! | `resetTimer` | [`reset_timers`](Control::reset_timers) | a node that moved tries at once anyway; others by their backoff, at most 30 s |
//!
//! They are methods of the stream, and of its [`Control`] for who has split it.
//!
//! The examples `echo` and `download` are whole programs.
//!
//! [`AsyncRead`]: tokio::io::AsyncRead
//! [`AsyncWrite`]: tokio::io::AsyncWrite

mod advice;
mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod dashboard;
pub mod dial_back;
pub mod driver;
pub mod exit;
pub mod facts;
pub mod files;
pub mod folder;
pub mod identity;
pub mod invite;
pub mod lan;
pub mod links;
pub mod local;
pub mod machine;
pub mod metrics;
pub mod reach;
pub mod recovery;
mod span;
pub mod stack;
pub mod store;
pub mod token;
pub mod upnp;
pub mod way;
pub mod web;
mod words;

pub use api::{Builder, Control, MobileStream, Node, Offer, Update};
pub use overlay::id::NodeId;
pub use stack::Who;
