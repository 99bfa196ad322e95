# What CI does, and the two commands of the README, for people who have `just`. Nothing needs it.

# All that CI checks.
check:
    bash .ci/run

# The main job: nine real nodes, one real move.
demo:
    cargo run --release -p testnet

# The tests.
test:
    cargo test --workspace

# Formatting and lints only.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# What takes hours, and of which CI does a slice.
nightly:
    MUSES_FULL=1 cargo test --release -p node --test moving --test moving_forwards --test unmodified_programs -- --nocapture
    cargo run --release -p testnet -- sim --seeds 100000 --longest-outage 31536000 --bytes 524288
    cargo run --release -p testnet -- sim --suite docs/overlay --nodes 10000
    cargo run --release -p testnet -- --runs 3 --strict
    cargo run --release -p testnet -- bench --strict
    # A thousand moves: no application notices one, and the nodes hold no more after them.
    cargo run --release -p testnet -- soak --rounds 50 --movers 20 --strict
    # The claim of docs/explanation/threat-model.md: a million keys, of which the extreme ones join, capture no root.
    GROUND_KEYS=1000000 cargo test --release -p overlay --test ground_keys
    cargo test --workspace -- --ignored
    # The models of handshake and resume; wants ProVerif: see muses/model/README.md.
    muses/model/check.sh
    # Known weaknesses of what we build upon; wants the network and `cargo install --locked cargo-deny`.
    cargo deny check
    cargo deny --manifest-path fuzz/Cargo.toml --config deny.toml check advisories
