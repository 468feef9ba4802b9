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
options=(-t "${BENCH_LIMIT:-3600}" -f "$out/bench=/bench/bench"
    -f "$out/guest.cpio=/bench/guest.cpio" -f "$build/vm/root.img=/bench/root.img"
    -f tests/bench/inside.sh=/bench/run -f tests/bench/daemon-inside.sh=/bench/daemon.sh
    -f "$out/daemon=/bench/daemon" -f "$build/arm64/dormouse=/bench/dormouse"
    -f "$build/vm/payload=/bench/payload")
# Only the daemon's cases need the base images, and only peers their disk.
[ ! -s "$build/bases/bases.img" ] || options+=(-d "$build/bases/bases.img:bases:ro")
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
: >"$out/results.new"
: >"$out/timeline"

# run CASES: one boot of the host. What it found is kept even if a later one fails.
run() {
    local words="bench.quick=$quick bench.clock=$clock bench.only=$1" code=0
    tools/vmrun.sh "${options[@]}" -c "$out/console" -k "$words" /bench/run \
        >"$out/output" 2>"$out/errors" || code=$?
    grep '^# timeline' "$out/output" >>"$out/timeline" || true
    sed '/^==== results/,/^==== end/d; /^# timeline/d' "$out/output"
    sed -n '/^==== results/,/^==== end/p' "$out/output" | grep '^{' >>"$out/results.new" || true
    if [ "$code" -ne 0 ]; then
        status=$code
        tail -n 20 "$out/errors" >&2
        echo "error: the cases $1 ended with status $code; see $out/console" >&2
        cp "$out/output" "$out/output.failed"
    fi
}

if [ $# -gt 0 ]; then
    run "$(IFS=,; echo "$*")"
else
    run vmm-start,snapshot-create,restore,restore-calls,guest-disk,boot-to-cmd
    if [ "$quick" = 0 ]; then
        run daemon
        run clones
        run restore-growth
    fi
fi
tests/bench/sizes.sh >>"$out/results.new"
mv "$out/results.new" "$out/results.jsonl"
echo "$(wc -l <"$out/results.jsonl") results in $out/results.jsonl, $(($(date +%s) - begin)) s"
exit "$status"
