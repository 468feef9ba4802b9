#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the unit tests and replays the fuzz corpora; called by `make check-unit`.
#   tests/unit.sh "NAMES OF UNIT TESTS" "NAMES OF FUZZ TARGETS"
set -u
build=${BUILD:-build}
out=$build/check
mkdir -p "$out"
taps=()

for t in $1; do
    tap=$out/unit-$t.tap
    taps+=("$tap")
    timeout 120 "$build/test/unit/$t" >"$tap" 2>"$out/unit-$t.log"
    status=$?
    if [ $status -ne 0 ] && ! grep -q '^not ok' "$tap"; then
        echo "not ok 9999 - $t ended with status $status" >>"$tap"
        tail -n 20 "$out/unit-$t.log"
    fi
    grep -E '^(not ok|# )' "$tap"
done

tap=$out/fuzz-corpus.tap
taps+=("$tap")
n=0
: >"$tap"
for t in $2; do
    n=$((n + 1))
    corpus=tests/fuzz/corpus/$t
    if [ ! -d "$corpus" ]; then
        echo "not ok $n - $t has no corpus in $corpus" >>"$tap"
    elif timeout 120 "$build/test/fuzz/$t" -runs=0 "$corpus" >"$out/fuzz-$t.log" 2>&1; then
        echo "ok $n - $t: $(find "$corpus" -type f | wc -l) inputs" >>"$tap"
    else
        echo "not ok $n - $t: see $out/fuzz-$t.log" >>"$tap"
        tail -n 20 "$out/fuzz-$t.log"
    fi
done
echo "1..$n" >>"$tap"

echo "unit tests and fuzz corpora:"
exec tools/tapsum.sh "${taps[@]}"
