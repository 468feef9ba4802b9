#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the build machine lacks, on Debian 12 or 13, amd64 or arm64, as root or by sudo.
# Usage: tools/deps.sh [--list]   (--list prints the packages and installs nothing)
#
# A run with nothing missing is one dpkg-query, without network. Anywhere else the packages are
# named and nothing is touched: the names are Debian's, other systems have their own.
set -euo pipefail

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# What each group is for; nothing is left to Recommends, so that the set is the same everywhere.
BUILD="git make gcc libc6-dev bc bison flex libssl-dev libelf-dev cpio kmod dpkg-dev xz-utils"
CHECK="clang clang-format shellcheck"                     # lint, fuzzers
GUEST="device-tree-compiler e2fsprogs zstd fakeroot debootstrap" # images
HOST="qemu-system-arm ipxe-qemu"                          # the emulated ARM64 host
FETCH="ca-certificates curl debian-archive-keyring"
TEST="jq zip xxd gdb-multiarch"

read_system() {
    ID=
    VERSION_ID=
    # shellcheck source=/dev/null
    [ ! -r /etc/os-release ] || . /etc/os-release
    SYSTEM="${ID:-unknown} ${VERSION_ID:-}"
    ARCH=$(dpkg --print-architecture 2>/dev/null || uname -m)
}

# The packages for this release and architecture, in PACKAGES.
choose_packages() {
    PACKAGES="$BUILD $CHECK $GUEST $HOST $FETCH $TEST"
    [ "$ARCH" = arm64 ] ||
        PACKAGES+=" gcc-aarch64-linux-gnu libc6-dev-arm64-cross" # arm64's own gcc has this name
    case $SYSTEM in
    "debian 12") PACKAGES+=" libclang-rt-14-dev" ;; # sanitizers and libFuzzer of its clang
    *) PACKAGES+=" libclang-rt-dev" ;;
    esac
    have_node || PACKAGES+=" nodejs npm"
}

print_packages() {
    # shellcheck disable=SC2086 # a list of words
    printf '%s\n' $PACKAGES
}

# A newer Node.js from elsewhere is as good as Debian's.
have_node() {
    local version
    command -v npm >/dev/null && command -v node >/dev/null || return 1
    version=$(node --version 2>/dev/null) || return 1
    version=${version#v}
    [ "${version%%.*}" -ge 18 ] 2>/dev/null
}

# Prints those of PACKAGES that are not installed.
missing_packages() {
    # shellcheck disable=SC2016 # dpkg-query expands it
    local installed package format=' ${db:Status-Status}/${Package} '
    # shellcheck disable=SC2086 # a list of words
    installed=$(dpkg-query -W -f="$format" $PACKAGES 2>/dev/null) || true
    for package in $PACKAGES; do
        case $installed in
        *" installed/$package "*) ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

read_system
choose_packages
if [ "${1:-}" = --list ]; then
    print_packages
    exit 0
fi
[ $# -eq 0 ] || die "usage: tools/deps.sh [--list]"

case $SYSTEM/$ARCH in
"debian 12"/amd64 | "debian 12"/arm64 | "debian 13"/amd64 | "debian 13"/arm64) ;;
*)
    print_packages
    die "this is $SYSTEM on $ARCH, not Debian 12 or 13 on amd64 or arm64: install the like of" \
        "the packages above yourself"
    ;;
esac

MISSING=$(missing_packages)
[ -n "$MISSING" ] || exit 0
AS_ROOT=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        die "not root and no sudo; as root: apt-get install --no-install-recommends $MISSING"
    AS_ROOT="sudo"
fi
printf '  installing: %s\n' "$MISSING" >&2
APT="$AS_ROOT env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8"
APT="$APT apt-get -q -o DPkg::Lock::Timeout=600"
# A broken third-party source fails the update as a whole; what counts is the installation.
$APT update >&2 || printf '  apt-get update failed (above), trying with what it has\n' >&2
# shellcheck disable=SC2086
$APT install -y --no-install-recommends $MISSING >&2 ||
    die "apt-get install failed (above); check the network and /etc/apt, then repeat"
MISSING=$(missing_packages)
[ -z "$MISSING" ] || die "still missing after the installation: $MISSING"
printf '  all packages are installed\n' >&2
