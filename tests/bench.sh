#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Benchmarks in the emulated ARM64 host, beside peers, on the clock that counts instructions;
# called by `make bench` and `make bench-quick`. Writes build/bench/results.jsonl.
#   tests/bench.sh [-q] [CASE...]
#     -q    the main figures only
#   WALL=1       wall clock, two CPUs, instead of counted instructions
#   PEERS=none   without peers: they show as missing
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

clock=instructions
export DETERMINISTIC=1
if [ "${WALL:-0}" = 1 ]; then
    clock=wall
    export DETERMINISTIC=0
fi
words="bench.quick=$quick bench.clock=$clock"
[ $# -eq 0 ] || words="$words bench.only=$(IFS=,; echo "$*")"

options=(-t "${BENCH_LIMIT:-3600}" -c "$out/console" -f "$out/bench=/bench/bench"
    -f "$out/guest.cpio=/bench/guest.cpio" -f "$build/vm/root.img=/bench/root.img" -f tests/bench/inside.sh=/bench/run -k "$words"
    -f tests/bench/daemon-inside.sh=/bench/daemon.sh -f "$out/daemon=/bench/daemon"
    -f "$build/arm64/dormouse=/bench/dormouse" -f "$build/vm/payload=/bench/payload"
    -d "$build/bases/bases.img:bases:ro")
if [ "${PEERS:-}" != none ] && [ -s "$build/peers/qemu.img" ]; then
    options+=(-d "$build/peers/qemu.img:peers:ro")
fi
export HOST_MEM=${HOST_MEM:-8G}
about() {
    echo "project: $(git describe --always --dirty 2>/dev/null || echo unknown), guest kernel $(cat "$build/kernel/version")"
    echo "machine: ${QEMU:-qemu-system-aarch64} $(${QEMU:-qemu-system-aarch64} --version |
        sed -n '1s/.*version //p'), neoverse-n1 with KVM, $HOST_MEM, clock: $clock"
    echo "peers: QEMU $(cat "$build/peers/qemu.version" 2>/dev/null || echo missing) for arm64"
    echo "command: make bench$([ "$quick" = 0 ] || echo -quick)"
}
about >"$out/about"
begin=$(date +%s)
status=0
tools/vmrun.sh "${options[@]}" /bench/run >"$out/output" 2>"$out/errors" || status=$?
grep '^# timeline' "$out/output" >"$out/timeline" || true
sed '/^==== results/,/^==== end/d; /^# timeline/d' "$out/output"
sed -n '/^==== results/,/^==== end/p' "$out/output" | grep '^{' >"$out/results.new" || true
tests/bench/sizes.sh >>"$out/results.new"
if [ "$status" -ne 0 ]; then
    tail -n 20 "$out/errors" >&2
    echo "error: the benchmarks ended with status $status; see $out/output and $out/console" >&2
    exit "$status"
fi
mv "$out/results.new" "$out/results.jsonl"
echo "$(wc -l <"$out/results.jsonl") results in $out/results.jsonl, $(($(date +%s) - begin)) s"
