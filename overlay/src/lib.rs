//! CLOAK: an overlay of chained links, addressed in the hyperbolic plane. Pure: no sockets, no clock, no entropy.

pub mod codec;
pub mod id;
pub mod io;
pub mod rng;
pub mod time;
pub mod timer;
