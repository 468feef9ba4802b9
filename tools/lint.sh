#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything `make lint` checks: formatting, include rules, licence lines, file length, shell.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0
fail() {
    printf 'lint: %s\n' "$*"
    status=1
}

mapfile -t c_files < <(git ls-files '*.c' '*.h')
mapfile -t sh_files < <(git ls-files '*.sh' '*.bash' .ci/run)
mapfile -t js_files < <(git ls-files '*.mjs')

command -v clang-format >/dev/null || { echo "lint: clang-format is missing; run: make deps"; exit 1; }
unformatted=$(clang-format --dry-run --Werror "${c_files[@]}" 2>&1 | grep -E 'error:' |
    sed -E 's/:[0-9]+:[0-9]+: error:.*//' | sort -u)
for f in $unformatted; do fail "$f is not as clang-format writes it"; done

awk -f tools/layers.awk "${c_files[@]}" || status=1

for f in "${c_files[@]}" "${sh_files[@]}" "${js_files[@]}"; do
    head -n 3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || fail "$f: no SPDX line"
    lines=$(wc -l <"$f")
    [ "$lines" -le 800 ] || fail "$f: $lines lines (800 at most)"
done

# A file that no list names is not built and not tested.
for f in "${c_files[@]}"; do
    case $f in
    *.c) name=$(basename "$f" .c)
        case $f in
        tests/unit/*) name=${name#test_} ;;
        tests/guests/*) name=${name#hostile_} ;;
        tests/fuzz/*) name=${name#fuzz_} ;;
        esac
        grep -qwE -- "$name" Makefile tests/*.sh || fail "$f: the Makefile does not name it" ;;
    esac
done

shellcheck -x "${sh_files[@]}" || status=1

# The fuzz targets compile the daemon with clang; the arm64 programs are only checked with it.
clang=${BUILD:-build}/musl/bin/aarch64-musl-clang
if [ -x "$clang" ] && [ -n "${LINT_FLAGS:-}" ]; then
    # shellcheck disable=SC2086
    git ls-files 'hypervisor/*.c' 'snapshot/*.c' 'guest/*.c' ':!hypervisor/debug/*.c' |
        xargs -P "$(nproc)" -n 8 "$clang" $LINT_FLAGS -fsyntax-only || status=1
    # shellcheck disable=SC2086
    git ls-files 'hypervisor/debug/*.c' |
        xargs "$clang" $LINT_FLAGS -DDORMOUSE_DEBUG -fsyntax-only || status=1
fi
git grep -nE '[[:blank:]]+$' -- '*.c' '*.h' '*.sh' '*.mjs' '*.md' Makefile && fail "blanks at line ends"

[ $status -eq 0 ] && echo "lint: ${#c_files[@]} C files, ${#sh_files[@]} scripts: clean ($(clang-format --version | sed -E 's/.*version ([0-9.]+).*/clang-format \1/'))"
exit $status
