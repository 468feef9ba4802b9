#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The guard against regressions: a short subset of the benchmarks without peers, on the clock that
# counts instructions, against tests/bench/baseline.jsonl. Called by `make check-bench`, which is
# part of `make check`. The baseline is changed only together with a reason in the commit:
#     make check-bench; cp build/bench/baseline.jsonl tests/bench/
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
out=$build/bench
tap=$build/check/bench.tap
mkdir -p "$build/check" "$out"
if NATIVE=0 PEERS=none RESULTS=guard.jsonl tests/bench.sh -q \
    vmm-start snapshot-create restore boot-to-cmd >"$out/guard.log" 2>&1; then
    # What the guard looks at, once each, in an order that makes differences readable. Not what
    # depends on how the guest's timers happen to fall: it repeats, but moves with every build.
    grep -E '"metric":"(time|pause|bytes|syscalls|ioctls|rss)"' "$out/guard.jsonl" |
        grep -vE '"median":null|"case":"restore-(phase|to-[a-z]+)"|"workload":"10-requests"|"clock":"none"|"peer":"(firecracker|kvmtool)"' | LC_ALL=C sort \
        >"$out/baseline.jsonl"
    awk -v percent=5 -f tests/bench/value.awk -f tests/bench/guard.awk tests/bench/baseline.jsonl "$out/guard.jsonl" \
        >"$tap" || true
else
    {
        echo "not ok 1 - the benchmarks ran"
        tail -n 20 "$out/guard.log" | sed 's/^/# /'
        echo 1..1
    } >"$tap"
fi
echo "benchmarks:"
grep '^#' "$tap" || true
exec tools/tapsum.sh "$tap"
