//! What crosses a link.

pub mod packet;
