//! CLOAK: an overlay of chained links, addressed in the hyperbolic plane. Pure: no sockets, no clock, no entropy.

pub mod address;
pub mod codec;
pub mod dht;
pub mod genesis;
pub mod grant;
pub mod hyperbolic;
pub mod id;
pub mod io;
pub mod potential;
pub mod queue;
pub mod record;
pub mod rng;
pub mod time;
pub mod timer;
pub mod wire;
