// SPDX-License-Identifier: Apache-2.0
/* Verbs with CPUs, PSCI, the interrupt controller and memory; see hostile.h. */
#include "hostile.h"

#define PSCI32(n) (0x84000000u + (n))
#define PSCI64(n) (0xc4000000u + (n))
enum {
    SUSPEND = 1,
    CPU_OFF = 2,
    CPU_ON = 3,
    AFFINITY = 4,
    RESET = 9,
    FEATURES = 10,
    RESET2 = 18
};

static void park(unsigned cpu)
{
    (void)cpu;
    for (;;)
        __asm__ volatile("wfi");
}

static void spin(unsigned cpu)
{
    (void)cpu;
    for (;;)
        __asm__ volatile("");
}

/* CPUs that are not there, this one, and entry points from which nothing can run. */
static void psci_cpu_on(void)
{
    static const uint64_t ids[] = {0,          4,          16,         255,
                                   256,        0x100,      1ull << 32, UINT64_MAX,
                                   1ull << 63, 0x80000000, 0xffffff00, 0xff00ffffff};
    static const uint64_t entries[] = {0,          1,           UART,           GICD,
                                       RAM_END,    RAM_END - 4, RAM_BASE + 2,   UINT64_MAX,
                                       1ull << 63, NOWHERE,     0x1000000000ull};
    for (unsigned i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        MUST(hvc4(PSCI64(CPU_ON), ids[i], (uintptr_t)secondary_entry, 0) != 0,
             "a CPU that cannot be started was started");
        hvc4(PSCI32(CPU_ON), ids[i], (uintptr_t)secondary_entry, 0);
        hvc4(PSCI64(AFFINITY), ids[i], i, 0);
        hvc4(PSCI64(AFFINITY), ids[i], UINT64_MAX, 0);
    }
    for (unsigned i = 0; i < sizeof entries / sizeof entries[0]; i++)
        hvc4(PSCI64(CPU_ON), 1 + i % 3, entries[i], UINT64_MAX);
    all_work();
}

/* Each of the other CPUs is started at a place where it can only fault, for ever. */
static void wild_entries(void)
{
    MUST(hvc4(PSCI64(CPU_ON), 1, UART, 0) == 0, "a CPU does not start");
    MUST(hvc4(PSCI64(CPU_ON), 2, RAM_END, 0) == 0, "a CPU does not start");
    MUST(hvc4(PSCI64(CPU_ON), 3, NOWHERE, 0) == 0, "a CPU does not start");
    all_work();
    holding();
    park(0);
}

static void psci_unknown(void)
{
    static const uint64_t wild[] = {0, 1, UINT64_MAX, RAM_BASE};
    for (uint64_t n = 0; n < 0x40; n++) {
        if (n == CPU_OFF || n == 8 || n == RESET || n == RESET2 || n == SUSPEND)
            continue;
        for (unsigned i = 0; i < 4; i++) {
            hvc4(PSCI32(n), wild[i], wild[3 - i], wild[i]);
            hvc4(PSCI64(n), wild[i], wild[3 - i], wild[i]);
        }
    }
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t f = (uint64_t)rnd() << 32 | rnd();
        if ((f & 0xbfffff00) == 0x84000000)
            continue;
        hvc4(f & UINT32_MAX, rnd(), rnd(), rnd());
        smc4(f & UINT32_MAX, rnd(), rnd(), rnd());
    }
    for (unsigned i = 0; i < 256; i++)
        hvc4(0x80000000u + i, UINT64_MAX, UINT64_MAX, UINT64_MAX); /* architecture calls */
    for (unsigned i = 0; i < 256; i++)
        hvc4(0xc6000000u + i, RAM_BASE, UINT64_MAX, 0); /* vendor calls: KVM's own */
    all_work();
}

static void psci_reset2(void)
{
    hvc4(PSCI64(RESET2), 0x80000001u, UINT64_MAX, UINT64_MAX);
    hvc4(PSCI64(RESET2), 0, UINT64_MAX, 0);
    broken("SYSTEM_RESET2 came back");
}

