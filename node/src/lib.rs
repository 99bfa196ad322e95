//! A MUSeS over CLOAK node.

pub mod stack;
