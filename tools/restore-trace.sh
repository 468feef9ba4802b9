#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Where the instructions of one restore go: by phase, by function of the programs, by function of
# the host's kernel. From the order to restore to the guest's first instruction.
#   tools/restore-trace.sh [pooled|unpooled|prepared|thaw|boot|save]   `make restore-trace MODE=...`
# thaw: of a prepared one, from the message that it was restored to the application's first act,
# with what the guest does; in the emulated host only. boot: likewise, from the start of the VMM
# to the exec of an application's command. save: of a guest that filled 64 MiB, whole.
# In the emulated host every instruction is counted, by a plugin of the emulator (tcgtrace.c). On
# an ARM64 machine with KVM (root, and the program perf) the processor's counter is sampled.
# What it found stays in build/trace.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
out=$build/trace
mode=${1:-pooled}
case $mode in
pooled | unpooled | prepared) phases=tests/bench/phases guest= ;;
thaw) phases=tests/bench/phases-thaw guest=,guest=on ;;
boot) phases=tests/bench/phases-boot guest=,guest=on ;;
save) phases=tests/bench/phases-save guest= ;;
*)
    echo "error: '$mode' is no mode; say pooled, unpooled, prepared, thaw, boot or save" >&2
    exit 2
    ;;
esac
mkdir -p "$out"
nm=${CROSS-aarch64-linux-gnu-}nm
bench=$build/bench

if [ -z "$guest" ] && [ "$(uname -m)" = aarch64 ] && [ -w /dev/kvm ]; then
    command -v perf >/dev/null || {
        echo "error: perf is not installed; the package is linux-perf" >&2
        exit 1
    }
    # Samples cannot tell one restore from the next, so there are many, and nothing else.
    NATIVE=1 PEERS=none perf record -q -a -e instructions -F 20000 -o "$out/perf.data" -- \
        tests/bench.sh "restore-loop-$mode" >"$out/log" 2>&1 || {
        tail -n 5 "$out/log" >&2
        exit 1
    }
    exec perf report -q -i "$out/perf.data" --stdio --comms dormouse-vmm,bench \
        --sort comm,dso,symbol --percent-limit 0.5
fi

# shellcheck source=tools/emulator.sh
. tools/emulator.sh
emulator_check
if ! "$QEMU" -help | grep -q '^-plugin'; then
    echo "error: $QEMU was built without plugins; Debian's package has them" >&2
    exit 1
fi

# host PROGRAM-FILE WORDS [QEMU]: one boot, always the same.
export DETERMINISTIC=1 REPEATABLE=1
host() {
    QEMU=${3:-$QEMU} tools/vmrun.sh -t 3600 -c "$out/console" -f "$bench/bench=/bench/bench" \
        -f "$bench/guest.cpio=/bench/guest.cpio" -f "$bench/root.img=/bench/root.img" \
        -f "$1=/bench/run" -k "$2" /bench/run
}

# The host kernel's symbols; its addresses are the same in every boot of the same kernel.
if [ ! -s "$out/kernel.syms" ] || [ "$build/appliance/Image" -nt "$out/kernel.syms" ]; then
    # shellcheck disable=SC2016
    printf '#!/bin/sh\ngrep " [tTwW] " /proc/kallsyms\n' >"$out/symbols.sh"
    host "$out/symbols.sh" x >"$out/kernel.new"
    mv "$out/kernel.new" "$out/kernel.syms"
fi
range() { # from one function to the end of another, which is the next symbol
    LC_ALL=C sort "$out/kernel.syms" | awk -v first="$1" -v last="$2" '
        $3 == first { from = $1 }
        found && $1 != at { print from "-" $1; exit }
        from && $3 == last { at = $1; found = 1 }'
}
enter=$(range __guest_enter __guest_enter)
# The vectors of a host with and without work-arounds for its processor lie side by side.
vector=$(range __kvm_hyp_vector __bp_harden_hyp_vecs)
if [ -z "$enter" ] || [ -z "$vector" ]; then
    echo "error: the host's kernel has no __guest_enter and __kvm_hyp_vector to look for" >&2
    exit 1
fi
cat >"$out/qemu" <<END
#!/bin/sh
exec $QEMU "\$@" -plugin "$PWD/$out/tcgtrace.so,out=$PWD/$out/blocks,enter=$enter,vector=$vector$guest"
END
chmod 755 "$out/qemu"
api=$("$QEMU" --version | sed -n '1s/.*version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' |
    awk '{ print(($1 > 9 || ($1 == 9 && $2 > 0)) ? 3 : $1 == 9 ? 2 : 1) }')
gcc -std=gnu17 -O2 -Wall -DPLUGIN_API="$api" -fPIC -shared -fvisibility=hidden -o "$out/tcgtrace.so" tools/tcgtrace.c
host tests/bench/inside.sh "bench.only=restore-trace-$mode" "$PWD/$out/qemu" >"$out/log" || {
    tail -n 5 "$out/log" >&2
    exit 1
}
"$nm" "$build/link/dormouse-vmm" >"$out/vmm.syms"
"$nm" "$bench/bench" >"$out/bench.syms"
"$nm" "$build/musl/lib/libc.a" >"$out/library.syms" 2>/dev/null
more=()
if [ -n "$guest" ]; then
    # The plugin marks a guest's addresses in their top byte.
    marked() { awk '{ $1 = "01" substr($1, 3); print }'; }
    marked <"$build/kernel/System.map" >"$out/guest-kernel.syms"
    "$nm" "$build/link/dormouse-init" | marked >"$out/init.syms"
    "$nm" "$build/vm/payload" | marked >"$out/application.syms"
    for name in guest-kernel init application; do more+=("$name=$out/$name.syms"); done
fi
"$build/tool/tracesum" "$out/blocks" "$phases" ${more[@]+"${more[@]}"} "kernel=$out/kernel.syms" \
    "vmm=$out/vmm.syms" "bench=$out/bench.syms" "library=$out/library.syms" | tee "$out/$mode.txt"
