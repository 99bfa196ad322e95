//! A MUSeS over CLOAK node.

pub mod clock;
pub mod driver;
pub mod links;
pub mod stack;
pub mod store;
