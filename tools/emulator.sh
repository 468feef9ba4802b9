# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2054  # QEMU takes words with commas
# The emulated ARM64 host: one QEMU command line, shared by host.sh (which keeps it running)
# and vmrun.sh (which boots it once). Sourced, never run. The machine has EL2, so that KVM
# works inside it, and a named core instead of `-cpu max`, whose software pointer
# authentication makes everything five times slower.
#
# Reads: GIC (3 or 2), SMP, HOST_MEM, DETERMINISTIC, REPEATABLE, PATIENT, QEMU.

emulator_check() {
    QEMU=${QEMU:-qemu-system-aarch64}
    if ! command -v "$QEMU" >/dev/null 2>&1; then
        echo "error: $QEMU is not installed; run 'make deps', or install qemu-system-arm" >&2
        return 1
    fi
    case ${GIC:=3} in
    2 | 3) ;;
    *)
        echo "error: GIC=$GIC is not known; use GIC=3 (servers) or GIC=2 (small boards)" >&2
        return 1
        ;;
    esac
}

# emulator_args: fills EMULATOR with the machine, and EMULATOR_CMDLINE with the kernel
# command line every boot needs. Devices are added by the caller.
emulator_args() {
    EMULATOR_CMDLINE="console=ttyAMA0 quiet loglevel=3 panic=-1 rdinit=/init audit=0"
    EMULATOR_CMDLINE+=" dormouse.net=10.0.2.15/24,10.0.2.2,10.0.2.3"
    # These halve the boot, 3.6 s to 2.1 s on two x86 cores: memory mapped in large blocks, one
    # security module, no self-tests of ciphers, no verified modules (the root they come in is
    # not verified either), and a fixed kernel address, which also makes runs comparable.
    EMULATOR_CMDLINE+=" rodata=on lsm=landlock cryptomgr.notests nokaslr"
    EMULATOR_CMDLINE+=" initcall_blacklist=load_system_certificate_list,crypto_kdf108_init"
    EMULATOR_CMDLINE+=",init_encrypted,jent_mod_init"
    # KVM makes some 40 files in debugfs for each machine, which nobody reads: two thirds of the
    # time that making a machine takes. Without accounts of kernel memory a control group can go
    # while the kernel still frees what was charged to it.
    EMULATOR_CMDLINE+=" debugfs=off cgroup.memory=nokmem"
    EMULATOR=("$QEMU" -nodefaults -no-user-config -display none -no-reboot
        -M "virt,virtualization=on,gic-version=$GIC"
        -cpu neoverse-n1 -m "${HOST_MEM:-8G}")
    if [ "${DETERMINISTIC:-0}" = 1 ]; then
        # One instruction is one nanosecond of guest-visible time.
        # PATIENT: but while the host waits, for its disk above all, time is the wall's.
        local sleeps=off
        [ "${PATIENT:-0}" = 0 ] || sleeps=on
        EMULATOR+=(-smp 1 -accel tcg,thread=single -icount "shift=0,sleep=$sleeps")
        # The same from run to run, too: random numbers, the date, where programs are mapped.
        if [ "${REPEATABLE:-0}" = 1 ]; then
            EMULATOR+=(-seed 1 -rtc base=2026-01-01,clock=vm)
            EMULATOR_CMDLINE+=" norandmaps"
        else
            EMULATOR+=(-rtc clock=vm)
        fi
    else
        EMULATOR+=(-smp "${SMP:-2}" -accel tcg,thread=multi)
    fi
    # Devices that work beside the processor answer at another instruction each time.
    [ "${REPEATABLE:-0}" = 1 ] || EMULATOR+=(-device virtio-rng-pci -device virtio-serial-pci,max_ports=8)
}

# emulator_disk FILE SERIAL [ro]: a raw disk that the init script finds by its serial.
emulator_disk() {
    local opts="if=none,format=raw,id=d-$2,file=${1//,/,,},cache=writeback,discard=unmap"
    [ "${3:-}" = ro ] && opts+=",readonly=on"
    EMULATOR+=(-drive "$opts" -device "virtio-blk-pci,drive=d-$2,serial=$2")
}

# emulator_net [HOSTFWD...]: the user network; it reaches what this machine reaches.
emulator_net() {
    local net="user,id=n0" fwd
    # What comes from outside comes when it comes.
    [ "${REPEATABLE:-0}" = 0 ] || return 0
    for fwd in "$@"; do net+=",hostfwd=$fwd"; done
    EMULATOR+=(-netdev "$net" -device virtio-net-pci,netdev=n0,romfile=)
}

# emulator_port NAME CHARDEV: a named byte stream between init and the outside.
emulator_port() {
    if [ "${REPEATABLE:-0}" = 1 ]; then # a plain serial port, the only one there is
        EMULATOR+=(-chardev "$2,id=c-$1" -device "pci-serial,chardev=c-$1")
        EMULATOR_CMDLINE+=" dormouse.port=/dev/ttyS0"
        return
    fi
    EMULATOR+=(-chardev "$2,id=c-$1" -device "virtserialport,chardev=c-$1,name=org.dormouse.$1")
}
