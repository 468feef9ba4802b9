// SPDX-License-Identifier: Apache-2.0
/*
 * The first instructions of the hostile guest (hostile.h): an arm64 Image header, a stack and
 * an address space per CPU, and exception vectors that survive whatever a verb provokes. No
 * floating point is used anywhere.
 */
#define STACK 16384

    .section .text.head, "ax"
    .global _start
_start:
    b       boot
    .long   0
    .quad   0                   // text offset
    .quad   image_size
    .quad   0x2                 // little-endian, 4 KiB pages
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// CPU 0; x0 is the device tree.
boot:
    mov     x19, x0
    mov     x20, #0
    bl      cpu_setup
    mov     x0, x19
    bl      hostile_main
1:  wfi
    b       1b

// What CPU_ON starts; x0 is the CPU's number.
    .global secondary_entry
secondary_entry:
    mov     x20, x0
    bl      cpu_setup
    mov     x0, x20
    bl      hostile_secondary
1:  wfi
    b       1b

// x20: CPU number. Stack, vectors, identity map with caches on.
cpu_setup:
    adrp    x1, stacks
    add     x1, x1, :lo12:stacks
    mov     x2, #STACK
    add     x3, x20, #1
    madd    x1, x2, x3, x1
    mov     sp, x1
    adr     x1, vectors
    msr     vbar_el1, x1
    adrp    x1, cpu_states
    add     x1, x1, :lo12:cpu_states
    add     x1, x1, x20, lsl #6
    msr     tpidr_el1, x1
    ldr     x1, =0xff4400       // attributes 0: device, 1: normal without caches, 2: normal
    msr     mair_el1, x1
    ldr     x1, =0x200803519    // 39 bits of address, 4 KiB pages, 40 bits physical
    msr     tcr_el1, x1
    adrp    x1, page_table
    msr     ttbr0_el1, x1
    tlbi    vmalle1
    dsb     ish
    isb
    mrs     x1, sctlr_el1
    ldr     x2, =0x1005         // MMU and caches on; unaligned accesses allowed
    orr     x1, x1, x2
    mov     x2, #2
    bic     x1, x1, x2
    msr     sctlr_el1, x1
    isb
    ret

// A fault at a data access: go on behind it. Elsewhere (jumps into nowhere): go on where the
// CPU's state says. Interrupts are never unmasked; should one come, it is ignored.
fault:
    stp     x0, x1, [sp, #-32]!
    stp     x2, x3, [sp, #16]
    mrs     x0, tpidr_el1
    ldr     x1, [x0, #8]        // faults
    add     x1, x1, #1
    str     x1, [x0, #8]
    mrs     x1, esr_el1
    str     x1, [x0, #16]
    mrs     x1, far_el1
    str     x1, [x0, #24]
    ldr     x1, [x0]            // resume
    cbz     x1, 1f
    str     xzr, [x0]
    b       2f
1:  mrs     x1, elr_el1
    add     x1, x1, #4
2:  msr     elr_el1, x1
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp], #32
    eret
ignore:
    eret

    .balign 2048
vectors:
    .rept 4
    .balign 128
    b       fault
    .balign 128
    b       ignore
    .balign 128
    b       ignore
    .balign 128
    b       ignore
    .endr

// Calls x0 as a function; whatever faults in it comes back here, with a count.
    .global call_and_return
call_and_return:
    stp     x29, x30, [sp, #-16]!
    mrs     x1, tpidr_el1
    adr     x2, 1f
    str     x2, [x1]
    mov     x2, sp
    str     x2, [x1, #32]
    blr     x0
1:  mrs     x1, tpidr_el1
    str     xzr, [x1]
    ldr     x2, [x1, #32]
    mov     sp, x2
    ldp     x29, x30, [sp], #16
    ret

// hvc4(function, a, b, c), smc4(...)
    .global hvc4
hvc4:
    hvc     #0
    ret
    .global smc4
smc4:
    smc     #0
    ret

    .section .data.table, "aw"
    .balign 4096
// 1 GiB each: devices, 31 GiB of RAM, then addresses behind RAM, and the devices once more as
// memory without caches, where unaligned accesses are allowed.
#define DEVICE 0x401
#define MEMORY 0x709
#define PLAIN  0x705
    .global page_table
page_table:
    .quad   DEVICE
    .set    gib, 1
    .rept 63
    .quad   (gib << 30) | MEMORY
    .set    gib, gib + 1
    .endr
    .quad   PLAIN               // 64: the devices as plain memory
    .quad   (1 << 39) | DEVICE  // 65: behind the guest's physical address space
    .fill   512 - 66, 8, 0

    .section .bss
    .balign 4096
    .global stacks
stacks:
    .space  16 * STACK
    .balign 64
    .global cpu_states
cpu_states:
    .space  16 * 64
