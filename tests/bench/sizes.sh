#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sizes of binaries and lines of code, as results of the benchmarks: one JSON object a line.
# Called by tests/bench.sh, from the top of the tree.
set -eu
build=${BUILD:-build}

result() { # CASE PARAMS METRIC UNIT VALUE
    printf '{"case":"%s","params":%s,"metric":"%s","unit":"%s","median":%s,"min":%s,"max":%s,' \
        "$1" "$2" "$3" "$4" "$5" "$5" "$5"
    printf '"runs":1,"clock":"none","peer":null,"peer_median":null,"ratio":null}\n'
}

for name in dormouse-vmm dormouse-init dormoused dormouse; do
    file=$build/arm64/$name
    [ ! -e "$file" ] ||
        result binary "{\"name\":\"$name\"}" bytes B "$(stat -c %s "$file")"
done
for dir in hypervisor snapshot guest api tools; do
    lines=$(git ls-files -- "$dir/*.c" "$dir/*.h" | grep -v -e '^hypervisor/base/' -e '^hypervisor/debug/' |
        xargs cat | wc -l)
    result code "{\"folder\":\"$dir\"}" lines 1 "$lines"
done
# Shared helpers, and what only the debug twin has.
for dir in hypervisor/base hypervisor/debug; do
    result code "{\"folder\":\"$dir\"}" lines 1 "$(git ls-files -- "$dir/*" | xargs cat | wc -l)"
done
