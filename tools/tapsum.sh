#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Adds up TAP files: prints what failed, then `N passed, N failed[, N skipped]`; status 1 when
# anything failed, when a file holds no plan, or when fewer tests ran than its plan says.
#   tools/tapsum.sh FILE.tap...
set -eu
[ $# -gt 0 ] || { echo "usage: tools/tapsum.sh FILE.tap..." >&2; exit 2; }
exec awk '
function finish() {
    if (file == "") return
    if (plan < 0) { bad("no plan: the suite ended early") }
    else if (seen < plan) { bad("only " seen " of " plan " tests ran") }
}
function bad(what) { failed++; print "FAILED " name ": " what }
FNR == 1 { finish(); file = FILENAME; name = FILENAME; sub(/.*\//, "", name); sub(/\.tap$/, "", name)
           plan = -1; seen = 0 }
/^1\.\.[0-9]+/ { split($1, p, "\\.\\."); plan = p[2] + 0 }
/^not ok / { if ($0 ~ /# TODO/) next; seen++; line = $0; sub(/^not ok [0-9]* *-? */, "", line); bad(line) }
/^ok / { seen++; if (toupper($0) ~ /# SKIP/) { skipped++; print "SKIPPED " name ": " $0 } else passed++ }
END {
    finish()
    printf "%d passed, %d failed", passed, failed
    if (skipped) printf ", %d skipped", skipped
    printf "\n"
    exit failed > 0 || passed == 0
}' "$@"
