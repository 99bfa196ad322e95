# What CI does, and the two commands of the README, for people who have `just`. Nothing needs it.

# All that CI checks.
check:
    bash .ci/run

# The main job: eight real nodes, one real move.
demo:
    cargo run --release -p testnet

# The tests.
test:
    cargo test --workspace

# Formatting and lints only.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
