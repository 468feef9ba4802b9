#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/bases/bases.img, the read-only disk with the managed base root file systems
# (debian.img for dormouse/debian, python.img for dormouse/python) that Dockerfiles build upon.
#
# Packages are fetched here, with apt's signature check, and installed by dpkg where they
# belong: on ARM64, in one boot of the emulated host. They are handed over decompressed, as
# decompressing is what an emulated CPU is worst at. Needs root, for the ownership of files.
# Nothing of the project's own programs is needed. The result is kept in the build cache.
#
# Called by the Makefile, from the top of the tree: initrd/bases.sh
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tools/cache.sh
. tools/cache.sh
# shellcheck source=tools/apt-private.sh
. tools/apt-private.sh

# What apt calls required is the smallest Debian in which packages can be installed.
debian="?priority(required) apt ca-certificates"
python="python3 python3-pip python3-venv python-is-python3"
size=8G

# settings: what the bases must know of this machine's network to reach the mirror.
settings() {
    apt_sources_list | while read -r kind site suite component; do
        printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n\n' \
            "$kind" "$site" "$suite" "$component" "$APT_KEYRING"
    done
    # A proxy with a password in its address is this machine's own affair.
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-(Valid-Until|Date)) ' |
        grep -v '@' | sed 's/^/#conf /' || true
}

# closure PACKAGE...: these and everything they need, in the order of installation.
closure() {
    apt_private arm64 apt-get install -s "$@" 2>/dev/null | awk '$1 == "Inst" { print $2 }'
}

# repack DEB TO: the same package with its members stored plainly.
repack() {
    local dir=$work/repack name
    rm -rf "$dir"
    mkdir "$dir"
    (
        cd "$dir"
        ar x "$1"
        for name in control.tar data.tar; do
            if [ -e $name.xz ]; then
                xz -d $name.xz
            elif [ -e $name.zst ]; then
                zstd -q -d --rm $name.zst
            elif [ -e $name.gz ]; then
                gzip -d $name.gz
            fi
        done
        ar rcD "$2" debian-binary control.tar data.tar
    )
}

# apt_date: when the newest of the archives was made; no file in a package is younger.
apt_date() {
    local lists
    lists=$(apt_private_dir arm64)/state/lists
    sed -n 's/^Date: //p' "$lists"/*InRelease | while read -r date; do
        date -u -d "$date" +%s
    done | sort -n | tail -n 1
}

make_bases() {
    local out=$1 work=$2 root=$2/root set name began
    [ "$(id -u)" = 0 ] || die "making the base images needs root; run make as root"
    apt_private_ready arm64
    # shellcheck disable=SC2046,SC2086  # lists of words
    {
        eval set -- $(printf "'%s' " $debian)
        closure "$@" >"$work/debian.list"
        closure "$@" $python | grep -vxFf "$work/debian.list" >"$work/python.list"
    }
    if [ ! -s "$work/debian.list" ] || [ ! -s "$work/python.list" ]; then
        die "apt cannot resolve the packages of the base images; look at 'apt-cache policy'"
    fi
    for set in debian python; do
        mkdir -p "$root/packages/$set"
        # shellcheck disable=SC2046
        apt_fetch arm64 "$work/debs/$set" $(cat "$work/$set.list")
        say "bases: decompressing the packages of $set"
        for name in "$work/debs/$set"/*.deb; do
            repack "$name" "$root/packages/$set/${name##*/}"
        done
    done
    # Enough of a root for dpkg and the packages' scripts to run in; dpkg then installs all of
    # it once more, properly. base-files goes first: it brings the links of the merged /usr.
    mkdir -p "$root/target"
    for name in "$work"/debs/debian/base-files_*.deb "$work"/debs/debian/*.deb; do
        dpkg-deb -x "$name" "$root/target"
    done
    settings >"$root/settings"
    apt_date >"$root/date"
    install -m 755 initrd/bases-inside.sh "$root/run.sh"

    truncate -s 3G "$work/work.img"
    mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$work/work.img"
    mkdir "$work/images"
    truncate -s $size "$work/images/debian.img" "$work/images/python.img"
    say "bases: installing on ARM64 (two to four minutes)"
    began=$SECONDS
    BUILD=$work/build tools/appliance.sh
    BUILD=$work/build tools/vmrun.sh -t 1500 -f initrd/bases-inside.sh=/bases.sh \
        -d "$work/work.img:work" -d "$work/images/debian.img:debian" \
        -d "$work/images/python.img:python" /bases.sh >&2 ||
        die "installing the base images failed; the reason is above"
    say "bases: installed in $((SECONDS - began)) s"
    for name in debian python; do
        e2fsck -fn "$work/images/$name.img" >"$work/fsck.log" 2>&1 ||
            die "the file system of $name.img is damaged: $(tail -n 1 "$work/fsck.log")"
    done
    cp "$work/debian.list" "$out/debian.packages"
    cp "$work/python.list" "$out/python.packages"
    # Holes stay holes; room for the two and little more, as the disk is only ever read.
    truncate -s $(($(du -sm "$work/images" | cut -f1) * 103 / 100 + 16))M "$out/bases.img"
    mke2fs -q -t ext4 -L dormouse-bases -m 0 -O ^has_journal -N 64 -E root_owner=0:0 \
        -d "$work/images" "$out/bases.img"
    e2fsck -fn "$out/bases.img" >/dev/null 2>&1 || die "bases.img is damaged; is the disk full?"
}

key=$(cache_key initrd/bases.sh initrd/bases-inside.sh -- "$APT_SUITE" "$(settings)")
cache_entry bases "$key" make_bases
cache_link bases
