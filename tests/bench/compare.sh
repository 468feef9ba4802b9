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
here=$(dirname "$0")
exec awk -v percent="${3:-2}" -f "$here/value.awk" -f "$here/compare.awk" "$1" "$2"
