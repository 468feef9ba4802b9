# SPDX-License-Identifier: Apache-2.0
# Writes docs/benchmarks.md from results: awk -v about=FILE -f value.awk -f report.awk bars
# results.jsonl
# `about` holds lines `name: value` of the machine the results come from, `notes` what people
# found out.

function words(params,    s) { # {"mode":"pooled","n":2} -> mode pooled, n 2
    s = params
    gsub(/[{}"]/, "", s)
    gsub(/:/, " ", s)
    gsub(/,/, ", ", s)
    return s == "" ? "-" : s
}

function number(x, unit) {
    if (x == "" || x == "null") return "missing"
    x += 0
    if (unit == "B" && x >= 1048576) return sprintf("%.2f MiB", x / 1048576)
    if (unit == "B" && x >= 1024) return sprintf("%.0f KiB", x / 1024)
    if (unit == "1" || unit == "B") return sprintf("%.0f", x)
    return sprintf(x < 10 ? "%.3f %s" : x < 100 ? "%.2f %s" : "%.1f %s", x, unit)
}

function plain(x) {
    return x + 0 == int(x) ? sprintf("%d", x) : sprintf("%.3f", x)
}

# Metrics of which more is better.
function more_is_better(metric) {
    return metric == "bytes-per-us" || metric == "rate" || metric == "reached"
}

# What a bar is held against: a figure, the ratio to a peer's, or one figure by another.
function measured(i,    at, x, y) {
    at = index(bar_params[i], "}/{")
    if (at) {
        x = figure[bar_case[i] SUBSEP substr(bar_params[i], 1, at) SUBSEP bar_metric[i]]
        y = figure[bar_case[i] SUBSEP substr(bar_params[i], at + 2) SUBSEP bar_metric[i]]
        return x == "" || x == "null" || y + 0 == 0 ? "" : x / y
    }
    # metric/peer is the ratio to that peer's
    x = figure[bar_case[i] SUBSEP bar_params[i] SUBSEP bar_metric[i]]
    return x == "null" ? "" : x
}

function holds(i, x) {
    return bar_least[i] ? x + 0 >= bar_limit[i] + 0 : x + 0 <= bar_limit[i] + 0
}

FNR == NR {
    if ($0 ~ /^#/ || NF < 5) next
    n = ++nbars
    bar_case[n] = $1
    bar_params[n] = $2
    bar_metric[n] = $3
    bar_least[n] = $4 ~ /^>/
    sub(/^>/, "", $4)
    bar_limit[n] = $4
    $1 = $2 = $3 = $4 = ""
    sub(/^ +/, "")
    bar_text[n] = $0
    next
}

/^{/ {
    gsub(/": /, "\":")
    c = value($0, "case"); p = value($0, "params"); m = value($0, "metric")
    compact = p
    r = ++nrows
    row_case[r] = c; row_params[r] = p; row_metric[r] = m
    row_unit[r] = value($0, "unit"); row_median[r] = value($0, "median")
    row_min[r] = value($0, "min"); row_max[r] = value($0, "max")
    row_peer[r] = value($0, "peer"); row_pmed[r] = value($0, "peer_median")
    row_ratio[r] = value($0, "ratio"); row_runs[r] = value($0, "runs")
    if (!(c in seen)) { seen[c] = 1; order[++ncases] = c }
    key = c SUBSEP p SUBSEP m
    figure[key] = row_median[r]
    if (row_ratio[r] != "null") figure[key "/" row_peer[r]] = row_ratio[r]
    # A peer that is missing needs no row of its own beside one that is there.
    if (row_pmed[r] != "null" || !(key in best)) best[key] = r
    row_key[r] = key
    if (row_peer[r] != "null") nlines[row_peer[r]]++
    if (row_pmed[r] != "null") nfound[row_peer[r]]++
}

END {
    print "# Benchmarks"
    print ""
    print "Written by `tests/bench/report.sh` from the results of `make bench`; do not edit."
    print ""
    print "One instruction of the emulated host is one nanosecond here, so two runs of one build agree"
    print "to the last byte, on any machine. It counts instructions, not cache misses or memory"
    print "latency: real hardware differs, and for the better or the worse, but not by chance. All"
    print "monitors are measured from outside, by the events of the host's kernel: the first guest"
    print "instruction is the entry into the guest that is not answered by a missing page of code."
    print "The trace events themselves cost about 0.3 us each. Snapshot files lie in memory."
    print "Ratios are ours divided by the peer's: below 1 we need less."
    print ""
    while ((getline line < about) > 0) print "- " line
    print ""
    print "## What was promised"
    print ""
    print "| figure | promised | measured | |"
    print "|---|---|---|---|"
    for (i = 1; i <= nbars; i++) {
        x = measured(i)
        verdict = x == "" ? "not measured" : holds(i, x) ? "holds" : "**does not hold**"
        printf "| %s | %s %s | %s | %s |\n", bar_text[i], bar_least[i] ? ">=" : "<=",
            bar_limit[i], x == "" ? "-" : plain(x), verdict
    }
    for (peer in nlines)
        if (!(peer in nfound)) {
            print ""
            print peer " was not there: " nlines[peer] " figures show it as missing."
        }
    print ""
    print "## Where we lose"
    print ""
    lost = 0
    for (i = 1; i <= nbars; i++) {
        x = measured(i)
        if (x != "" && !holds(i, x)) {
            printf "- %s: %s, not %s\n", bar_text[i], plain(x), bar_limit[i]
            lost++
        }
    }
    for (r = 1; r <= nrows; r++) {
        if (row_ratio[r] == "null") continue
        worse = more_is_better(row_metric[r]) ? row_ratio[r] + 0 < 1 : row_ratio[r] + 0 > 1
        if (worse) {
            printf "- %s (%s), %s: %s; %s has %s\n", row_case[r], words(row_params[r]),
                row_metric[r], number(row_median[r], row_unit[r]), row_peer[r],
                number(row_pmed[r], row_unit[r])
            lost++
        }
    }
    if (!lost) print "Nowhere in these figures."
    print ""
    while ((getline line < notes) > 0) print line
    print ""
    npictures = split(pictures, picture, " ")
    for (i = 1; i <= npictures; i++)
        if (picture[i] ~ /^[a-z]+[.]svg$/) printf "![%s](benchmarks/%s)\n\n", picture[i], picture[i]
    print "## All figures"
    for (k = 1; k <= ncases; k++) {
        print ""
        print "### " order[k]
        print ""
        print "| what | metric | median | min | max | runs | peer | ratio |"
        print "|---|---|---|---|---|---|---|---|"
        for (r = 1; r <= nrows; r++) {
            if (row_case[r] != order[k]) continue
            if (row_pmed[r] == "null" && best[row_key[r]] != r) continue
            peer = row_peer[r] == "null" ? "" : row_peer[r] " " number(row_pmed[r], row_unit[r])
            printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", words(row_params[r]),
                row_metric[r], number(row_median[r], row_unit[r]), number(row_min[r], row_unit[r]),
                number(row_max[r], row_unit[r]), row_runs[r], peer,
                row_ratio[r] == "null" ? "" : row_ratio[r]
        }
    }
}
