# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Keyed cache for slow, rarely changing build products (sysroots, kernel), for bash scripts.
#
# An entry is ${DORMOUSE_CACHE:-~/.cache/dormouse}/<name>-<key>/, where the key is a hash of
# everything that decides the content. It is built in a temporary directory and renamed into
# place only when complete, under a lock per name; a manifest (sha256 of each file) is checked
# before every reuse, so a damaged or half-written entry is rebuilt instead of used.
#
#   key=$(cache_key recipe-file... -- word...)
#   cache_entry NAME KEY FUNCTION      # runs `FUNCTION out work` if needed; sets CACHE_ENTRY
#   cache_link NAME                    # $BUILD/NAME -> $CACHE_ENTRY; touches $BUILD/NAME.stamp

CACHE_ROOT=${DORMOUSE_CACHE:-${HOME:-/root}/.cache/dormouse}
BUILD=${BUILD:-build}
CACHE_KEEP_DAYS=30

say() {
    printf '  %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Hash of the files before `--` and the plain words after it.
cache_key() {
    local files=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        [ -r "$1" ] || die "cache_key: cannot read recipe file '$1'"
        files+=("$1")
        shift
    done
    {
        [ ${#files[@]} -eq 0 ] || cat -- "${files[@]}"
        printf '%s\n' "$@"
    } | sha256sum | cut -c1-16
}

# Type, mode and link target of every path, then the sha256 of every file. Times are left out.
cache_manifest() {
    (
        cd "$1" || exit 1
        find . -mindepth 1 ! -path ./.manifest -printf '%y %m %p %l\n' | LC_ALL=C sort
        find . -type f ! -path ./.manifest -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
    )
}

cache_verify() {
    [ -f "$1/.manifest" ] && cache_manifest "$1" 2>/dev/null | cmp -s - "$1/.manifest"
}

# Runs the build function with `set -e` in force, publishes what it left in its out directory.
cache_build() {
    local tmp=$1 entry=$2 build=$3
    CACHE_TMP=$tmp # a local is gone when the trap runs
    trap 'rm -rf "$CACHE_TMP"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p "$tmp/out" "$tmp/work"
    "$build" "$tmp/out" "$tmp/work"
    cache_manifest "$tmp/out" >"$tmp/manifest"
    mv "$tmp/manifest" "$tmp/out/.manifest"
    sync -f "$tmp/out"
    mv -T "$tmp/out" "$entry"
    sync "$CACHE_ROOT"
}

cache_entry() {
    local name=$1 key=$2 build=$3 lock rc old
    CACHE_ENTRY=$CACHE_ROOT/$name-$key
    mkdir -p "$CACHE_ROOT" ||
        die "cannot create '$CACHE_ROOT'; set DORMOUSE_CACHE to a directory you may write"
    # What is there and whole needs no lock: another key's build may hold it for long.
    if [ -d "$CACHE_ENTRY" ] && cache_verify "$CACHE_ENTRY"; then
        : >"$CACHE_ROOT/.used-$name-$key"
        return
    fi
    exec {lock}>"$CACHE_ROOT/.$name.lock"
    if ! flock -n "$lock"; then
        say "$name: another build is at work, waiting for it"
        flock "$lock"
    fi
    # Keys are 16 characters long, so these globs never match a longer name with this prefix.
    rm -rf "$CACHE_ROOT/.tmp-$name-"????????????????
    if [ -d "$CACHE_ENTRY" ] && ! cache_verify "$CACHE_ENTRY"; then
        say "$name: the cached copy is damaged, building it again"
        mv -T "$CACHE_ENTRY" "$CACHE_ROOT/.tmp-$name-$key"
        rm -rf "$CACHE_ROOT/.tmp-$name-$key"
    fi
    if [ ! -d "$CACHE_ENTRY" ]; then
        # Not in a condition: there bash would ignore `set -e` inside the build function.
        set +e
        (
            set -e
            cache_build "$CACHE_ROOT/.tmp-$name-$key" "$CACHE_ENTRY" "$build"
        )
        rc=$?
        set -e
        [ $rc -eq 0 ] || exit $rc
    fi
    : >"$CACHE_ROOT/.used-$name-$key"
    for old in "$CACHE_ROOT/.used-$name-"????????????????; do
        if [ -n "$(find "$old" -mtime +$CACHE_KEEP_DAYS 2>/dev/null)" ]; then
            rm -rf "${CACHE_ROOT:?}/${old##*/.used-}" "$old"
        fi
    done
    exec {lock}>&-
}

cache_link() {
    local link=$BUILD/$1
    mkdir -p "$BUILD"
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        die "'$link' is in the way of a link into the cache; remove it"
    fi
    if [ "$(readlink "$link" 2>/dev/null)" != "$CACHE_ENTRY" ]; then
        ln -s "$CACHE_ENTRY" "$link.new.$$"
        mv -T "$link.new.$$" "$link"
    fi
    touch "$BUILD/$1.stamp"
}