static void psci_reset(void)
{
    hvc4(PSCI32(RESET), UINT64_MAX, UINT64_MAX, UINT64_MAX);
    broken("SYSTEM_RESET came back");
}

/* The last CPU is off: nothing will ever run again. */
static void psci_all_off(void)
{
    holding();
    hvc4(PSCI32(CPU_OFF), UINT64_MAX, 0, 0);
    broken("CPU_OFF came back");
}

static volatile unsigned offs;
static void off_again(unsigned cpu)
{
    (void)cpu;
    __atomic_fetch_add(&offs, 1, __ATOMIC_SEQ_CST);
    hvc4(PSCI32(CPU_OFF), 0, 0, 0);
}

static void psci_on_off(void)
{
    unsigned started = 0;
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned cpu = 1; cpu < 4; cpu++)
            started += start_cpu(cpu, off_again);
    }
    uint64_t end = now() + 30 * ticks_per_s();
    while (offs < started)
        MUST(now() < end, "a CPU got lost");
    all_work();
}

/* ---- memory --------------------------------------------------------------------------------
 */

static void execute_nowhere(void)
{
    static const uint64_t places[] = {0x0,         0x1000,     UART,           GICD,
                                      VIRTIO(0),   0x3ffffffc, RAM_END,        0x3f00000000,
                                      0x400000000, NOWHERE,    UINT64_MAX - 3, 1ull << 47};
    uint64_t before = faults();
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++)
        call_and_return(places[i]);
    MUST(faults() > before, "there is something to run in nowhere");
    all_work();
}

/* Code that changes itself, then random words as code. */
static void self_modifying(void)
{
    volatile uint32_t *code = (volatile uint32_t *)(void *)page_a;
    for (uint32_t i = 0; i < 3000; i++) {
        uint64_t got;
        code[0] = 0xd2800000u | (i & 0xffff) << 5; /* mov x0, #i */
        code[1] = 0xd65f03c0u;                     /* ret */
        __asm__ volatile("dc cvau, %1\n\tdsb ish\n\tic ivau, %1\n\tdsb ish\n\tisb\n\t"
                         "blr %1\n\tmov %0, x0"
                         : "=r"(got)
                         : "r"((uintptr_t)code)
                         : "x0", "x30", "memory");
        MUST(got == (i & 0xffff), "code does not change");
    }
    /* What is no instruction at all. */
    for (unsigned i = 0; i < 300; i++) {
        code[0] = rnd() & 0x0000ffffu;
        __asm__ volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %0\n\tdsb ish\n\tisb"
                         :
                         : "r"((uintptr_t)code)
                         : "memory");
        call_and_return((uintptr_t)code);
    }
    all_work();
}

/* Reads and writes where no memory is. */
static void unmapped_accesses(void)
{
    for (uint64_t a = 0; a < RAM_BASE; a += 0x140000) {
        if (a >= GICD && a < GICR + 0x100000)
            continue;
        write64(a, UINT64_MAX);
        write32(a + 0x20, 1);
        read64(a);
    }
    for (uint64_t a = RAM_END; a < (63ull << 30); a += 0x17654000) {
        write64(a & ~7ull, UINT64_MAX);
        read64(a & ~7ull);
    }
    write64(NOWHERE, 1);
    read64(NOWHERE + 64);
    write64(1ull << 45, 1); /* not even in the page table */
    all_work();
}

/* A page table that points at itself, at devices and out of the world, walked by all CPUs. */
static void wild_page_table(void)
{
    volatile uint64_t *table = page_table;
    for (unsigned i = 70; i < 512; i++)
        table[i] = (uint64_t)rnd() << 20 | (uint64_t)rnd() | 3;
    table[70] = (uintptr_t)page_table | 3;
    table[71] = UART | 3;
    table[72] = NOWHERE | 3;
    table[73] = ((uint64_t)0xffff << 32) | 3;
    table[74] = RAM_END | 3;
    table[75] = VIRTIO(0) | 3;
    __asm__ volatile("dsb ish\n\ttlbi vmalle1is\n\tdsb ish\n\tisb" ::: "memory");
    for (unsigned i = 70; i < 512; i++) {
        read64((uint64_t)i << 30);
        read8(((uint64_t)i << 30) + 0x3fffffff);
    }
    all_work();
}

