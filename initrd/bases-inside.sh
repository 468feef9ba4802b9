#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The half of bases.sh that runs on ARM64, in the emulated host: installs the packages on the
# disk `work` into its directory target, then makes the disks `debian` and `python` of it.
set -eu

disk() { # device of a disk by its serial
    for dir in /sys/block/vd*; do
        if [ "$(cat "$dir/serial" 2>/dev/null)" = "$1" ]; then
            echo "/dev/${dir##*/}"
            return 0
        fi
    done
    echo "error: there is no disk '$1'" >&2
    return 1
}

note() {
    echo "  bases: $* ($(cut -d. -f1 /proc/uptime) s)"
}

inside() { # a command in the new root
    chroot "$t" /usr/bin/env -i PATH="/packages/bin:/usr/sbin:/usr/bin" HOME=/root \
        LC_ALL=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive \
        DEBCONF_NONINTERACTIVE_SEEN=true PYTHONHASHSEED=0 "$@"
}

# What a root for microVMs has and Debian's own does not. Written before the packages, so that
# dpkg leaves out documents from the start; all of it can be removed by who wants otherwise.
configure() {
    mkdir -p "$t/etc/dpkg/dpkg.cfg.d" "$t/etc/apt/apt.conf.d" "$t/etc/apt/sources.list.d"
    cat >"$t/etc/dpkg/dpkg.cfg.d/dormouse" <<'END'
# Small images: no documents but licences, no translations.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/linda/*
# A disk is kept only after it was synced as a whole.
force-unsafe-io
END
    {
        echo 'Acquire::Languages "none";'
        echo 'APT::Keep-Downloaded-Packages "false";'
        sed -n 's/^#conf //p' /stage/settings
    } >"$t/etc/apt/apt.conf.d/90dormouse"
    sed '/^#conf /d' /stage/settings >"$t/etc/apt/sources.list.d/debian.sources"
    # There is no service manager: a package's service is started by who installed it.
    printf '#!/bin/sh\nexit 101\n' >"$t/usr/sbin/policy-rc.d"
    chmod 755 "$t/usr/sbin/policy-rc.d"
    # Written by the guest's init at each start.
    : >"$t/etc/resolv.conf"
    : >"$t/etc/machine-id"
    echo localhost >"$t/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$t/etc/hosts"
    : >"$t/etc/fstab"
}

add() { # packages of one set, all in one run so that dpkg finds the order itself
    mkdir -p "$t/packages"
    hasten "/stage/packages/$1"
    mount -o bind "/stage/packages/$1" "$t/packages"
    note "$1: unpacking $(find "/stage/packages/$1" -name '*.deb' | wc -l) packages"
    run_dpkg sh -c 'dpkg --force-depends --unpack /packages/*.deb'
    note "$1: configuring them"
    # Dates that passwd writes are to be the same each time. Not for python: it would compile
    # modules so that each import reads and hashes their source.
    case $1 in
    debian) run_dpkg env SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" dpkg --configure --pending ;;
    *) run_dpkg dpkg --configure --pending ;;
    esac
    umount "$t/packages"
    rmdir "$t/packages"
}

# ca-certificates starts thousands of processes, twice: the longest part of it all under
# emulation. Its script is run by busybox, which starts hardly any. As busybox's sed does not
# know how to end a last line, the bundle is then written anew by the sed it is meant for.
hasten() {
    mkdir -p "$1/bin"
    cp /usr/bin/busybox "$1/bin/busybox"
    cat >"$1/bin/update-ca-certificates" <<'END'
#!/bin/sh
set -e
/packages/bin/busybox sh /usr/sbin/update-ca-certificates "$@"
cd /usr/share/ca-certificates
sed '/^[#!]/d; /^$/d' /etc/ca-certificates.conf | xargs sed -s '$a\' \
    >/etc/ssl/certs/ca-certificates.crt
END
    chmod 755 "$1/bin/update-ca-certificates"
}

