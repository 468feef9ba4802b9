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
# Lines of C, as they are and without blanks and comments.
code() { # FOLDER, files on standard input
    local files
    files=$(cat)
    result code "{\"folder\":\"$1\"}" lines 1 "$(echo "$files" | xargs cat | wc -l)"
    result code "{\"folder\":\"$1\"}" code-lines 1 \
        "$(echo "$files" | xargs cat | awk -f tests/bench/codelines.awk)"
}
for dir in hypervisor snapshot guest api tools; do
    git ls-files -- "$dir/*.c" "$dir/*.h" |
        grep -v -e '^hypervisor/base/' -e '^hypervisor/debug/' | code "$dir"
done
# Shared helpers, and what only the debug twin has.
for dir in hypervisor/base hypervisor/debug; do
    git ls-files -- "$dir/*.c" "$dir/*.h" | code "$dir"
done
