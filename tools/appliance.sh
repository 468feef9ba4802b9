#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/appliance/{Image,initrd.cpio}: the kernel and root of the ARM64 host, emulated or
# real. Two cpio archives one after the other: the part from Debian's signed packages, which
# comes from the cache, and the project's own part, made anew each time, which is quick.
#
# Called by the Makefile, from the top of the tree: tools/appliance.sh
# Takes what exists of build/arm64/{dormoused,dormouse-vmm,dormouse}, build/kernel/Image and
# build/guest/initrd.cpio.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tools/cache.sh
. tools/cache.sh
# shellcheck source=tools/apt-private.sh
. tools/apt-private.sh

linked="nftables e2fsprogs" # with the packages of their libraries
alone="busybox-static ca-certificates"
programs="usr/sbin/nft usr/sbin/mke2fs usr/sbin/e2fsck usr/sbin/resize2fs"

# Loaded by init in this order. After them: what only real hardware needs, loaded by its
# device's alias (NVMe is built into the kernel).
load="virtio_blk virtio_net virtio-rng tun loop overlay erofs inet_diag tcp_diag
    nf_tables nf_conntrack nf_nat nft_chain_nat nft_masq nft_nat nft_redir nft_ct nft_limit
    nft_reject nft_reject_inet nft_fib nft_fib_inet nft_log nft_numgen"
extra="virtio_balloon virtio_pmem virtio_mmio ena udp_diag bridge veth macvlan macvtap
    vhost_net sch_tbf sch_ingress cls_matchall act_police ifb nft_quota nft_hash nft_connlimit
    nft_meta_bridge nft_reject_bridge nfnetlink_log nf_log_syslog zram xfs dm-mod"

applets="[ [[ arch ash awk base64 basename blkid bunzip2 bzip2 cat chattr chgrp chmod chown
    chroot chrt chvt clear cmp cp cpio cut date dc dd df diff dirname dmesg du dumpkmap echo ed
    egrep env expand expr fallocate false fdisk fgrep find findfs fold free fsfreeze fstrim
    fsync fuser getopt getty grep gunzip gzip halt head hexdump hostname hwclock id ifconfig
    inotifyd insmod install ionice ip iproute ipaddr iplink ipneigh kill killall killall5 less
    link linux64 ln logger losetup ls lsmod lsof lspci lsscsi lzcat md5sum mesg microcom mkdir
    mkfifo mknod mktemp modinfo modprobe more mount mountpoint mv nc netstat nice nl nohup
    nologin nproc nsenter nslookup od paste pgrep pidof ping ping6 pivot_root pkill poweroff
    printf ps pstree pwd rdate readlink realpath reboot renice reset rev rm rmdir rmmod route
    sed seq setpriv setsid sh sha1sum sha256sum sha512sum shuf sleep sort split ss stat strings
    stty su switch_root sync sysctl tail tar taskset tee test time timeout top touch tr
    traceroute true truncate tty udhcpc umount uname unexpand uniq unlink unshare unxz unzip
    uptime usleep uuencode uudecode vi watch wc wget which whoami xargs xxd xzcat yes zcat"

# copy_program FROM TO PATH: a program with the libraries it needs, and what those need.
copy_program() {
    local from=$1 to=$2 path=$3 lib
    [ ! -e "$to/$path" ] || return 0
    install -D -m 755 "$from/$path" "$to/$path"
    for lib in $(readelf -d "$from/$path" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        [ -e "$from/usr/lib/aarch64-linux-gnu/$lib" ] ||
            die "no package has the library $lib that $path needs"
        copy_program "$from" "$to" "usr/lib/aarch64-linux-gnu/$lib"
    done
}

# copy_modules FROM TO WANTED...: modules and what they depend on, decompressed.
copy_modules() {
    local from=$1 to=$2 name path tree=lib/modules/$release
    shift 2
    depmod -b "$from" "$release"
    for name in "$@"; do
        # Lines of modules.dep are `path: dependency...`; - and _ mean the same in a name.
        awk -v want="$name" '
            function plain(p) {
                sub(/.*\//, "", p); sub(/\.ko.*/, "", p); gsub(/-/, "_", p)
                return p
            }
            { path = $1; sub(/:$/, "", path); gsub(/-/, "_", want) }
            plain(path) == want { $1 = path; print; found = 1 }
            END { exit !found }' "$from/$tree/modules.dep" ||
            die "the kernel $release has no module $name; adapt the list in tools/appliance.sh"
    done | tr ' ' '\n' | sort -u | while read -r path; do
        mkdir -p "$to/$tree/${path%/*}"
        case $path in
        *.xz) xz -dc "$from/$tree/$path" >"$to/$tree/${path%.xz}" ;;
        *) cp "$from/$tree/$path" "$to/$tree/$path" ;;
        esac
    done
    cp "$from/$tree"/modules.{order,builtin,builtin.modinfo} "$to/$tree/"
    depmod -b "$to" "$release"
    # Only the text forms are read by busybox.
    find "$to/$tree" -maxdepth 1 -name '*.bin' -delete
    rm "$to/$tree"/modules.{order,builtin,builtin.modinfo,devname,softdep}
}

# write_cpio ROOT OUT: the same bytes for the same content, whenever and wherever it is made.
write_cpio() {
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
        cpio -0 --quiet --reproducible -o -H newc -R 0:0) >"$2"
}

