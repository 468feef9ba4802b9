#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the quick benchmarks of this tree and of an earlier commit, both without peers, and names
# what moved by more than 2 %. Called by `make bench-diff REV=...`.
set -eu
cd "$(dirname "$0")/../.."
rev=${1:-}
if [ -z "$rev" ] || ! git rev-parse -q --verify "$rev^{commit}" >/dev/null; then
    echo "error: '$rev' is no commit; say make bench-diff REV=..." >&2
    exit 2
fi
out=${BUILD:-build}/bench
old=$out/old
mkdir -p "$out"
rm -rf "$old"
git clone -q --shared . "$old"
git -C "$old" checkout -q "$rev"
if [ ! -e "$old/tests/bench.sh" ]; then
    echo "error: $rev has no benchmarks yet" >&2
    exit 2
fi
(cd "$old" && env -u BUILD -u MAKEFLAGS PEERS=none make bench-quick) >"$out/old.log" 2>&1 || {
    tail -n 5 "$out/old.log" >&2
    echo "error: the benchmarks of $rev failed; see $out/old.log" >&2
    exit 1
}
PEERS=none RESULTS=new.jsonl tests/bench.sh -q >"$out/new.log"
tests/bench/compare.sh "$old/build/bench/results.jsonl" "$out/new.jsonl" 2
