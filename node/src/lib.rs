//! A MUSeS over CLOAK node.

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod dashboard;
pub mod driver;
pub mod exit;
pub mod facts;
pub mod files;
pub mod identity;
pub mod invite;
pub mod lan;
pub mod links;
pub mod local;
pub mod machine;
pub mod metrics;
pub mod reach;
pub mod recovery;
pub mod stack;
pub mod store;
pub mod web;
