#!/usr/bin/env bash
# The 60-second tour, as two people would type it: Alice and Bob meet, Bob uses Alice's web server across a move, and gets a file.
#
#   docs/tour.sh            both on this machine
#   docs/tour.sh --netns    each in a network namespace, with two networks between them (needs root)
#
# Needs `muses` in the PATH, curl and python3 (for a web server). Ends with 1 at the first wrong byte; leaves nothing behind.
set -euo pipefail

OUTAGE_S=${OUTAGE_S:-3}
MIB=${MIB:-24}
netns=
[ "${1:-}" = --netns ] && netns=muses$$

die() { printf 'tour: %s\n' "$*" >&2; exit 1; }
for program in muses curl python3; do command -v "$program" >/dev/null || die "$program is not installed"; done

home=$(mktemp -d)
started=()
clean_up() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ -n "$netns" ]; then
        for who in alice bob; do ip netns delete "$netns-$who" 2>/dev/null || true; done
    fi
    rm -rf "$home"
}
trap clean_up EXIT

# This process becomes a command of that person: with a home, and in namespaces a network, of her or his own.
become() {
    local who=$1 enter=()
    shift
    [ -n "$netns" ] && enter=(ip netns exec "$netns-$who")
    cd "$home/$who" && exec "${enter[@]}" env XDG_STATE_HOME="$home/$who/state" "$@"
}
as() { (become "$@"); }
shown() { printf '\n%s$ %s\n' "$1" "${*:2}"; }
types() { shown "$@"; as "$@"; }
# The same, and the tour goes on meanwhile. The process itself is what is ended later.
starts() {
    shown "$@"
    become "$@" >"$home/$1/output" 2>&1 &
    started+=($!)
}
story() { printf '\n# %s\n' "$*"; }
# Up to a minute.
until_it_works() {
    for _ in $(seq 300); do
        as "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    cat "$home"/*/output >&2
    die "not within a minute: $*"
}
same() { cmp "$1" "$2" || die "$2 differs from $1"; }

mkdir -p "$home/alice/www" "$home/bob/inbox"
listen=(--listen /ip4/127.0.0.1/tcp/0)
if [ -n "$netns" ]; then
    listen=()
    story "two networks: bob is in the first one, alice in both"
    for who in alice bob; do
        ip netns add "$netns-$who"
        ip -n "$netns-$who" link set lo up
    done
    for net in 1 2; do
        ip -n "$netns-alice" link add "net$net" type veth peer name "net$net" netns "$netns-bob"
        ip -n "$netns-alice" addr add "10.78.$net.1/24" dev "net$net"
        ip -n "$netns-alice" link set "net$net" up
    done
    ip -n "$netns-bob" addr add 10.78.1.2/24 dev net1
    ip -n "$netns-bob" link set net1 up
fi
free_port() { as "$1" python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
web=$(free_port alice)
socks=$(free_port bob)
head -c "${MIB}M" /dev/urandom >"$home/alice/www/film.mkv"
head -c "${MIB}M" /dev/urandom >"$home/alice/photos.zip"

story "alice starts a node, which founds an overlay; her web server becomes a service"
starts alice muses up --name alice "${listen[@]}"
until_it_works alice muses lookup alice
become alice python3 -m http.server --bind 127.0.0.1 --directory www "$web" >"$home/alice/web" 2>&1 &
started+=($!)
types alice muses expose web "127.0.0.1:$web" --allow anyone
shown alice muses invite
invite=$(as alice muses invite --json | sed -n 's/.*"invite":"\([^"]*\)".*/\1/p')
echo "$invite"

story "bob joins with it"
starts bob muses join "$invite" --name bob --socks "127.0.0.1:$socks" "${listen[@]}"
until_it_works bob muses lookup alice
types bob muses ping alice
types bob muses connect alice/web --listen 127.0.0.1:0 | tee "$home/connected"
# Nobody has to see this: the port leads there.
port=$(sed -n 's/.* is at \([0-9.:]*\) .*/\1/p' "$home/connected")
head -c 1000 /dev/urandom >"$home/alice/www/page"
as bob curl --silent --show-error --fail --noproxy '*' --max-time 60 --output page "http://$port/page" ||
    die "nothing comes through the port of muses connect"
same "$home/alice/www/page" "$home/bob/page"

story "a download by name, of a program that knows nothing of all this, across a move"
shown bob curl --proxy "socks5h://127.0.0.1:$socks" -O http://alice.muses/film.mkv
become bob curl --silent --show-error --fail --noproxy '' --limit-rate 6M --proxy "socks5h://127.0.0.1:$socks" \
    --output film.mkv http://alice.muses/film.mkv &
curl=$!
started+=("$curl")
until_it_works bob test -s film.mkv
if [ -n "$netns" ]; then
    shown bob ip link set net1 down
    ip -n "$netns-bob" link set net1 down
else
    types bob muses network down
fi
had=$(stat -c %s "$home/bob/film.mkv")
[ "$had" -lt "$((MIB * 1048576))" ] || die "the download was over before the outage"
echo "(at byte $had the network is gone, for $OUTAGE_S s)"
sleep "$OUTAGE_S"
kill -0 "$curl" || die "curl did not survive the outage"
if [ -n "$netns" ]; then
    shown bob ip link set net2 up
    # Elsewhere DHCP does that.
    ip -n "$netns-bob" addr add 10.78.2.2/24 dev net2
    ip -n "$netns-bob" link set net2 up
else
    types bob muses network up --bind 127.0.0.7
fi
wait "$curl" || die "curl failed"
same "$home/alice/www/film.mkv" "$home/bob/film.mkv"
echo "(film.mkv is complete and right)"
types bob muses sessions

story "a file"
starts bob muses receive --from alice --dir inbox
receiver=${started[-1]}
for _ in $(seq 300); do
    grep -q 'taking files' "$home/bob/output" && break
    sleep 0.2
done
types alice muses send photos.zip bob
wait "$receiver" || die "muses receive failed: $(cat "$home/bob/output")"
same "$home/alice/photos.zip" "$home/bob/inbox/photos.zip"

story "the end"
types bob muses down
types alice muses down
echo "tour: all bytes are right"
