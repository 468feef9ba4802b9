#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hypervisor and guest in real microVMs on the emulated ARM64 host; called by `make check-vm`.
# Each suite is one boot of the host and one TAP file.
#   tests/vm.sh [SUITE...]     vmm-gic3 vmm-gic2 guest hostile, and soak only when it is asked for
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
out=$build/check
vm=$build/vm
mkdir -p "$out"
[ $# -gt 0 ] || set -- vmm-gic3 vmm-gic2 guest hostile
taps=()

# suite NAME SECONDS FILE=PATH...: runs /tests/run, whose output is TAP.
suite() {
    local name=$1 limit=$2 tap=$out/vm-$1.tap files=()
    shift 2
    for f; do files+=(-f "$f"); done
    taps+=("$tap")
    tools/vmrun.sh -t "$limit" -S 8G -c "$out/vm-$name.console" "${files[@]}" /tests/run >"$tap" 2>"$out/vm-$name.log"
    local status=$?
    if [ $status -ne 0 ] && ! grep -q '^not ok' "$tap"; then
        echo "not ok 9999 - $name ended with status $status" >>"$tap"
        tail -n 20 "$tap" "$out/vm-$name.log"
    fi
    grep -E '^(not ok|# failed)' "$tap"
}

mkdir -p "$vm"
run_script() {
    printf '#!/bin/sh\nmkdir -p /var/lib/dormouse/t\n%s\n' "$2" >"$vm/run-$1"
}

run_script vmm 'exec /tests/ctl_drive /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /tests/ticker.cpio /var/lib/dormouse/t'
run_script guest 'exec /tests/guest_drive /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /usr/lib/dormouse/initrd.cpio /tests/root.img /var/lib/dormouse/t'
run_script soak "export CLONES=${CLONES:-100} CYCLES=${CYCLES:-1000}
exec /tests/guest_soak /usr/bin/dormouse-vmm /usr/lib/dormouse/Image /usr/lib/dormouse/initrd.cpio /tests/root.img /var/lib/dormouse/t"
run_script hostile 'exec /tests/hostile_drive /usr/bin/dormouse-vmm /tests/hostile.Image /var/lib/dormouse/t'

for name; do
    case $name in
    vmm-gic*)
        GIC=${name#vmm-gic} suite "$name" 400 "$vm/ctl_drive=/tests/ctl_drive" \
            "$vm/ticker.cpio=/tests/ticker.cpio" "$vm/run-vmm=/tests/run"
        ;;
    guest)
        suite guest 600 "$vm/guest_drive=/tests/guest_drive" "$vm/root.img=/tests/root.img" \
            "$vm/run-guest=/tests/run"
        ;;
    soak)
        suite soak 7200 "$vm/guest_soak=/tests/guest_soak" "$vm/root.img=/tests/root.img" \
            "$vm/run-soak=/tests/run"
        ;;
    hostile)
        suite hostile 400 "$vm/hostile_drive=/tests/hostile_drive" \
            "$vm/hostile.Image=/tests/hostile.Image" "$vm/run-hostile=/tests/run"
        ;;
    *)
        echo "error: no suite '$name'" >&2
        exit 2
        ;;
    esac
done

echo "hypervisor and guest:"
exec tools/tapsum.sh "${taps[@]}"
