//! `testnet`: see the library.

fn main() -> std::process::ExitCode {
    testnet::command::main()
}
