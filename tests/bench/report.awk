# SPDX-License-Identifier: Apache-2.0
# Writes docs/benchmarks.md from results: awk -v about=FILE -f report.awk bars results.jsonl
# `about` holds lines `name: value` of the machine the results come from, `notes` what people
# found out. The results' lines are
# this project's own, one flat object each, so no general JSON parser is needed.

function value(line, key,    at, rest) {
    at = index(line, "\"" key "\":")
    if (!at) return ""
    rest = substr(line, at + length(key) + 3)
    if (substr(rest, 1, 1) == "{") {
        sub(/}.*/, "}", rest)
        return rest
    }
    if (substr(rest, 1, 1) == "\"") {
        rest = substr(rest, 2)
        sub(/".*/, "", rest)
        return rest
    }
    sub(/[,}].*/, "", rest)
    return rest
}

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

FNR == NR {
    if ($0 ~ /^#/ || NF < 5) next
    n = ++nbars
    bar_key[n] = $1 SUBSEP $2 SUBSEP $3
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
    figure[c SUBSEP p SUBSEP m] = row_median[r]
}

END {
    print "# Benchmarks"
    print ""
    print "Written by `tests/bench/report.sh` from the results of `make bench`; do not edit."
    print ""
    print "One instruction of the emulated host is one nanosecond here, so two runs of the same work"
    print "agree within about 1 %, on any machine. It counts instructions, not cache misses or memory"
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
    print "| figure | at most | measured | |"
    print "|---|---|---|---|"
    for (i = 1; i <= nbars; i++) {
        x = figure[bar_key[i]]
        verdict = x == "" ? "not measured" : x + 0 <= bar_limit[i] + 0 ? "holds" : "**does not hold**"
        printf "| %s | %s | %s | %s |\n", bar_text[i], bar_limit[i], x == "" ? "-" : plain(x), verdict
    }
    print ""
    print "## Where we lose"
    print ""
    lost = 0
    for (i = 1; i <= nbars; i++) {
        x = figure[bar_key[i]]
        if (x != "" && x + 0 > bar_limit[i] + 0) {
            printf "- %s: %s, not %s\n", bar_text[i], plain(x), bar_limit[i]
            lost++
        }
    }
    for (r = 1; r <= nrows; r++) {
        if (row_ratio[r] != "null" && row_ratio[r] + 0 > 1) {
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
            peer = row_peer[r] == "null" ? "" : row_peer[r] " " number(row_pmed[r], row_unit[r])
            printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", words(row_params[r]),
                row_metric[r], number(row_median[r], row_unit[r]), number(row_min[r], row_unit[r]),
                number(row_max[r], row_unit[r]), row_runs[r], peer,
                row_ratio[r] == "null" ? "" : row_ratio[r]
        }
    }
}
