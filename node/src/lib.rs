//! A MUSeS over CLOAK node.

pub mod config;
pub mod identity;
pub mod local;
pub mod stack;
pub mod store;
