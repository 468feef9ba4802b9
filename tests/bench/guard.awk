# SPDX-License-Identifier: Apache-2.0
# The verdict of the guard: awk -v percent=5 -f value.awk -f guard.awk baseline.jsonl results.jsonl
# Prints TAP, one test for each case. Of a time its least is compared: a run takes longer when more
# timers fall into it, which any change moves. Its median must only be near. A figure is worse when
# it is beyond both the percentage and what one page, one call or a few instructions more make of a
# small figure; one that is better by more than that is named, so that the baseline follows, but is
# no failure. What the baseline has and the results lack is a failure, what only the results have
# is not.

function figure(metric) { return metric == "time" || metric == "pause" ? "min" : "median" }

BEGIN {
    far = 30
    slack["bytes"] = slack["rss"] = 8192
    slack["syscalls"] = slack["ioctls"] = 3
    slack["time"] = slack["pause"] = 0.005
}

/^{/ {
    metric = value($0, "metric")
    if (!(metric in slack) || value($0, "clock") == "wall" || value($0, "median") == "null") next
    name = value($0, "case")
    if (name == "restore-phase") next # a part may grow where the whole does not
    key = name " " value($0, "params") " " metric
    if (FNR == NR) {
        if (!(key in old)) keys[++nkeys] = key
        old[key] = value($0, figure(metric))
        old_median[key] = value($0, "median")
        of[key] = metric
        case_of[key] = name
        if (!(name in known)) { known[name] = 1; cases[++ncases] = name }
    } else {
        new[key] = value($0, figure(metric))
        new_median[key] = value($0, "median")
    }
}

END {
    for (i = 1; i <= nkeys; i++) {
        key = keys[i]
        name = case_of[key]
        count[name]++
        if (!(key in new)) {
            text[name] = text[name] "# " key ": missing, was " old[key] "\n"
            bad[name]++
            continue
        }
        d = new[key] - old[key]
        limit = old[key] * percent / 100
        if (limit < slack[of[key]]) limit = slack[of[key]]
        m = new_median[key] - old_median[key]
        if (d <= limit && m > old_median[key] * far / 100 && m > slack[of[key]]) {
            text[name] = text[name] sprintf("# %s: median %s, was %s: %+.1f %%\n", key,
                new_median[key], old_median[key], 100 * m / old_median[key])
            bad[name]++
        } else if (d > limit) {
            text[name] = text[name] sprintf("# %s: %s, was %s: %+.1f %%\n", key, new[key],
                old[key], 100 * d / old[key])
            bad[name]++
        } else if (-d > limit) {
            better = better sprintf("# %s: %s, was %s: %+.1f %%\n", key, new[key], old[key],
                100 * d / old[key])
        }
    }
    print "1.." ncases
    for (k = 1; k <= ncases; k++) {
        name = cases[k]
        if (bad[name]) {
            printf "not ok %d - %s: %d of %d figures are more than %s %% worse than the baseline\n",
                k, name, bad[name], count[name], percent
            printf "%s", text[name]
            failed = 1
        } else {
            printf "ok %d - %s: %d figures within %s %% of the baseline\n", k, name,
                count[name], percent
        }
    }
    if (better != "") printf "# better by as much: the baseline can be lowered\n%s", better
    exit failed
}
