#!/usr/bin/env bash
# Asks ProVerif about every model, and compares what it says with results.txt. With `--bless` that becomes what is expected.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v proverif >/dev/null; then
    echo "$0: proverif is not in PATH: README.md says how to build it" >&2
    exit 1
fi
answers=$(mktemp)
trap 'rm -f "$answers"' EXIT

# One model with its library: the answers, each without the numbers that ProVerif gives to variables.
ask() {
    echo "$2.pv"
    proverif -lib primitives.pvl -lib "$1.pvl" "$2.pv" | grep '^RESULT' | sed 's/_[0-9]\+\b//g'
}

{
    for model in handshake kci later quantum no_kem; do
        ask handshake "$model"
    done
    for model in resume stolen; do
        ask resume "$model"
    done
} >"$answers"
if [ "${1:-}" = --bless ]; then
    cp "$answers" results.txt
else
    diff results.txt "$answers"
    echo "all as expected: $(grep -c '^RESULT' results.txt) answers"
fi
