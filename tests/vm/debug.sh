#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The debug twin in the emulated host, with a real GDB on this side of a forwarded port: the
# suite `debug` of tests/vm.sh. Prints TAP; what the parts said is in build/check/debug.*.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
out=$build/check/debug
port=${DEBUG_PORT:-$((20000 + $$ % 10000))}
kernel=$build/kernel/vmlinux
mkdir -p "$build/check"
rm -f "$out".*

n=0 failed=0
# check NAME COMMAND...
check() {
    local name=$1
    shift
    n=$((n + 1))
    if "$@"; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name"
        failed=1
    fi
}
# shellcheck disable=SC2317  # called by check
# Does FILE hold a line that matches?
says() {
    grep -qE -e "$2" "$1"
}
# shellcheck disable=SC2317
# Waits for a line of the emulated host's output.
await() {
    timeout 500 grep -qm1 -e "$1" <(tail -n +1 -f --pid="$host" "$out.host" 2>/dev/null)
}

cat >"$out.run" <<END
#!/bin/sh
cd /var/lib/dormouse && truncate -s 1M disk
vmm="/tests/dormouse-vmm-debug --run --kernel /usr/lib/dormouse/Image"
\$vmm --initrd /tests/ticker.cpio --cmdline 'console=ttyAMA0 quiet brk ticks=60' --vcpus 2 --rng \\
    --disk disk --trace trace --console - --gdb 10.0.2.15:1234,wait </dev/null
echo "first machine: \$?"
echo "== trace"
/tests/vmmtrace --device virtio trace
/tests/vmmtrace --device pl011 --last 2000 trace | grep "'d'"
/tests/vmmtrace /etc/passwd
echo "no trace: \$?"
/usr/bin/dormouse-vmm --run --kernel /usr/lib/dormouse/Image --trace trace
echo "lean binary: \$?"
echo "== panic"
\$vmm --cmdline 'console=ttyAMA0 quiet panic=-1' --vcpus 2 --console console --gdb /var/lib/dormouse/gdb
echo "second machine: \$?"
echo "== example"
/tests/dormouse-vmm-example --run --kernel /usr/lib/dormouse/Image --initrd /tests/ticker.cpio \\
    --cmdline 'console=ttyAMA0 quiet ticks=1' --console -
echo "third machine: \$?"
END
: >"$out.host"
tools/vmrun.sh -t 600 -S 1G -p "$port:1234" -c "$out.console" \
    -f "$build/debug/dormouse-vmm-debug=/tests/dormouse-vmm-debug" \
    -f "$build/debug/dormouse-vmm-example=/tests/dormouse-vmm-example" \
    -f "$build/vm/vmmtrace=/tests/vmmtrace" -f "$build/vm/ticker.cpio=/tests/ticker.cpio" \
    -f "$out.run=/tests/run" /tests/run >"$out.host" 2>&1 3>&- &
host=$!
check "the debug twin waits for a debugger" await 'waiting for a debugger'

# What one session asks, in order.
cat >"$out.gdb" <<END
set pagination off
set confirm off
target remote 127.0.0.1:$port
echo == before the first instruction\n
info threads
p/x \$pc
echo == kernel symbol, by a debug register\n
hbreak start_kernel
continue
info symbol \$pc
p/x \$sctlr_el1 & 1
echo == steps\n
x/i \$pc
stepi
p/x \$pc - (unsigned long)&start_kernel
stepi
p/x \$pc - (unsigned long)&start_kernel
delete
echo == kernel symbol, by an instruction\n
break virtio_dev_probe
continue
bt 3
info threads
echo == memory and registers\n
x/s &linux_banner
set \$was = \$x27
set \$x27 = 0x123456789abcdef0
p/x \$x27
set \$x27 = \$was
set \$old = *(unsigned long *)&linux_banner
set {unsigned long}&linux_banner = 0x4b43414220464f4c
x/s &linux_banner
set {unsigned long}&linux_banner = \$old
python
try:
    gdb.execute("x/4xb 0")
except gdb.MemoryError as e:
    print("error:", e)
end
echo == watchpoint\n
delete
watch *(unsigned long *)&jiffies_64
continue
delete
echo == user memory\n
break do_sys_openat2
continue
x/s \$x1
delete
echo == interrupt\n
continue
echo == interrupted\n
info threads
detach
END
# In the foreground: else GDB gets each signal twice, and leaves at the second.
timeout --foreground 500 gdb-multiarch -nx -batch -x "$out.gdb" "$kernel" >"$out.said" 2>&1 &
gdb=$!
check "the guest runs after all that" await '^tick 5 '
kill -INT "$gdb"
wait "$gdb"
check "GDB ended well" test $? -eq 0
check "all of it is over" await '^third machine'
wait "$host"
check "the emulated host ended well" test $? -eq 0

