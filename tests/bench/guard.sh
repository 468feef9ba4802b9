#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The guard against regressions: runs the quick benchmarks without peers and fails when a figure
# is more than 5 % worse than in tests/bench/baseline.jsonl. That file is changed only together
# with a reason in the commit: copy build/bench/results.jsonl over it.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
tap=$build/check/bench.tap
if PEERS=none tests/bench.sh -q >"$build/bench/guard.log" 2>&1 &&
    tests/bench/compare.sh tests/bench/baseline.jsonl "$build/bench/results.jsonl" 5 \
        >"$build/bench/guard.diff"; then
    echo "ok 1 - no figure is more than 5 % worse than the baseline"
else
    echo "not ok 1 - a figure is more than 5 % worse than the baseline"
    grep -h 'WORSE\|error' "$build/bench/guard.log" "$build/bench/guard.diff" | sed 's/^/# /'
fi >"$tap"
echo 1..1 >>"$tap"
echo "benchmarks:"
exec tools/tapsum.sh "$tap"