run_dpkg() {
    if ! inside "$@" >/tmp/dpkg.log 2>&1; then
        tail -n 30 /tmp/dpkg.log
        echo "error: dpkg failed (above): $*"
        exit 1
    fi
}

check() { # the package database is complete and right
    wrong=$(inside dpkg --audit)
    [ -z "$wrong" ] || { echo "$wrong" && exit 1; }
    # shellcheck disable=SC2016  # for dpkg to expand
    wrong=$(inside dpkg-query -W -f '${Package} ${Status}\n' |
        grep -v ' install ok installed$') || true
    [ -z "$wrong" ] || { echo "error: not installed: $wrong" && exit 1; }
    inside apt-get -qq check
    # One line begins each certificate: all are in the bundle, and each has its two links.
    certs=$(grep -c '^[^#!]' "$t/etc/ca-certificates.conf")
    if [ "$(grep -c -e '-BEGIN CERT' "$t/etc/ssl/certs/ca-certificates.crt")" != "$certs" ] ||
        [ "$(inside find /etc/ssl/certs -type l | wc -l)" -lt $((2 * certs)) ]; then
        echo "error: the bundle of CA certificates is not complete"
        exit 1
    fi
}

publish() { # the tree as it is now, without traces of its making, becomes a disk
    for dir in var/lib/apt/lists var/cache var/log tmp run usr/share/man usr/share/info \
        usr/share/locale usr/share/lintian; do
        [ ! -d "$t/$dir" ] || inside find "/$dir" -mindepth 1 ! -type d -delete
    done
    inside find /usr/share/doc ! -type d ! -name copyright -delete
    inside find /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale \
        -mindepth 1 -type d -empty -delete
    # Packages with alternatives link manual pages, there or not, and fail without the place.
    for n in 1 2 3 4 5 6 7 8; do mkdir "$t/usr/share/man/man$n"; done
    rm -f "$t"/var/lib/dpkg/*-old "$t"/var/lib/dpkg/lock* "$t"/etc/*-
    : >"$t/etc/machine-id"
    # No journal: a disk is used again only together with the memory it was suspended with, or
    # after it was synced as a whole, so there is nothing to replay, and every write of metadata
    # would dirty a second block of each microVM's own overlay. Inode tables are declared
    # empty instead of being zeroed by the guest later. Room is kept for growing to 64 GiB.
    options=hash_seed=$uuid,assume_storage_prezeroed=1,nodiscard
    options=$options,resize=16777216,root_owner=0:0
    # By its path, because busybox prefers its own mke2fs, which knows little.
    /usr/sbin/mke2fs -q -t ext4 -b 4096 -I 256 -m 0 -L dormouse -O ^has_journal -U "$uuid" \
        -E "$options" -d "$t" "$(disk "$1")"
    note "$1: $(du -sm "$t" | cut -f1) MiB, $(inside dpkg-query -W | wc -l) packages"
}

mkdir -p /stage
mount -t ext4 -o noatime,nobarrier "$(disk work)" /stage
t=/stage/target
uuid=d0770003-0000-4000-8000-000000000001
SOURCE_DATE_EPOCH=$(cat /stage/date)
export SOURCE_DATE_EPOCH

configure
# The two files that make names of users known; base-passwd keeps them from then on.
cp "$t/usr/share/base-passwd/passwd.master" "$t/etc/passwd"
cp "$t/usr/share/base-passwd/group.master" "$t/etc/group"
: >"$t/var/lib/dpkg/status"
mount -o bind /dev "$t/dev"
mount -t proc proc "$t/proc"
for set in debian python; do
    add $set
    check
    # The whole machine is the application's, so pip may install into it.
    [ $set != python ] || printf '[global]\n%s = true\n%s = ignore\n' \
        break-system-packages root-user-action >"$t/etc/pip.conf"
    umount "$t/proc" "$t/dev"
    publish $set
    mount -o bind /dev "$t/dev"
    mount -t proc proc "$t/proc"
done
sync
