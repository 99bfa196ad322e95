//! The command `muses`; all of it is in the library, so that `testnet` can start nodes from its own binary.

use std::process::ExitCode;

/// Packets are made on one thread and dropped on another, in sizes that the system's allocator gives back to the kernel and fetches again; and what is
/// measured with `testnet`, which has this one too, is then true of this program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    node::cli::main(std::env::args_os())
}