make_debian_part() {
    local out=$1 work=$2 root=$2/root kernel closure release name
    apt_private_ready arm64
    # The kernel's own dependencies are tools that install it, which is not what happens here.
    kernel=$(apt_private arm64 apt-cache depends linux-image-cloud-arm64 |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2 }')
    # shellcheck disable=SC2086
    closure=$(apt_private arm64 apt-get install -s $linked 2>/dev/null |
        awk '$1 == "Inst" { print $2 }')
    if [ -z "$kernel" ] || [ -z "$closure" ]; then
        die "apt cannot resolve linux-image-cloud-arm64 or $linked; look at 'apt-cache policy'"
    fi
    # shellcheck disable=SC2086
    apt_fetch arm64 "$work/debs" $kernel $closure $alone
    say "appliance: unpacking"
    apt_unpack "$work/debs" "$work/debian"

    release=$(basename "$(echo "$work"/debian/usr/lib/modules/*)")
    cp "$work/debian/boot/vmlinuz-$release" "$out/Image"
    # Debian ships the plain Image today; a compressed one would start with the gzip mark.
    if [ "$(head -c 2 "$out/Image" | od -An -tx1 | tr -d ' ')" = 1f8b ]; then
        gzip -dc <"$out/Image" >"$work/Image" && mv "$work/Image" "$out/Image"
    fi
    [ "$(dd if="$out/Image" bs=1 skip=56 count=4 status=none)" = 'ARMd' ] ||
        die "the kernel of linux-image-$release is no arm64 Image"
    grep -qx CONFIG_KVM=y "$work/debian/boot/config-$release" ||
        die "the kernel $release has no KVM built in"

    mkdir -p "$root"/{dev,etc/ssl/certs,mnt,proc,root,run,sys,tmp,var/{lib/dormouse,log}} \
        "$root"/usr/{bin,sbin,lib,share/dormouse/bases}
    chmod 700 "$root/root"
    ln -s usr/bin "$root/bin"
    ln -s usr/sbin "$root/sbin"
    ln -s usr/lib "$root/lib"
    ln -s ../run "$root/var/run"
    install -m 755 "$work/debian/usr/bin/busybox" "$root/usr/bin/busybox"
    for name in $applets; do ln -s busybox "$root/usr/bin/$name"; done
    ln -s ../bin/busybox "$root/usr/sbin/modprobe" # where the kernel looks for it
    for name in $programs; do copy_program "$work/debian" "$root" "$name"; done
    ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 "$root/usr/lib/"
    find "$work/debian/usr/share/ca-certificates" -name '*.crt' -print0 | LC_ALL=C sort -z |
        xargs -0 cat >"$root/etc/ssl/certs/ca-certificates.crt"

    mkdir -p "$work/m/lib/modules"
    mv "$work/debian/usr/lib/modules/$release" "$work/m/lib/modules/"
    # shellcheck disable=SC2086
    copy_modules "$work/m" "$root" $load $extra
    # shellcheck disable=SC2086
    printf '%s\n' $load >"$root/lib/modules/load"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' \
        >"$root/etc/passwd"
    printf 'root:x:0:\nkvm:x:108:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf 'dormouse\n' >"$root/etc/hostname"
    printf '127.0.0.1 localhost dormouse\n::1 localhost\n' >"$root/etc/hosts"
    write_cpio "$root" "$out/debian.cpio"
    printf '%s\n' "$work"/debs/*.deb | sed 's|.*/||' >"$out/packages"
}

# own SOURCE TARGET MODE: a product of the build, if it is there.
own() {
    [ ! -e "$1" ] || install -D -m "$3" "$1" "$tmp/root/$2"
}

key=$(cache_key tools/appliance.sh -- "$APT_SUITE")
cache_entry appliance-debian "$key" make_debian_part

out=$BUILD/appliance
mkdir -p "$out"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/dormouse-appliance.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
umask 022
mkdir -p "$tmp/root"
own tools/appliance-init.sh init 755
own api/dist/appliance.conf etc/dormouse/dormoused.conf 644
for name in dormoused dormouse-vmm dormouse; do
    own "$BUILD/arm64/$name" "usr/bin/$name" 755
done
own "$BUILD/kernel/Image" usr/lib/dormouse/Image 644
# What dormoused reads of it: how long the kernel's text and constants are.
if [ -e "$BUILD/kernel/System.map" ]; then
    grep -E ' (_text|__init_begin)$' "$BUILD/kernel/System.map" >"$tmp/root/usr/lib/dormouse/System.map"
    chmod 644 "$tmp/root/usr/lib/dormouse/System.map"
fi
own "$BUILD/guest/initrd.cpio" usr/lib/dormouse/initrd.cpio 644
find "$tmp/root" -mindepth 1 -type d -exec chmod 755 {} +
write_cpio "$tmp/root" "$tmp/own.cpio"
cmp -s "$CACHE_ENTRY/Image" "$out/Image" || cp "$CACHE_ENTRY/Image" "$out/Image"
cat "$CACHE_ENTRY/debian.cpio" "$tmp/own.cpio" >"$out/initrd.cpio.new"
# An unchanged file keeps its time, so that a running host is not taken for an old one.
if cmp -s "$out/initrd.cpio.new" "$out/initrd.cpio"; then
    rm "$out/initrd.cpio.new"
else
    mv "$out/initrd.cpio.new" "$out/initrd.cpio"
fi
