#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the end-to-end tests against a host of its own with empty state; called by `make check-e2e`.
#   tests/e2e.sh [FILE.test.mjs... | tests/e2e/cli.sh | tests/e2e/software.mjs]
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
out=$build/check
mkdir -p "$out"
export DORMOUSE_RUN=$build/e2e-run DORMOUSE_PORT=${E2E_PORT:-18443}
[ $# -gt 0 ] || set -- tests/e2e/*.test.mjs tests/e2e/cli.sh

node=$(tools/node.sh) || exit 1
tools/host.sh down >/dev/null 2>&1
rm -rf "$DORMOUSE_RUN"
trap 'tools/host.sh down' EXIT
if ! tools/host.sh up; then
    printf 'not ok 1 - the host comes up\n1..1\n' >"$out/e2e.tap"
    exit 1
fi
# shellcheck disable=SC1091
. "$DORMOUSE_RUN/env"

taps=()
for file in "$@"; do
    name=$(basename "${file%.sh}" .mjs) name=${name%.test}
    tap=$out/e2e-$name.tap
    taps+=("$tap")
    case $file in
    *.sh) run=("$file") ;;
    *) run=("$node" --no-warnings --test --test-reporter=tap
        --test-timeout="${E2E_TEST_TIMEOUT:-900000}" "$file") ;;
    esac
    timeout "${E2E_TIMEOUT:-1500}" "${run[@]}" >"$tap"
    # node counts a file as a test when it runs several; here each runs alone.
    sed -n -E '/^not ok/,/^(ok|not ok|1\.\.)/p' "$tap" | grep -vE '^ok' | head -n 60
done
# Whatever the tests did, the network-facing process needed no call that its filter refuses.
tap=$out/e2e-filter.tap
taps+=("$tap")
if refused=$(grep -F 'refused system call' "$DORMOUSE_RUN/dormoused.log"); then
    printf 'not ok 1 - %s\n1..1\n' "$refused" | tee "$tap"
else
    printf 'ok 1 - no system call was refused\n1..1\n' >"$tap"
fi
echo "end-to-end tests:"
tools/tapsum.sh "${taps[@]}"
