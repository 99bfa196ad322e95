//! CLOAK: an overlay of chained links, addressed in the hyperbolic plane. Pure: no sockets, no clock, no entropy.

pub mod address;
pub mod codec;
pub mod config;
pub mod dht;
mod dial;
pub mod error;
pub mod event;
mod forward;
pub mod genesis;
pub mod grant;
pub mod hyperbolic;
pub mod id;
pub mod io;
mod life;
mod links;
pub mod overlay;
pub mod potential;
pub mod queue;
pub mod record;
pub mod rng;
pub mod status;
pub mod time;
pub mod timer;
mod tree;
pub mod wire;

pub use overlay::Overlay;