/* ---- interrupt controller, timers, registers ------------------------------------------------
 */

static void gic_pokes(void)
{
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t off = 0; off < 0x10000; off += off < 0x1000 ? 4 : 0x104) {
            read32(GICD + off);
            if (off % 0x100 < 0x40)
                write32(GICD + off, round ? rnd() : UINT32_MAX);
        }
        for (uint64_t off = 0; off < 4 * 0x20000;
             off += off % 0x10000 < 0x1000 ? 0x40 : 0x1040) {
            read32(GICR + off);
            write32(GICR + off, round ? rnd() : UINT32_MAX);
            read64(PLAIN(GICR) + off + 1);
            write8(GICR + off + 3, 0xff);
        }
    }
    /* GICv3's registers are system registers; on GICv2 these fault, and that is all right. */
    for (unsigned i = 0; i < 200; i++) {
        uint64_t v = (uint64_t)rnd() << 32 | rnd();
        __asm__ volatile("msr s3_0_c12_c11_5, %0\n\t" /* SGI1R */
                         "msr s3_0_c12_c12_1, %0\n\t" /* EOIR1 */
                         "msr s3_0_c12_c11_1, %0\n\t" /* DIR */
                         "msr s3_0_c4_c6_0, %0\n\t"   /* PMR */
                         "msr s3_0_c12_c12_7, %0\n\t" /* IGRPEN1 */
                         "msr s3_0_c12_c9_0, %0\n\t"  /* AP1R0 */
                         "mrs %0, s3_0_c12_c12_0"     /* IAR1 */
                         : "+r"(v));
    }
    all_work();
}

/* Every system register number there is, read and written: most are not there. */
static void system_registers(void)
{
    volatile uint32_t *code = (volatile uint32_t *)(void *)page_a;
    uint64_t before = faults();
    code[1] = 0xd65f03c0u;
    for (uint32_t n = 0; n < 0x8000; n += 3) {
        uint32_t crn = n >> 7 & 15, op1 = n >> 11 & 7;
        /* Not what this program stands on: MMU, vectors, stacks, exception return. */
        bool vital = op1 == 0 && (crn <= 2 || crn == 4 || crn == 5 || crn == 10 || crn == 13 ||
                                  (crn == 12 && (n >> 3 & 15) == 0));
        for (unsigned write = 0; write < (vital ? 1 : 2); write++) {
            /* mrs x0, REGISTER, then msr REGISTER, xzr */
            code[0] = (write ? 0xd510001fu : 0xd5300000u) | (n & 0x7fff) << 5;
            __asm__ volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %0\n\tdsb ish\n\tisb"
                             :
                             : "r"((uintptr_t)code)
                             : "memory");
            call_and_return((uintptr_t)code);
        }
    }
    MUST(faults() > before, "every system register exists");
    all_work();
}

static void all_spin(void)
{
    for (unsigned cpu = 1; cpu < 4; cpu++)
        MUST(start_cpu(cpu, spin), "a CPU does not start");
    holding();
    spin(0);
}

static void wfi_for_ever(void)
{
    __asm__ volatile("msr daifset, #15\n\tmsr cntv_ctl_el0, %0\n\tmsr cntp_ctl_el0, %0"
                     :
                     : "r"(0ull));
    holding();
    park(0);
}

const struct verb cpu_verbs[] = {
    {"psci_cpu_on", psci_cpu_on},           {"wild_entries", wild_entries},
    {"psci_unknown", psci_unknown},         {"psci_reset", psci_reset},
    {"psci_reset2", psci_reset2},           {"psci_all_off", psci_all_off},
    {"psci_on_off", psci_on_off},           {"execute_nowhere", execute_nowhere},
    {"self_modifying", self_modifying},     {"unmapped_accesses", unmapped_accesses},
    {"wild_page_table", wild_page_table},   {"gic_pokes", gic_pokes},
    {"system_registers", system_registers}, {"all_spin", all_spin},
    {"wfi_for_ever", wfi_for_ever},         {NULL, NULL}};
