#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots the emulated ARM64 host once to run one program in it, prints what the program prints,
# and ends with its exit status. Used by the tests, the benchmarks and the base images' recipe.
#
# The program gets no input; its output and errors come as one stream, in order. 124 means that
# the time limit was reached, 125 that the machine ended without the program's exit status.
set -eu

usage() {
    cat <<'END'
Usage: tools/vmrun.sh [options] PROGRAM [CPIO...]

Boots build/appliance with the CPIO archives (newc) unpacked over its root, runs PROGRAM
(a path inside; no arguments) and ends with PROGRAM's exit status.

  -t SECONDS            time limit (default 300)
  -d FILE:SERIAL[:ro]   a raw disk, /dev/disk by serial; may be repeated. The serials
                        `state` and `bases` are mounted where dormoused expects them
  -S SIZE               an empty state disk of this size for this run (for example 8G)
  -f FILE=PATH          put a file into the root as PATH, mode 755; may be repeated
  -p PORT:PORT          forward 127.0.0.1:PORT to the machine; may be repeated
  -c FILE               keep the serial console's log in FILE
  -k WORDS              more words for the kernel command line

Environment: GIC=3|2, SMP=2, HOST_MEM=8G, DETERMINISTIC=1 (one CPU, one instruction takes one
nanosecond; with REPEATABLE=1 the same ones each time, and no network; with PATIENT=1 time is the
wall's while the machine waits), BUILD=build, QEMU=qemu-system-aarch64.
END
}

fail() {
    echo "error: $*" >&2
    exit 125
}

top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tools/emulator.sh
. "$top/tools/emulator.sh"

limit=300 console='' words='' state=''
disks=() files=() ports=()
while getopts t:d:S:f:p:c:k:h opt; do
    case $opt in
    t) limit=$OPTARG ;;
    d) disks+=("$OPTARG") ;;
    S) state=$OPTARG ;;
    f) files+=("$OPTARG") ;;
    p) ports+=("tcp:127.0.0.1:${OPTARG%%:*}-:${OPTARG##*:}") ;;
    c) console=$OPTARG ;;
    k) words=$OPTARG ;;
    h) usage && exit 0 ;;
    *) usage >&2 && exit 125 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] || { usage >&2 && exit 125; }
program=$1
shift
case $program in
/*[[:space:],]* | *=*) fail "the kernel command line cannot carry the path '$program'" ;;
/*) ;;
*) fail "'$program' must be a path inside the machine, beginning with /" ;;
esac
case $limit in
'' | *[!0-9]*) fail "-t wants a number of seconds, not '$limit'" ;;
esac

emulator_check || exit 125
appliance=${BUILD:-$top/build}/appliance
if [ ! -s "$appliance/Image" ] || [ ! -s "$appliance/initrd.cpio" ]; then
    fail "'$appliance' is missing or incomplete; run 'make' first"
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/dormouse-vmrun.XXXXXX")
qemu='' watch=''
# shellcheck disable=SC2317  # called by the trap
cleanup() {
    trap - EXIT
    [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || true
    [ -z "$watch" ] || kill "$watch" 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The kernel unpacks archives that follow each other; each must begin at a multiple of four.
join() {
    cat "$1" >>"$tmp/initrd"
    truncate -s %4 "$tmp/initrd"
}
join "$appliance/initrd.cpio"
for archive in "$@"; do
    [ -r "$archive" ] || fail "cannot read the archive '$archive'"
    join "$archive"
done
if [ ${#files[@]} -gt 0 ]; then
    mkdir "$tmp/root"
    for item in "${files[@]}"; do
        install -D -m 755 "${item%%=*}" "$tmp/root/${item#*=}" || exit 125
    done
    find "$tmp/root" -exec touch -h -d @0 {} +
    (cd "$tmp/root" && find . -mindepth 1 | LC_ALL=C sort |
        cpio --quiet --reproducible -o -H newc -R 0:0) >"$tmp/files.cpio"
    join "$tmp/files.cpio"
fi

emulator_args
for item in ${disks[@]+"${disks[@]}"}; do
    IFS=: read -r file serial mode <<<"$item"
    if [ ! -r "$file" ] || [ -z "$serial" ]; then
        fail "-d wants FILE:SERIAL with a readable FILE, not '$item'"
    fi
    emulator_disk "$file" "$serial" "$mode"
done
if [ -n "$state" ]; then
    truncate -s "$state" "$tmp/state.img"
    mke2fs -q -t ext4 -L dormouse-state -m 0 "$tmp/state.img"
    emulator_disk "$tmp/state.img" state
fi
emulator_net ${ports[@]+"${ports[@]}"}
emulator_port run stdio,signal=off
console=${console:-$tmp/console.log}
: >"$console"
EMULATOR+=(-serial "file:$console" -kernel "$appliance/Image" -initrd "$tmp/initrd"
    -append "$EMULATOR_CMDLINE dormouse.run=$program $words")

# The emulator takes an end of its input for a closed port and then drops what the program
# writes, so the input is one that stays silent. It runs in the background, so that a signal to
# this script is acted upon at once.
mkfifo "$tmp/silence"
exec 3<>"$tmp/silence"
"${EMULATOR[@]}" <&3 3>&- &
qemu=$!
exec 3>&-
(
    # The limit: ends with the script, or ends the emulator.
    trap 'kill "$sleeper" 2>/dev/null; exit 0' TERM
    sleep "$limit" &
    sleeper=$!
    wait "$sleeper" && : >"$tmp/late" && kill -KILL "$qemu"
) 2>/dev/null &
watch=$!
wait "$qemu" 2>/dev/null || true # silent about a killed one
kill "$watch" 2>/dev/null || true
wait "$watch" 2>/dev/null || true
qemu='' watch=''

if [ -e "$tmp/late" ]; then
    tail -n 20 "$console" >&2
    echo "error: $program did not end within $limit s" >&2
    exit 124
fi
code=$(sed -n 's/.*dormouse: exit \([0-9][0-9]*\).*/\1/p' "$console" | tail -n 1)
if [ -z "$code" ]; then
    tail -n 20 "$console" >&2
    fail "the machine ended before $program did; its console is above"
fi
exit "$code"
