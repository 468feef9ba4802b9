#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs inside the emulated host: mounts what the driver needs, runs it, prints its results at the
# end between two marks, as the one stream out of the machine is what the program prints.
# Settings come as words of the kernel command line: bench.quick=1 bench.only=CASES.
set -eu

word() {
    tr ' ' '\n' </proc/cmdline | sed -n "s/^bench\.$1=//p"
}

mount -t tracefs none /sys/kernel/tracing
mkdir -p /bench/qemu /bench/work
serial=
for name in /sys/block/vd*/serial; do
    read -r serial <"$name" || [ -n "$serial" ] || continue # no newline at its end
    disk=${name%/serial}
    [ "$serial" != peers ] || mount -t ext4 -o ro,noatime "/dev/${disk##*/}" /bench/qemu
done
# In memory: the time that storage takes would be the emulating machine's.
mount -t tmpfs -o size=75% none /bench/work
QUICK=$(word quick) ONLY=$(word only) CLOCK=$(word clock)
export QUICK ONLY CLOCK
[ -n "$ONLY" ] || unset ONLY
status=0
/bench/bench /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /bench/guest.cpio /bench/work \
    /bench/results /usr/lib/dormouse/initrd.cpio /bench/root.img /bench/qemu || status=$?
case ,${ONLY:-}, in
*,daemon,*)
    /bench/daemon.sh 11 /bench/results.daemon || status=$?
    cat /bench/results.daemon >>/bench/results || true
    ;;
esac
if [ -e /bench/results ]; then
    echo "==== results"
    cat /bench/results
    echo "==== end"
fi
exit $status
