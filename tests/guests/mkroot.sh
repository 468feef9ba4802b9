#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the root image of the guest tests: an ext4 file system whose programs are all the payload.
#   tests/guests/mkroot.sh PAYLOAD IMAGE [TREE]       TREE: more files
#   BUILT=1      with the places that the end of an image's build makes (guest/build.c)
set -eu
[ $# -ge 2 ] || { echo "usage: tests/guests/mkroot.sh PAYLOAD IMAGE [TREE]" >&2; exit 2; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

for dir in bin dev etc lib opt proc run sys tmp; do mkdir "$root/$dir"; done
chmod 1777 "$root/tmp"
[ $# -eq 2 ] || cp -r "$3/bin" "$3/lib" "$root/"
install -m 755 "$1" "$root/bin/payload"
for verb in sh echo cat env id uuid sleep http trap pwd ls; do ln -s payload "$root/bin/$verb"; done
printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nweb:x:1001:\nextra:x:2000:other,web\n' >"$root/etc/group"
# As many images have it: a link into a directory that does not exist there.
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
if [ "${BUILT:-0}" = 1 ]; then
    rm "$root/etc/resolv.conf"
    for file in resolv.conf hosts hostname machine-id; do : >"$root/etc/$file"; done
    mkdir "$root/run/dormouse"
fi
rm -f "$2.new"
truncate -s 64M "$2.new"
# The same bytes each time, whenever it is made.
find "$root" -exec touch -h -d @0 {} +
# As initrd/bases-inside.sh makes the images' own.
E2FSPROGS_FAKE_TIME=1 mke2fs -q -t ext4 -b 4096 -I 256 -m 0 -O ^has_journal -d "$root" -L root \
    -U 646f726d-6f75-7365-8000-000000000001 \
    -E hash_seed=646f726d-6f75-7365-8000-000000000002,assume_storage_prezeroed=1,nodiscard "$2.new"
# It takes the files' time of change with them, which nothing can set beforehand.
last=$(dumpe2fs -h "$2.new" 2>/dev/null | awk -F: '/^Inode count/ { n = $2 } /^Free inodes/ { print n - $2 }')
for i in 2 $(seq 11 "$last"); do
    printf 'set_inode_field <%d> ctime 0\nset_inode_field <%d> ctime_extra 0\n' "$i" "$i"
done | debugfs -w -f - "$2.new" >/dev/null 2>&1
mv "$2.new" "$2"
