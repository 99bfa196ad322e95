//! muses
