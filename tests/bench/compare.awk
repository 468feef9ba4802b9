# SPDX-License-Identifier: Apache-2.0
# What moved between two results: awk -v percent=2 -f value.awk -f compare.awk OLD NEW

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
}
