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
plot=${BUILD:-build}/tool/benchplot
pictures=docs/benchmarks
mkdir -p "$pictures"
# Without results for a picture there is none; an old one would be wrong.
rm -f "$pictures"/*.svg
draw() {
    local file=$pictures/$1
    shift
    "$plot" "$@" >"$file" 2>/dev/null || rm -f "$file"
}
draw restore.svg timeline "$out/timeline"
draw memory.svg growth "$out/results.jsonl" restore-growth memory_mib time \
    "Restore from the pool against guest memory"
draw vcpus.svg growth "$out/results.jsonl" restore-growth vcpus time \
    "Restore from the pool against vCPUs"
draw clones.svg growth "$out/results.jsonl" clones n memory "Memory of one of n idle clones"
draw pages.svg kinds "$out/results.jsonl"
draw sessions.svg growth "$out/results.jsonl" session-growth sessions wake \
    "Waking a microVM for the n-th time"
awk -v about="$out/about" -v notes=tests/bench/notes.md \
    -v pictures="$(cd "$pictures" && echo *.svg)" \
    -f tests/bench/value.awk -f tests/bench/report.awk tests/bench/bars "$out/results.jsonl" \
    >docs/benchmarks.md.new
mv docs/benchmarks.md.new docs/benchmarks.md
echo "docs/benchmarks.md: $(wc -l <docs/benchmarks.md) lines"
