#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hypervisor and guest in real microVMs on the emulated ARM64 host; called by `make check-vm`.
# Each suite is one boot of the host and one TAP file.
#   tests/vm.sh [SUITE...]     vmm-gic3 vmm-gic2 guest hostile hostile-ubsan lockdown
#                              confine debug cycles, and
#                              hostile-asan, soak and faults only when they are asked for;
#                              cycles is a short soak
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
out=$build/check
vm=$build/vm
mkdir -p "$out"
[ $# -gt 0 ] || set -- vmm-gic3 vmm-gic2 guest hostile hostile-ubsan lockdown confine debug cycles
taps=()

# suite NAME SECONDS FILE=PATH...: runs /tests/run, whose output is TAP.
suite() {
    local name=$1 limit=$2 tap=$out/vm-$1.tap files=()
    shift 2
    for f; do files+=(-f "$f"); done
    taps+=("$tap")
    [ "$name" != faults ] || files+=(-d "$build/bases/bases.img:bases:ro")
    tools/vmrun.sh -t "$limit" -S 8G -c "$out/vm-$name.console" "${files[@]}" /tests/run >"$tap" 2>"$out/vm-$name.log"
    local status=$?
    if [ $status -ne 0 ] && ! grep -q '^not ok' "$tap"; then
        echo "not ok 9999 - $name ended with status $status" >>"$tap"
        tail -n 20 "$tap" "$out/vm-$name.log"
    fi
    grep -E '^(not ok|# failed)' "$tap"
}

mkdir -p "$vm"
# What crashed in a suite that failed stands in the kernel's log, with its registers.
run_script() {
    cat >"$vm/run-$1" <<END
#!/bin/sh
mkdir -p /var/lib/dormouse/t
echo 1 >/proc/sys/debug/exception-trace
(
    $2
)
status=\$?
[ \$status -eq 0 ] || dmesg | grep -A 24 'unhandled exception' | sed 's/^/# /'
exit \$status
END
}

run_script vmm 'exec /tests/ctl_drive /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /tests/ticker.cpio /var/lib/dormouse/t'
run_script guest 'exec /tests/guest_drive /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /usr/lib/dormouse/initrd.cpio /tests/root.img /var/lib/dormouse/t'
# In memory: what waits for a disk would let the clock that counts instructions run ahead.
soak='mount -t tmpfs -o size=75% none /var/lib/dormouse/t
exec /tests/guest_soak /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /usr/lib/dormouse/initrd.cpio /tests/root.img /var/lib/dormouse/t'
run_script cycles "export CLONES=3 CYCLES=5 ROUNDS=1
$soak"
run_script soak "export CLONES=${CLONES:-100} CYCLES=${CYCLES:-1000} ROUNDS=${ROUNDS:-20}
$soak"
run_script faults "export LOG_LINES=${LOG_LINES:-60} KILLS=${KILLS:-10} SEED=${SEED:-1} CLIENTS=${CLIENTS:-4} MINUTES=${MINUTES:-5} PACE_MS=${PACE_MS:-10000} PATH=/usr/sbin:/usr/bin
exec /tests/faults.sh ${CASES:-}"
drive_hostile='exec /tests/hostile_drive'
run_script hostile "$drive_hostile /usr/bin/dormouse-vmm /tests/hostile.Image /var/lib/dormouse/t"
# Sanitized VMMs; a small console is filled sooner. The address sanitizer needs what a jail takes.
run_script hostile-ubsan "export CONSOLE_LIMIT=16384
$drive_hostile /tests/dormouse-vmm /tests/hostile.Image /var/lib/dormouse/t"
run_script hostile-asan "export CONSOLE_LIMIT=16384 ASAN_OPTIONS=detect_leaks=0
$drive_hostile /tests/dormouse-vmm /tests/hostile.Image /var/lib/dormouse/t --no-jail"
run_script lockdown 'exec /tests/lockdown_drive /usr/bin/dormouse-vmm /tests/dormouse-vmm-debug /tests/hostile.Image /var/lib/dormouse/t'
run_script confine 'exec /tests/confine_drive /usr/bin/dormoused /var/lib/dormouse/t'

for name; do
    case $name in
    vmm-gic*)
        GIC=${name#vmm-gic} suite "$name" 900 "$vm/ctl_drive=/tests/ctl_drive" \
            "$vm/ticker.cpio=/tests/ticker.cpio" "$vm/run-vmm=/tests/run"
        ;;
    guest)
        suite guest 1200 "$vm/guest_drive=/tests/guest_drive" "$vm/root.img=/tests/root.img" \
            "$vm/run-guest=/tests/run"
        ;;
    cycles | soak)
        limit=1200
        [ "$name" = cycles ] || limit=${SOAK_LIMIT:-14400}
        # By the clock that counts instructions: how far the guest's clock is off is then no
        # matter of how busy this machine is.
        DETERMINISTIC=${DETERMINISTIC:-1} suite "$name" "$limit" "$vm/guest_soak=/tests/guest_soak" \
            "$vm/soak.img=/tests/root.img" "$vm/run-$name=/tests/run"
        ;;
    hostile | hostile-ubsan | hostile-asan)
        more=()
        [ "$name" = hostile ] || more=("$build/debug/dormouse-vmm-${name#hostile-}=/tests/dormouse-vmm")
        if [ "$name" = hostile-asan ]; then
            for lib in "$build"/debug/lib/*; do more+=("$lib=/tests/lib/${lib##*/}"); done
        fi
        suite "$name" 600 "$vm/hostile_drive=/tests/hostile_drive" ${more[@]+"${more[@]}"} \
            "$vm/hostile.Image=/tests/hostile.Image" "$vm/run-$name=/tests/run"
        ;;
    faults)
        suite faults "${FAULTS_TIMEOUT:-7200}" "$vm/fault_drive=/tests/fault_drive" \
            "$vm/payload=/tests/payload" "$build/arm64/dormouse=/tests/dormouse" \
            tests/vm/faults.sh=/tests/faults.sh "$vm/run-faults=/tests/run"
        ;;
    lockdown)
        suite lockdown 600 "$vm/lockdown_drive=/tests/lockdown_drive" \
            "$build/debug/dormouse-vmm-debug=/tests/dormouse-vmm-debug" \
            "$vm/hostile.Image=/tests/hostile.Image" "$vm/run-lockdown=/tests/run"
        ;;
    confine)
        suite confine 300 "$vm/confine_drive=/tests/confine_drive" "$vm/run-confine=/tests/run"
        ;;
    debug)
        taps+=("$out/vm-debug.tap")
        tests/vm/debug.sh >"$out/vm-debug.tap" 2>"$out/vm-debug.log"
        grep -E '^(not ok|# )' "$out/vm-debug.tap"
        ;;
    *)
        echo "error: no suite '$name'" >&2
        exit 2
        ;;
    esac
done

echo "hypervisor and guest:"
exec tools/tapsum.sh "${taps[@]}"
