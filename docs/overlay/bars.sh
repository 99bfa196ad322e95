#!/bin/sh
# The overlay's large runs, one after the other: an object for each, in FOLDER. About five hours and 14 GiB with 2 cores; a run whose object is there is not run again.
#
#   docs/overlay/bars.sh FOLDER [PART...]    parts: large, twice, graphs, dead, dht, apart, churn, all by default
set -eu
cd "$(dirname "$0")/../.."
folder=${1:?where to}
shift
parts=${*:-large twice graphs dead dht apart churn}
for part in $parts; do
    case $part in
    large | twice | graphs | dead | dht | apart | churn) ;;
    *)
        echo "$0: no part is called $part: large, twice, graphs, dead, dht, apart, churn" >&2
        exit 2
        ;;
    esac
done
mkdir -p "$folder"
cargo build --release -p testnet
program=${CARGO_TARGET_DIR:-target}/release/testnet

inexact=0
# One run that is not exact does not end the others.
run() {
    name=$1
    shift
    [ -s "$folder/$name.json" ] && return
    echo "$name: $*"
    "$program" sim "$@" --json >"$folder/$name.part" || { echo "$name: not exact"; inexact=1; }
    mv "$folder/$name.part" "$folder/$name.json"
}

digest() {
    grep trace_digest "$folder/$1.json" || true
}

for part in $parts; do
    case $part in
    large)
        for graph in ov:3 ba:2 pl:2.5 hrg:2.5 as; do
            run "$graph-100000" --graph "$graph" --nodes 100000 --pairs 100000
        done
        ;;
    twice)
        # The first is that of `large`, too.
        for name in ov:3-100000 ov:3-100000-again; do
            run "$name" --graph ov:3 --nodes 100000 --pairs 100000
        done
        first=$(digest ov:3-100000)
        if [ -z "$first" ] || [ "$first" != "$(digest ov:3-100000-again)" ]; then
            echo "ov:3-100000: one seed gave two traces"
            inexact=1
        fi
        ;;
    graphs)
        for graph in ov:3 ovp:3 ba:2 pl:2.5 hrg:2.5 as rgg rgt; do
            run "$graph-1000" --graph "$graph" --nodes 1000
            run "$graph-10000" --graph "$graph" --nodes 10000
        done
        ;;
    dead)
        for graph in ov:3 ba:2; do
            for share in 0.1 0.3; do
                run "$graph-10000-dead-$share" --graph "$graph" --nodes 10000 --dead "$share"
            done
        done
        ;;
    dht)
        run ov:3-10000-dht --graph ov:3 --nodes 10000 --lookups 100000 --keys 100
        ;;
    apart)
        run ov:3-100-apart --graph ov:3 --nodes 100 --pairs 200 --seeds 1000 --split-merge
        ;;
    churn)
        run ov:3-10000-churn --graph ov:3 --nodes 10000 --churn-median 60m --duration 2h
        ;;
    esac
done
exit $inexact
