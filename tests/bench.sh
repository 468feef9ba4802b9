#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Benchmarks on an ARM64 host with KVM, beside peers; called by `make bench` and `make
# bench-quick`. Writes build/bench/results.jsonl. Usually that host is emulated, and its clock
# counts instructions.
#   tests/bench.sh [-q] [CASE...]
#     -q        the main figures only
#   WALL=1      the emulated host by the wall clock, two CPUs
#   NATIVE=1    on this machine: ARM64, KVM, root; by the wall clock. NATIVE=0: emulated even here
#   PEERS=none  without peers: they show as missing
#   RESULTS=NAME  the results' file in build/bench, instead of results.jsonl
#   PEER_FIRECRACKER=FILE PEER_KVMTOOL=FILE   programs for arm64, static: more peers
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
out=$build/bench
quick=0
while getopts q opt; do
    case $opt in
    q) quick=1 ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
mkdir -p "$out"

native=${NATIVE:-}
if [ -z "$native" ]; then
    native=0
    [ "$(uname -m)" != aarch64 ] || [ ! -w /dev/kvm ] || [ "$(id -u)" != 0 ] || native=1
fi
clock=instructions
export DETERMINISTIC=1
if [ "${WALL:-0}" = 1 ] || [ "$native" = 1 ]; then
    clock=wall
    DETERMINISTIC=0
fi
export REPEATABLE=$DETERMINISTIC HOST_MEM=${HOST_MEM:-8G}
options=(-t "${BENCH_LIMIT:-3600}")
file() { # FILE PATH, if it was made
    [ ! -e "$1" ] || options+=(-f "$1=/bench/$2")
}
for name in bench guest.cpio daemon records; do file "$out/$name" "$name"; done
file tests/bench/inside.sh run
file tests/bench/daemon-inside.sh daemon.sh
file tests/bench/workload.py workload.py
file "$out/root.img" root.img
file "$build/vm/payload" payload
file "$build/arm64/dormouse" dormouse
archives=()
peers=missing
if [ "${PEERS:-}" != none ]; then
    if [ -s "$build/peers/peers.cpio" ]; then
        archives+=("$build/peers/peers.cpio")
        peers="QEMU $(cat "$build/peers/qemu-system-arm.version")"
        peers+=", nginx $(cat "$build/peers/nginx.version") (Debian, arm64)"
    fi
    for peer in FIRECRACKER KVMTOOL; do
        name=PEER_$peer file=${!name:-}
        if [ -z "$file" ]; then
            peers+=", ${peer,,} missing"
            continue
        fi
        [ -x "$file" ] || { echo "error: $name: '$file' is no program" >&2; exit 2; }
        options+=(-f "$file=/bench/peers/${peer,,}")
        peers+=", ${peer,,} $(sha256sum "$file" | cut -c1-12)"
    done
fi
about() {
    echo "project: $(git describe --always --dirty 2>/dev/null || echo unknown), guest kernel $(cat "$build/kernel/version")"
    if [ "$native" = 1 ]; then
        echo "machine: $(uname -srm), $(nproc) CPUs, $(sed -n 's/^CPU part.*: //p' /proc/cpuinfo |
            head -n 1), clock: wall"
    else
        echo "machine: ${QEMU:-qemu-system-aarch64} $(${QEMU:-qemu-system-aarch64} --version |
            sed -n '1s/.*version //p'), neoverse-n1 with KVM, $HOST_MEM, clock: $clock"
    fi
    echo "peers: $peers"
    echo "command: make bench$([ "$quick" = 0 ] || echo -quick)"
}
side=${RESULTS:+side.} # what belongs to results elsewhere does not replace the report's
about >"$out/${side}about"
begin=$(date +%s)
status=0
: >"$out/results.new"
: >"$out/${side}timeline"

