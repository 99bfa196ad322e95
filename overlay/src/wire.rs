//! What travels over links.

pub mod link;
pub mod packet;
