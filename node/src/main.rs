//! The command `muses`; all of it is in the library, so that `testnet` can start nodes from its own binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::cli::main(std::env::args_os())
}
