#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/redis: trixie's redis-server for arm64 and the libraries it loads, as a tree for the
# root of a test guest. Cached.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/cache.sh
. tools/apt-private.sh

PACKAGES="redis-tools libc6 libgcc-s1 libatomic1 libstdc++6 libjemalloc2 liblzf1 libzstd1 zlib1g
    libssl3t64 libsystemd0 libcap2"

# needs FILE: its libraries, and theirs, into $tree/lib.
needs() {
    local lib from
    for lib in $(aarch64-linux-gnu-readelf -d "$1" |
        sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') ld-linux-aarch64.so.1; do
        [ ! -e "$tree/lib/$lib" ] || continue
        from=$(find "$all" -name "$lib" | head -n 1)
        [ -n "$from" ] || die "redis-server needs $lib, which none of its packages has"
        install -m 755 "$(realpath "$from")" "$tree/lib/$lib"
        needs "$tree/lib/$lib"
    done
}

build_redis() {
    local tree=$1 all=$2/all
    apt_private_ready arm64
    # shellcheck disable=SC2086
    apt_fetch arm64 "$2/debs" $PACKAGES
    apt_unpack "$2/debs" "$all"
    mkdir -p "$tree/bin" "$tree/lib"
    install -m 755 "$all/usr/bin/redis-check-rdb" "$tree/bin/redis-server" # one program, many names
    needs "$tree/bin/redis-server"
}

key=$(cache_key tests/guests/redis.sh --)
cache_entry redis "$key" build_redis
cache_link redis
