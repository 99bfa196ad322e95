//! The MUSeS paper's experiment with real parts, what it takes to run it, and the deterministic simulator.
//!
//! A transfer runs from Alice to Bob through an overlay of real node processes; in the middle of it Bob moves: his
//! network goes away, and after a while he is back with another address and other neighbours. The file service
//! ([`source`]) and the downloading application ([`sink`]) are plain TCP programs inside the harness, outside the nodes,
//! and the harness takes all the times. [`topology`] says which nodes there are and who may link to whom, [`process`]
//! starts one of them from our own binary and [`cluster`] all, [`network`] is what carries them (loopback, or real
//! interfaces in [`netns`]), [`experiment`] is the choreography, [`report`] judges it, [`plot`] draws it.
//!
//! [`mod@bench`] measures nodes beside plain TCP relays, [`soak`] has many of them move again and again. [`sim`] runs the same `node::stack` without processes, sockets and clock.

pub mod bench;
pub mod cluster;
pub mod command;
pub mod experiment;
mod judged;
mod memo;
mod memory;
pub mod movers;
pub mod netns;
pub mod network;
pub mod plot;
pub mod process;
pub mod progress;
pub mod report;
pub mod scale;
mod scenario;
pub mod sim;
pub mod sink;
pub mod soak;
pub mod source;
mod svg;
pub mod topology;
mod trickle;
pub mod up;
mod usage;
pub mod wait;
