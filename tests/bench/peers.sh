#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/peers/peers.cpio: QEMU and nginx for arm64 from Debian's signed packages with the
# libraries they need, to be unpacked in the emulated host as /bench/peers. No other part of those
# packages is taken, and nothing of it is committed. An archive, as reading a disk takes another
# time each time. Called by the Makefile, from the top of the tree.
set -eu
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cache.sh
. tools/cache.sh
# shellcheck source=tools/apt-private.sh
. tools/apt-private.sh

libs=usr/lib/aarch64-linux-gnu

packages="qemu-system-arm nginx"

# The libraries among all that the packages depend on.
wanted() {
    # shellcheck disable=SC2086 # the list is words
    apt_private arm64 apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances $packages |
        grep -E '^(lib|zlib1g)' | grep -vE '^lib(pam|nss|nspr|sasl2-modules|deb|semanage|db5)' |
        LC_ALL=C sort -u
}

# copy_with_libs FROM TO PATH: all into one directory, for the loader that comes with them.
copy_with_libs() {
    local from=$1 to=$2 path=$3 lib
    [ ! -e "$to/${path##*/}" ] || return 0
    install -m 755 "$from/$path" "$to/${path##*/}"
    for lib in $(readelf -d "$from/$path" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        if [ -e "$from/$libs/$lib" ]; then
            copy_with_libs "$from" "$to" "$libs/$lib"
        elif [ -e "$from/usr/lib/$lib" ]; then
            copy_with_libs "$from" "$to" "usr/lib/$lib"
        else
            die "no package has the library $lib that $path needs"
        fi
    done
}

build() {
    local out=$1 work=$2 list
    list=$(wanted)
    # shellcheck disable=SC2086 # the list is words
    apt_fetch arm64 "$work/debs" $packages $list
    apt_unpack "$work/debs" "$work/root"
    mkdir -p "$work/image/bench/peers"
    copy_with_libs "$work/root" "$work/image/bench/peers" usr/bin/qemu-system-aarch64
    copy_with_libs "$work/root" "$work/image/bench/peers" usr/sbin/nginx
    for name in qemu-system-arm nginx; do
        find "$work/debs" -name "${name}_*" -printf '%f\n' |
            sed 's/^[^_]*_//; s/_.*//; s/%3a/:/; s/^[0-9]*://' >"$out/$name.version"
    done
    find "$work/image" -exec touch -h -d @0 {} +
    (cd "$work/image" && find . -mindepth 1 | LC_ALL=C sort |
        cpio --quiet --reproducible -o -H newc -R 0:0) >"$out/peers.cpio"
}

apt_private_ready arm64
# shellcheck disable=SC2086 # the list is words
versions=$(apt_private arm64 apt-cache show --no-all-versions $packages | sed -n 's/^Version: //p')
[ "$(echo "$versions" | wc -l)" = 2 ] ||
    die "the package lists lack one of $packages; try again later"
cache_entry peers "$(cache_key tests/bench/peers.sh -- "$versions")" build
cache_link peers
