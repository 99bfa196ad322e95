#!/bin/sh
# The overlay's large runs, one after the other: an object for each, in FOLDER. About two hours and 12 GiB with 2 cores; a run whose object is there is not run again.
#
#   docs/overlay/bars.sh FOLDER [PART...]    parts: large, graphs, dead, dht, apart, all by default
set -eu
cd "$(dirname "$0")/../.."
folder=${1:?where to}
shift
parts=${*:-large graphs dead dht apart}
for part in $parts; do
    case $part in
    large | graphs | dead | dht | apart) ;;
    *)
        echo "$0: no part is called $part: large, graphs, dead, dht, apart" >&2
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

for part in $parts; do
    case $part in
    large)
        for graph in ov:3 ba:2 pl:2.5 hrg:2.5 as; do
            run "$graph-100000" --graph "$graph" --nodes 100000 --pairs 100000
        done
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
    esac
done
exit $inexact
