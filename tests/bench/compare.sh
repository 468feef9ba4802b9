#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compares two results of the benchmarks.
#   tests/bench/compare.sh OLD NEW [PERCENT]
# Names what moved by more than PERCENT (2); ends with 1 when something that was counted in
# instructions, calls or bytes became worse by more than that. What only one file has is said,
# and is no failure, but a comparison without one common figure is.
set -eu
if [ $# -lt 2 ]; then
    sed -n 's/^# \{0,1\}//; 3,7p' "$0" >&2
    exit 2
fi
awk -v percent="${3:-2}" '
function value(line, key,    at, rest) {
    at = index(line, "\"" key "\":")
    rest = substr(line, at + length(key) + 3)
    if (substr(rest, 1, 1) == "{") { sub(/}.*/, "}", rest); return rest }
    gsub(/^"/, "", rest)
    sub(/[",}].*/, "", rest)
    return rest
}
# What a guest happens to touch differs from image to image.
BEGIN { guarded = "^(time|pause|bytes|syscalls|ioctls|rss)$" }
/^{/ && value($0, "median") != "null" {
    key = value($0, "case") " " value($0, "params") " " value($0, "metric")
    if (FNR == NR) { old[key] = value($0, "median"); next }
    new[key] = value($0, "median")
    clock[key] = value($0, "clock")
    metric[key] = value($0, "metric")
}
END {
    for (key in new) {
        if (!(key in old)) { only_new++; continue }
        common++
        if (old[key] + 0 == 0) {
            if (new[key] + 0 != 0) printf "%-80s was 0, is %s\n", key, new[key]
            continue
        }
        change = (new[key] / old[key] - 1) * 100
        if (change > percent || change < -percent) {
            worse = change > 0 && clock[key] != "wall" && metric[key] ~ guarded
            printf "%-80s %12s -> %-12s %+.1f %%%s\n", key, old[key], new[key], change,
                worse ? "  WORSE" : "" | "sort"
            bad += worse
        }
    }
    close("sort")
    printf "%d figures compared, %d only in the new results, %d worse by more than %s %%\n",
        common, only_new, bad, percent
    if (!common) print "error: nothing in common"
    exit bad > 0 || !common
}' "$1" "$2"
