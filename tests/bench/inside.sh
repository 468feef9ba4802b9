#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs on the ARM64 host, emulated or real: mounts what the driver needs, runs it, prints its
# results at the end between two marks, as the one stream out of an emulated machine is what the
# program prints.
#
# Settings come as words of the kernel command line in an emulated host, bench.quick=1
# bench.only=CASES bench.clock=NAME, and as QUICK, ONLY, CLOCK on a real one, where NATIVE=1 and
# BENCH_FILES, BENCH_WORK, VMM, KERNEL, INITRD, DORMOUSED, BASES, BENCH_PEERS say where things are.
set -eu

word() {
    tr ' ' '\n' </proc/cmdline | sed -n "s/^bench\.$1=//p"
}

: "${NATIVE:=0}" "${BENCH_FILES:=/bench}" "${BENCH_PEERS:=/bench/peers}" "${BENCH_WORK:=/bench/work}"
: "${VMM:=/usr/bin/dormouse-vmm}" "${KERNEL:=/usr/lib/dormouse/Image}"
: "${INITRD:=/usr/lib/dormouse/initrd.cpio}"
export NATIVE BENCH_FILES BENCH_PEERS BENCH_WORK VMM KERNEL INITRD
if [ "$NATIVE" = 0 ]; then
    QUICK=$(word quick) ONLY=$(word only) CLOCK=$(word clock)
    mkdir -p "$BENCH_PEERS" "$BENCH_WORK"
fi
[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing
# In memory: the time that storage takes would be the emulating machine's.
mount -t tmpfs -o size=75% none "$BENCH_WORK"
# Images' bases, in memory as well.
[ ! -e "$BENCH_FILES/bases.img" ] || mount -o ro,loop "$BENCH_FILES/bases.img" /usr/share/dormouse/bases
export QUICK="${QUICK:-0}" ONLY="${ONLY:-}" CLOCK="${CLOCK:-wall}"

# What goes through dormoused; the rest is the driver's.
driver='' daemon=''
for name in $(echo "$ONLY" | tr , ' '); do
    case $name in
    first-byte | proxy | create | list | fork | suspend | sessions | clones-app) daemon=$daemon,$name ;;
    *) driver=$driver,$name ;;
    esac
done

# apart PROGRAM...: what it prints comes at its end, as the way out of an emulated machine takes
# another time each time. How far it is can be seen on the console.
apart() {
    code=0
    if [ "$CLOCK" != instructions ]; then
        "$@"
        return
    fi
    mkfifo "$BENCH_WORK/progress"
    table=0
    while IFS= read -r line; do
        case $line in
        "# timeline"*) ;;
        "case "*) table=1 ;;
        "#"*) printf '<0>bench: %.900s\n' "$line" >/dev/kmsg ;;
        *) [ $table = 1 ] || printf '<0>bench: %.900s\n' "$line" >/dev/kmsg ;;
        esac
        echo "$line" >>"$BENCH_WORK/output"
    done <"$BENCH_WORK/progress" &
    "$@" >"$BENCH_WORK/progress" 2>&1 || code=$?
    wait $! || true
    cat "$BENCH_WORK/output"
    rm "$BENCH_WORK/progress" "$BENCH_WORK/output"
    return $code
}

results=$BENCH_WORK/results
status=0
if [ -z "$ONLY" ] || [ -n "$driver" ]; then
    ONLY=${driver#,}
    [ -n "$ONLY" ] || unset ONLY
    apart "$BENCH_FILES/bench" "$VMM" "$KERNEL" "$BENCH_FILES/guest.cpio" "$BENCH_WORK" "$results" \
        "$INITRD" "$BENCH_FILES/root.img" "$BENCH_PEERS" || status=$?
fi
if [ -n "$daemon" ]; then
    ONLY=${daemon#,}
    export ONLY
    apart "$BENCH_FILES/daemon.sh" "$results" || status=$?
fi
[ "$NATIVE" = 0 ] || rmdir /sys/fs/cgroup/bench 2>/dev/null || true
if [ -e "$results" ]; then
    echo "==== results"
    cat "$results"
    echo "==== end"
fi
exit $status
