//! The MUSeS paper's experiment on real node processes, and the deterministic simulator.

pub mod sim;