# Natively: the same scripts, in a mount namespace that goes with them.
here() {
    local dir=$out/native item
    if pgrep -x dormoused >/dev/null; then
        echo "error: a dormoused runs on this machine; stop it for the benchmarks" >&2
        return 1
    fi
    mkdir -p "$dir/work" "$dir/bases" "$dir/unpacked"
    for item in "${archives[@]}"; do
        (cd "$dir/unpacked" && cpio --quiet -iud --no-absolute-filenames <"$OLDPWD/$item")
        cp -r "$dir/unpacked/bench/peers" "$dir/"
    done
    for item in "${options[@]}"; do
        case $item in
        *=/bench/peers/*) install -D "${item%%=*}" "$dir/peers/${item##*/}" ;;
        *=/bench/*) install -D "${item%%=*}" "$dir/${item##*/}" ;;
        esac
    done
    local top=$PWD/$dir bin=$PWD/$build
    # shellcheck disable=SC2016 # expanded by the inner shell
    NATIVE=1 QUICK=$quick ONLY=$1 CLOCK=$clock BENCH_FILES=$top BENCH_PEERS=$top/peers \
        BENCH_WORK=$top/work VMM=$bin/arm64/dormouse-vmm KERNEL=$bin/kernel/Image \
        INITRD=$bin/guest/initrd.cpio DORMOUSED=$bin/arm64/dormoused BASES=$top/bases \
        unshare -m sh -c '[ ! -s "$1" ] || mount -o ro,loop "$1" "$BASES"; exec "$BENCH_FILES/run"' \
        run "$bin/bases/bases.img"
}

# boot N CASES: one boot of the host; all it says is in files of its own.
boot() {
    local out=$out/run$1 cases=$2 bases=() code=0
    rm -rf "$out"
    mkdir -p "$out"
    if [ "$native" = 1 ]; then
        here "$cases" >"$out/output" 2>"$out/errors" || code=$?
    else
        # Only images need their bases. Not as a disk, which answers when it answers.
        case ,$cases, in
        *,first-byte,* | *,fork,* | *,proxy,* | *,create,* | *,list,* | *,suspend,* | *,sessions,* | *,clones-app,*)
            [ ! -s "$build/bases/bases.img" ] || bases=(-f "$build/bases/bases.img=/bench/bases.img") ;;
        esac
        tools/vmrun.sh "${options[@]}" ${bases[@]+"${bases[@]}"} -c "$out/console" \
            -k "bench.quick=$quick bench.clock=$clock bench.only=$cases" /bench/run \
            ${archives[@]+"${archives[@]}"} >"$out/output" 2>"$out/errors" &
        # shellcheck disable=SC2064 # this process
        trap "kill $! 2>/dev/null" TERM
        wait $! || code=$?
    fi
    echo "$code" >"$out/status"
}

# What a run found is kept even if another one fails.
collect() {
    local out=$out/run$1 code
    code=$(cat "$out/status" 2>/dev/null || echo 1)
    grep '^# timeline' "$out/output" >>"$out/../${side}timeline" || true
    sed '/^==== results/,/^==== end/d; /^# timeline/d' "$out/output"
    sed -n '/^==== results/,/^==== end/p' "$out/output" | grep '^{' >>"$out/../results.new" || true
    if [ "$code" -ne 0 ]; then
        status=$code
        tail -n 20 "$out/errors" >&2
        echo "error: the cases $2 ended with status $code; see $out" >&2
    fi
}

runs=()
if [ $# -gt 0 ]; then
    runs+=("$(IFS=,; echo "$*")")
else
    runs+=("vmm-start,snapshot-create,restore,restore-calls,boot-to-cmd,restore-to-thaw" "block,net,vsock")
    if [ "$quick" = 0 ]; then
        runs+=("suspend,sessions,clones-app" "first-byte,create,proxy,fork,list" clones growth)
    fi
fi
# Who counts instructions does not mind company. By the wall clock everything goes one by one.
jobs=${JOBS:-2}
[ "$clock" = instructions ] || jobs=1
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for i in "${!runs[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
        wait -n || true
    done
    boot "$i" "${runs[i]}" &
done
wait
for i in "${!runs[@]}"; do
    collect "$i" "${runs[i]}"
done
tests/bench/sizes.sh >>"$out/results.new"
results=$out/${RESULTS:-results.jsonl}
mv "$out/results.new" "$results"
# Processor time is what it takes where nothing else runs; the wall's says how busy this machine is.
read -ra stat <"/proc/$$/stat"
echo "$(wc -l <"$results") results in $results, $(($(date +%s) - begin)) s," \
    "$(((stat[15] + stat[16]) / $(getconf CLK_TCK))) s of processor time"
exit "$status"
