//! CLOAK: an overlay of chained links, addressed in the hyperbolic plane. Pure: no sockets, no clock, no entropy.

pub mod address;
pub mod codec;
pub mod dht;
pub mod genesis;
pub mod grant;
pub mod id;
pub mod io;
pub mod record;
pub mod queue;
pub mod rng;
pub mod time;
pub mod timer;
pub mod wire;