# The part of FILE behind "== NAME", up to the next.
part() {
    sed -n "/^== $2\$/,/^== /p" "$1" >"$out.part"
}
part "$out.said" 'before the first instruction'
check "held at the kernel's first instruction" says "$out.part" '= 0x40200000$'
check "a thread for each vCPU" says "$out.part" '^  2 +Thread 2 '
part "$out.said" 'kernel symbol, by a debug register'
check "breakpoint at start_kernel" says "$out.part" '^start_kernel in section'
check "system registers: the MMU is on" says "$out.part" '= 0x1$'
part "$out.said" 'steps'
check "first step" says "$out.part" '= 0x4$'
check "second step" says "$out.part" '= 0x8$'
part "$out.said" 'kernel symbol, by an instruction'
check "breakpoint in the driver core" says "$out.part" 'in virtio_dev_probe \(\)'
check "stack of the guest's kernel" says "$out.part" '#1 .* in .*probe'
part "$out.said" 'memory and registers'
check "kernel memory is read" says "$out.part" 'Linux version 6'
check "a register is written" says "$out.part" '= 0x123456789abcdef0$'
check "memory is written" says "$out.part" '"LOF BACKrsion'
check "an address that is not mapped" says "$out.part" 'error: Cannot access memory at address 0x0'
part "$out.said" 'watchpoint'
check "hardware watchpoint" says "$out.part" '^Hardware watchpoint [0-9]+: .*jiffies_64'
check "it hits, and shows both values" says "$out.part" '^New value = '
part "$out.said" 'user memory'
check "user memory through TTBR0" says "$out.part" '"/[a-z/]+"$'
part "$out.said" 'interrupt'
check "ctrl-C stops a running guest" says "$out.part" 'received signal SIGINT'
check "a process's own breakpoint stays its own" says "$out.host" '^brk signal 5'
check "detached, the guest finishes" says "$out.host" '^done'
check "the first machine powered off" says "$out.host" '^first machine: 0'

part "$out.host" 'trace'
check "trace: magic and device number are read" says "$out.part" \
    'cpu[01] +virtio-blk@a000000 read  DeviceID -> 0x2$'
check "trace: features are agreed on" says "$out.part" \
    'virtio-blk@a000000 write Status .* = ACKNOWLEDGE \| DRIVER \| FEATURES_OK$'
check "trace: a queue is set up" says "$out.part" 'virtio-blk@a000000 write QueueReady <- 0x1$'
check "trace: the driver is ready" says "$out.part" \
    'virtio-blk@a000000 write Status .* DRIVER_OK \| FEATURES_OK$'
check "trace: a request of a header, data and a status" says "$out.part" \
    'io +virtio-blk@a000000 chain queue 0 head [0-9]+: out 1 buffers 16 bytes, in 2 buffers 4097'
check "trace: doorbells" says "$out.part" 'io +virtio-blk@a000000 notify queue 0$'
check "trace: interrupts" says "$out.part" 'io +virtio-blk@a000000 irq SPI 16$'
check "trace: and their acknowledgement" says "$out.part" 'virtio-blk@a000000 write InterruptACK <- 0x1$'
check "trace: the console" says "$out.part" "pl011@9000000 write DR <- 0x64 \(2 bytes\) 'd'$"
check "no trace is refused" says "$out.part" '^no trace: 1'
check "the lean binary traces nothing" says "$out.part" '^lean binary: 2'
check "nothing of a GDB server is in it" test -z \
    "$(grep -c -e qSupported -e vCont "$build/arm64/dormouse-vmm" | grep -v '^0')"

part "$out.host" 'panic'
pc=$(sed -nE 's/.*vCPU 0: pc ([0-9a-f]{16}) sp [0-9a-f]{16} pstate.*/\1/p' "$out.part")
check "registers of each vCPU at a panic" says "$out.part" 'vCPU 1: pc [0-9a-f]{16} '
check "all thirty-one" says "$out.part" 'vCPU 0: x28 .* x30 [0-9a-f]{16}'
gdb-multiarch -nx -batch -ex "info symbol 0x${pc:-0}" "$kernel" >"$out.symbol" 2>&1
check "the program counter is the kernel's" says "$out.symbol" ' in section \.text$'
check "a guest that resets itself says so" says "$out.part" '^second machine: 3'
part "$out.host" 'example'
check "the device of docs/research.md is there" says "$out.part" '^a device of its own'
check "and its machine works" says "$out.part" '^third machine: 0'
echo "1..$n"
exit $failed
