//! `testnet`: see the library.

/// A large simulation takes a quarter less time than with the system's allocator: frames are made on one thread and dropped on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    testnet::command::main()
}
