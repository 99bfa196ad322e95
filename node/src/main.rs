//! muses
fn main() {}
