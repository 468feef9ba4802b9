#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/kernel: guest kernel from trixie's linux-source-6.12 and initrd/kernel.config.
# Usage: tools/kernel.sh           (4-6 minutes on 2 cores; a second run takes the cached one)
#        tools/kernel.sh --source DIR    leave the configured source in DIR, to try options
#
#   Image          flat arm64 kernel that the VMM loads
#   vmlinux        the same with symbols, for gdb and addresses in an oops
#   System.map     addresses
#   config         complete configuration
#   version        Debian's version of the source
#
# The configuration is `tinyconfig` plus our lines; the build stops if Kconfig drops one. The
# source is changed by initrd/patches.
# The same source, compiler and configuration give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cache.sh
. tools/apt-private.sh

CROSS=aarch64-linux-gnu-
SERIES=6.12
REQUESTED=$PWD/initrd/kernel.config
PATCHES=("$PWD"/initrd/patches/*.patch)
JOBS=${JOBS:-$(nproc)}

requested_options() {
    sed -E 's/[[:space:]]*#.*//; /^$/d' "$REQUESTED"
}

kmake() {
    make ARCH=arm64 CROSS_COMPILE=$CROSS LC_ALL=C \
        KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=dormouse \
        KBUILD_BUILD_HOST=build KBUILD_BUILD_VERSION=1 "$@"
}

# Unpacks the kernel source into DIR; prints its Debian version.
fetch_source() {
    local dir=$1 debs=$1.debs
    apt_fetch arm64 "$debs" "linux-source-$SERIES"
    say "kernel: unpacking the source"
    apt_unpack "$debs" "$debs/root"
    mkdir -p "$dir"
    tar -xf "$debs/root/usr/src/linux-source-$SERIES.tar.xz" -C "$dir" --strip-components=1
    basename "$debs"/*.deb | cut -d_ -f2 >"$dir/.debian-version"
    rm -rf "$debs"
    local change
    for change in "${PATCHES[@]}"; do
        patch -s -d "$dir" -p1 --no-backup-if-mismatch -F 0 <"$change" ||
            die "$change does not fit the source $(cat "$dir/.debian-version")"
    done
}

# tinyconfig + our lines, without their comments; then every line must really be in force.
configure() {
    local dir=$1 line name bad=0
    requested_options >"$dir/.requested"
    kmake -C "$dir" tinyconfig >/dev/null 2>&1
    cat "$dir/.requested" >>"$dir/.config"
    kmake -C "$dir" olddefconfig >"$dir/.olddefconfig.log" 2>&1 || {
        tail -n 20 "$dir/.olddefconfig.log" >&2
        die "the kernel cannot be configured (above)"
    }
    while IFS= read -r line; do
        name=${line%%=*}
        case $line in
        *=n) ! grep -q "^$name=" "$dir/.config" || { say "stays on: $name"; bad=1; } ;;
        *) grep -qxF -- "$line" "$dir/.config" || { say "not accepted: $line"; bad=1; } ;;
        esac
    done <"$dir/.requested"
    [ $bad -eq 0 ] ||
        die "initrd/kernel.config asks for options (above) that do not exist or need others"
}

# A line every few seconds instead of one per file; everything that is no such line is kept.
show_progress() {
    local line count=0 next=5
    SECONDS=0
    while IFS= read -r line; do
        case $line in
        "  CC "* | "  AS "* | "  LD "* | "  AR "*) count=$((count + 1)) ;;
        "  "[A-Z]*) ;;
        *) printf '%s\n' "$line" ;;
        esac
        if [ $SECONDS -ge $next ]; then
            say "kernel: $count of some 1550 files, $SECONDS s"
            next=$((SECONDS + 5))
        fi
    done
}

build_kernel() {
    local out=$1 src=$2/linux
    fetch_source "$src"
    configure "$src"
    say "kernel: compiling $SERIES for arm64, $JOBS files at once"
    kmake -C "$src" -j"$JOBS" Image 2>&1 | show_progress >"$src/.messages" || {
        tail -n 30 "$src/.messages" >&2
        die "the kernel does not compile (above)"
    }
    cp "$src/arch/arm64/boot/Image" "$src/System.map" "$src/vmlinux" "$out/"
    cp "$src/.config" "$out/config"
    cp "$src/.debian-version" "$out/version"
    say "kernel: Image of $(stat -c %s "$out/Image") bytes"
}

command -v ${CROSS}gcc >/dev/null || die "${CROSS}gcc is missing; run: make deps"
case ${1:-} in
--source)
    if [ -z "${2:-}" ] || [ -e "$2" ]; then
        die "--source needs the name of a new directory"
    fi
    fetch_source "$(realpath -m "$2")"
    configure "$(realpath "$2")"
    say "configured; now: make -C $2 ARCH=arm64 CROSS_COMPILE=$CROSS -j$JOBS Image"
    ;;
"")
    # Not the whole script: what is printed meanwhile does not change the kernel.
    key=$(cache_key "${PATCHES[@]}" -- "$SERIES" "$(requested_options)" "$(declare -f kmake configure)" \
        "$(${CROSS}gcc --version | sed -n 1p)")
    cache_entry kernel "$key" build_kernel
    cache_link kernel
    ;;
*) die "usage: tools/kernel.sh [--source NEW-DIRECTORY]" ;;
esac
