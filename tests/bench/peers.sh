#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/peers/qemu.img: QEMU for arm64 from Debian's signed packages with the libraries it
# needs, as a file system for the emulated host. No other part of those packages is taken, and
# nothing of it is committed. Called by the Makefile, from the top of the tree.
set -eu
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cache.sh
. tools/cache.sh
# shellcheck source=tools/apt-private.sh
. tools/apt-private.sh

libs=usr/lib/aarch64-linux-gnu

# The package, and the libraries among all it depends on.
wanted() {
    apt_private arm64 apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances qemu-system-arm |
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
    apt_fetch arm64 "$work/debs" qemu-system-arm $list
    apt_unpack "$work/debs" "$work/root"
    mkdir -p "$work/image"
    copy_with_libs "$work/root" "$work/image" usr/bin/qemu-system-aarch64
    find "$work/debs" -name 'qemu-system-arm_*' -printf '%f\n' |
        sed 's/^[^_]*_//; s/_.*//; s/%3a/:/; s/^[0-9]*://' >"$out/qemu.version"
    mke2fs -q -t ext4 -O ^has_journal -m 0 -E root_owner=0:0 -d "$work/image" "$out/qemu.img" \
        "$(($(du -sm "$work/image" | cut -f1) * 12 / 10 + 8))M"
}

apt_private_ready arm64
version=$(apt_private arm64 apt-cache show --no-all-versions qemu-system-arm |
    sed -n 's/^Version: //p')
[ -n "$version" ] || die "the package lists have no qemu-system-arm; try again later"
cache_entry peers "$(cache_key tests/bench/peers.sh -- "$version")" build
cache_link peers
