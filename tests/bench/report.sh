#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes docs/benchmarks.md from build/bench/results.jsonl; called by `make bench-report`.
set -eu
cd "$(dirname "$0")/../.."
out=${BUILD:-build}/bench
if [ ! -s "$out/results.jsonl" ]; then
    echo "error: there are no results in $out; run 'make bench' first" >&2
    exit 1
fi
awk -v about="$out/about" -f tests/bench/report.awk tests/bench/bars "$out/results.jsonl" \
    >docs/benchmarks.md.new
mv docs/benchmarks.md.new docs/benchmarks.md
echo "docs/benchmarks.md: $(wc -l <docs/benchmarks.md) lines"
