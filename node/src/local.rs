//! The paper's Local Connection Manager (LCM, section III-C.3): application sockets on one side, connections of the stack on the other.

pub mod service;
