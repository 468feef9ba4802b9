// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that means harm: no kernel, just an arm64 Image that does to the VMM
 * what a driver must not. It prints TAP on the console and powers off; that it
 * gets there is the test. Freestanding; linked at 0x40200000 with hostile.ld.
 * Used by tests/vm.
 */
#include <stdbool.h>
#include <stdint.h>

#define UART        0x09000000ull
#define RTC         0x09010000ull
#define VIRTIO      0x0a000000ull
#define VIRTIO_STEP 0x1000ull
#define SLOTS       8u
#define RAM         0x40000000ull
#define QUEUE_MAX   16u

/* The 64-byte header (linux/Documentation/arch/arm64/booting.rst), then a stack and C. */
__asm__(".section .head,\"ax\"\n"
        "    b begin\n"
        "    .long 0\n"
        "    .quad 0\n"          /* text offset */
        "    .quad image_size\n" /* with bss */
        "    .quad 2\n"          /* little-endian, 4 KiB pages */
        "    .quad 0, 0, 0\n"
        "    .ascii \"ARM\\x64\"\n"
        "    .long 0\n"
        "begin:\n"
        "    adrp x1, stack_top\n"
        "    mov sp, x1\n"
        "    adrp x1, vectors\n"
        "    msr vbar_el1, x1\n"
        "    isb\n"
        "    bl hostile\n"
        "second:\n" /* the other vCPU begins here */
        "    adrp x1, second_stack_top\n"
        "    mov sp, x1\n"
        "    adrp x1, vectors\n"
        "    msr vbar_el1, x1\n"
        "    isb\n"
        "    bl hammer\n"
        /* Every exception: count it and go on behind the instruction, or, when that was a
         * jump into nowhere, where the jump came from. */
        "    .balign 2048\n"
        "vectors:\n"
        "    .rept 16\n"
        "    b exception\n"
        "    .balign 128\n"
        "    .endr\n"
        "exception:\n"
        "    stp x0, x1, [sp, #-16]!\n"
        "    adrp x0, exceptions\n"
        "    add x0, x0, :lo12:exceptions\n"
        "    ldr x1, [x0]\n"
        "    add x1, x1, #1\n"
        "    str x1, [x0]\n"
        "    mrs x0, esr_el1\n"
        "    lsr x0, x0, #26\n"
        "    mrs x1, elr_el1\n"
        "    add x1, x1, #4\n"
        "    cmp x0, #0x21\n" /* instruction abort, same level */
        "    csel x1, x30, x1, eq\n"
        "    cmp x0, #0x22\n" /* misaligned PC */
        "    csel x1, x30, x1, eq\n"
        "    msr elr_el1, x1\n"
        "    ldp x0, x1, [sp], #16\n"
        "    eret\n"
        ".previous\n");

uint64_t exceptions;
extern char second[];
void hostile(void);
void hammer(void);

static unsigned tests, failed;

static inline uint32_t rd(uint64_t a)
{
    return *(volatile uint32_t *)a;
}

static inline void wr(uint64_t a, uint32_t v)
{
    *(volatile uint32_t *)a = v;
}

static void put(char c)
{
    wr(UART, (uint8_t)c);
}

static void print(const char *s)
{
    while (*s)
        put(*s++);
}

static void print_number(uint64_t v)
{
    char b[20];
    unsigned n = 0;
    do {
        b[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    while (n)
        put(b[--n]);
}

static void check(bool ok, const char *what, uint64_t number)
{
    tests++;
    failed += !ok;
    print(ok ? "ok " : "not ok ");
    print_number(tests);
    print(" - hostile guest: ");
    print(what);
    put(' ');
    print_number(number);
    put('\n');
}

static uint64_t psci(uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
    register uint64_t x0 __asm__("x0") = function;
    register uint64_t x1 __asm__("x1") = a;
    register uint64_t x2 __asm__("x2") = b;
    register uint64_t x3 __asm__("x3") = c;
    __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "memory");
    return x0;
}

/* ---- registers of every width at every offset ----------------------------------------------
 */

static void poke(uint64_t base, uint64_t len, uint64_t step, bool write)
{
    for (uint64_t off = 0; off < len; off += step) {
        uint64_t a = base + off;
        /* MMU off: only aligned accesses reach the device. */
        (void)*(volatile uint8_t *)a;
        (void)*(volatile uint16_t *)(a & ~1ull);
        (void)*(volatile uint32_t *)(a & ~3ull);
        (void)*(volatile uint64_t *)(a & ~7ull);
        if (!write)
            continue;
        *(volatile uint8_t *)a = 0xff;
        *(volatile uint16_t *)(a & ~1ull) = 0x7fff;
        *(volatile uint32_t *)(a & ~3ull) = 0xffffffff;
        *(volatile uint64_t *)(a & ~7ull) = 0x8000000000000001ull;
    }
}

static void strange_registers(void)
{
    poke(UART + 4, 0xffc, 1, true);
    check(true, "console registers", 0x1000);
    poke(RTC, 0x1000, 1, true);
    check(true, "clock registers", 0x1000);
    for (unsigned s = 0; s < SLOTS; s++)
        poke(VIRTIO + s * VIRTIO_STEP, 0x1000, s < 2 ? 1 : 13, true);
    check(true, "virtio registers, slots", SLOTS);
    poke(0, 0x10000, 0x101, true);
    poke(0x10000000, 0x10000, 0x101, true);
    poke(RAM - 0x1000, 0x1000, 0x11, true);
    check(true, "holes in the address space", 3);
}

/* Loads and stores whose syndrome says nothing: they end in a bus error for us. */
static void undecodable(void)
{
    uint64_t before = exceptions, a = VIRTIO, x, y;
    __asm__ volatile("ldp %0, %1, [%2]" : "=r"(x), "=r"(y) : "r"(a) : "memory");
    __asm__ volatile("stp xzr, xzr, [%0]" : : "r"(a) : "memory");
    __asm__ volatile("ldr %w0, [%1], #4" : "=r"(x), "+r"(a) : : "memory");
    __asm__ volatile("str wzr, [%0, #-4]!" : "+r"(a) : : "memory");
    check(exceptions > before, "undecodable accesses, exceptions", exceptions - before);
}

static void into_nowhere(void)
{
    static const uint64_t targets[] = {0, UART, VIRTIO, RAM - 4, 0x2000000000ull, 3};
    uint64_t before = exceptions;
    for (unsigned i = 0; i < sizeof targets / sizeof targets[0]; i++)
        ((void (*)(void))(uintptr_t)targets[i])();
    check(exceptions > before, "jumps into nowhere, exceptions", exceptions - before);
}

/* ---- firmware calls ------------------------------------------------------------------------
 */

#define PSCI_CPU_ON     0xc4000003u
#define PSCI_AFFINITY   0xc4000004u
#define PSCI_SYSTEM_OFF 0x84000008u

static void wild_firmware_calls(void)
{
    uint64_t x = 88172645463325252ull;
    check((int64_t)psci(PSCI_CPU_ON, 0, RAM, 0) < 0, "switching on a running vCPU", 0);
    check((int64_t)psci(PSCI_CPU_ON, 77, RAM, 0) < 0, "switching on a vCPU that is not", 77);
    check((int64_t)psci(PSCI_CPU_ON, ~0ull, ~0ull, ~0ull) < 0, "and with wild arguments", 0);
    psci(PSCI_AFFINITY, ~0ull, ~0ull, ~0ull);
    for (unsigned i = 0; i < 2000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint32_t f = (uint32_t)x;
        /* Not those that end the machine, suspend it or switch CPUs off and on. */
        if ((f & 0x1f000000u) == 0x04000000u)
            continue;
        psci(f, x, ~x, x >> 3);
    }
    check(true, "firmware calls at random", 2000);
}

/* ---- virtqueues ----------------------------------------------------------------------------
 */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
#define NEXT     1u
#define WRITE    2u
#define INDIRECT 4u

static _Alignas(4096) struct queue {
    struct desc desc[QUEUE_MAX];
    uint16_t avail_flags, avail_idx, ring[QUEUE_MAX + 1];
    _Alignas(8) uint16_t used_flags, used_idx;
    struct {
        uint32_t id, len;
    } used[QUEUE_MAX];
} queues[3];
static _Alignas(4096) uint8_t buffer[16384];

enum {
    R_MAGIC = 0x00,
    R_ID = 0x08,
    R_FEATURES = 0x10,
    R_FEATURES_SEL = 0x14,
    R_DRIVER = 0x20,
    R_DRIVER_SEL = 0x24,
    R_QSEL = 0x30,
    R_QMAX = 0x34,
    R_QNUM = 0x38,
    R_QREADY = 0x44,
    R_NOTIFY = 0x50,
    R_ACK = 0x64,
    R_STATUS = 0x70,
    R_DESC = 0x80,
    R_AVAIL = 0x90,
    R_USED = 0xa0,
    R_CONFIG = 0x100,
};

static void zero(void *p, uint64_t n)
{
    volatile uint8_t *b = p;
    while (n--)
        *b++ = 0;
}

static void wr64(uint64_t a, uint64_t v)
{
    wr(a, (uint32_t)v);
    wr(a + 4, (uint32_t)(v >> 32));
}

/* A proper start of the device, as its driver would; returns its number of queues. */
static unsigned set_up(uint64_t dev)
{
    unsigned n = 0;
    wr(dev + R_STATUS, 0);
    while (rd(dev + R_STATUS))
        ;
    zero(queues, sizeof queues);
    wr(dev + R_STATUS, 3);
    for (uint32_t half = 0; half < 2; half++) {
        wr(dev + R_FEATURES_SEL, half);
        wr(dev + R_DRIVER_SEL, half);
        wr(dev + R_DRIVER, rd(dev + R_FEATURES));
    }
    wr(dev + R_STATUS, 11);
    for (; n < 3; n++) {
        struct queue *q = &queues[n];
        wr(dev + R_QSEL, n);
        uint32_t max = rd(dev + R_QMAX);
        if (max == 0)
            break;
        wr(dev + R_QNUM, max < QUEUE_MAX ? max : QUEUE_MAX);
        wr64(dev + R_DESC, (uintptr_t)q->desc);
        wr64(dev + R_AVAIL, (uintptr_t)&q->avail_flags);
        wr64(dev + R_USED, (uintptr_t)&q->used_flags);
        wr(dev + R_QREADY, 1);
    }
    wr(dev + R_STATUS, 15);
    return n;
}

static void offer(struct queue *q, uint16_t head)
{
    q->ring[q->avail_idx % QUEUE_MAX] = head;
    __asm__ volatile("dmb sy" ::: "memory");
    (*(volatile uint16_t *)&q->avail_idx)++;
    __asm__ volatile("dmb sy" ::: "memory");
}

static void fill(struct queue *q, uint64_t addr, uint32_t len, uint16_t flags)
{
    for (uint16_t i = 0; i < QUEUE_MAX; i++)
        q->desc[i] = (struct desc){addr, len, flags, (uint16_t)((i + 1) % QUEUE_MAX)};
}

/* The ways to be wrong. Each prepares one queue; what it returns is how often to notify. */
enum attack {
    LOOP,
    HUGE_LENGTH,
    ZERO_LENGTH,
    OUTSIDE_RAM,
    WRAPPING,
    INTO_MMIO,
    NESTED_INDIRECT,
    ODD_INDIRECT,
    WILD_HEAD,
    WILD_NEXT,
    INDEX_JUMP,
    OWN_RING_AS_DATA,
    ALL_READ_ONLY,
    ALL_WRITE,
    FLOOD,
    MOVED_QUEUE,
    RESET_IN_FLIGHT,
    ATTACKS,
};
static const char *const names[ATTACKS] = {
    "descriptor loop",
    "huge lengths",
    "zero lengths",
    "addresses outside memory",
    "addresses that wrap",
    "addresses of devices",
    "indirect in indirect",
    "odd indirect tables",
    "heads beyond the queue",
    "next beyond the queue",
    "index far ahead",
    "the ring as its own data",
    "only readable buffers",
    "only writable buffers",
    "floods of notifications",
    "queue moved while it is in use",
    "resets in flight",
};

static unsigned prepare(enum attack a, uint64_t dev, struct queue *q)
{
    const uint64_t b = (uintptr_t)buffer;
    unsigned notify = 4;
    uint16_t heads = 4;
    fill(q, b, 64, 0);
    switch (a) {
    case LOOP:
        fill(q, b, 16, NEXT);
        break;
    case HUGE_LENGTH:
        fill(q, b, 0xffffffff, NEXT | WRITE);
        q->desc[3].flags = WRITE;
        break;
    case ZERO_LENGTH:
        fill(q, b, 0, NEXT);
        q->desc[5].flags = WRITE;
        break;
    case OUTSIDE_RAM:
        fill(q, 0x7ff00000000ull, 4096, WRITE);
        q->desc[1] = (struct desc){RAM - 8, 16, WRITE, 0};
        q->desc[2] = (struct desc){0, 4096, 0, 0};
        break;
    case WRAPPING:
        fill(q, ~0ull - 8, 64, WRITE);
        q->desc[1] = (struct desc){~0ull, 0xffffffff, 0, 0};
        break;
    case INTO_MMIO:
        fill(q, VIRTIO, 4096, WRITE);
        q->desc[1] = (struct desc){UART, 16, 0, 0};
        break;
    case NESTED_INDIRECT:
        fill(q, (uintptr_t)q->desc, sizeof q->desc, INDIRECT);
        q->desc[1].flags = INDIRECT | NEXT;
        break;
    case ODD_INDIRECT:
        fill(q, b + 3, 17, INDIRECT);
        q->desc[1] = (struct desc){b, 0, INDIRECT, 0};
        q->desc[2] = (struct desc){b, 0xfffffff0, INDIRECT, 0};
        q->desc[3] = (struct desc){~0ull - 15, 16, INDIRECT, 0};
        break;
    case WILD_HEAD:
        for (unsigned i = 0; i < QUEUE_MAX; i++)
            q->ring[i] = (uint16_t)(0xffff - i);
        q->avail_idx = 4;
        heads = 0;
        break;
    case WILD_NEXT:
        fill(q, b, 16, NEXT);
        for (unsigned i = 0; i < QUEUE_MAX; i++)
            q->desc[i].next = (uint16_t)(0x8000 + i);
        break;
    case INDEX_JUMP:
        q->avail_idx = 0x7fff;
        heads = 0;
        break;
    case OWN_RING_AS_DATA:
        fill(q, (uintptr_t)q, sizeof *q, WRITE);
        q->desc[0].flags = NEXT;
        break;
    case ALL_READ_ONLY:
        fill(q, b, 512, NEXT);
        q->desc[3].flags = q->desc[7].flags = 0;
        break;
    case ALL_WRITE:
        fill(q, b, 512, NEXT | WRITE);
        q->desc[3].flags = q->desc[7].flags = WRITE;
        break;
    case FLOOD:
        notify = 2000;
        break;
    case MOVED_QUEUE:
        wr64(dev + R_DESC, ~0ull - 15);
        wr64(dev + R_USED, RAM - 4096);
        wr(dev + R_QNUM, 0x10000);
        wr(dev + R_QREADY, 1);
        break;
    default:
        break;
    }
    for (uint16_t i = 0; i < heads; i++)
        offer(q, i);
    return notify;
}

static void attack_device(uint64_t dev, unsigned slot)
{
    for (unsigned a = 0; a < ATTACKS; a++) {
        unsigned n = set_up(dev);
        for (unsigned i = 0; i < n; i++) {
            wr(dev + R_QSEL, i);
            unsigned notify = prepare((enum attack)a, dev, &queues[i]);
            for (unsigned k = 0; k < notify; k++) {
                wr(dev + R_NOTIFY, i);
                if (a == RESET_IN_FLIGHT) {
                    wr(dev + R_STATUS, 0);
                    wr(dev + R_STATUS, 15); /* out of order, too */
                }
            }
        }
        wr(dev + R_NOTIFY, 3);
        wr(dev + R_NOTIFY, 0xffffffff);
        for (unsigned i = 0; i < 100; i++)
            wr(dev + R_ACK, rd(dev + R_STATUS) | 3);
        check(rd(dev + R_MAGIC) == 0x74726976, names[a], slot);
    }
    wr(dev + R_STATUS, 0);
    for (unsigned i = 0; i < 1000 && rd(dev + R_STATUS); i++)
        ;
    check(rd(dev + R_STATUS) == 0, "the device can be reset, slot", slot);
}

/* After all that the disk still serves an honest driver. */
static void disk_still_works(uint64_t dev)
{
    struct {
        uint32_t type, zero;
        uint64_t sector;
    } *head = (void *)buffer;
    struct queue *q = &queues[0];
    uint8_t *data = buffer + 4096, *status = buffer + 8192;
    set_up(dev);
    zero(buffer, sizeof buffer);
    *status = 0xee;
    (void)head; /* type 0: read, sector 0 */
    q->desc[0] = (struct desc){(uintptr_t)head, 16, NEXT, 1};
    q->desc[1] = (struct desc){(uintptr_t)data, 512, NEXT | WRITE, 2};
    q->desc[2] = (struct desc){(uintptr_t)status, 1, WRITE, 0};
    offer(q, 0);
    wr(dev + R_NOTIFY, 0);
    for (unsigned i = 0; i < 1000000 && *(volatile uint16_t *)&q->used_idx == 0; i++)
        rd(dev + R_STATUS);
    check(*(volatile uint8_t *)status == 0 && data[0] == 'H' && data[511] == '!',
          "an honest read succeeds, status", *status);
}

/* The second vCPU: notifies and resets all devices while the first attacks them. */
static volatile bool hammering;

void hammer(void)
{
    for (;;) {
        for (unsigned s = 0; s < SLOTS && hammering; s++) {
            uint64_t dev = VIRTIO + s * VIRTIO_STEP;
            wr(dev + R_NOTIFY, 0);
            wr(dev + R_NOTIFY, 1);
            rd(dev + R_CONFIG);
            rd(dev + R_STATUS);
        }
    }
}

static void attack_all(const char *what)
{
    unsigned devices = 0;
    for (unsigned s = 0; s < SLOTS; s++) {
        uint64_t dev = VIRTIO + s * VIRTIO_STEP;
        if (rd(dev + R_MAGIC) != 0x74726976 || rd(dev + R_ID) == 0)
            continue;
        devices++;
        attack_device(dev, s);
    }
    check(devices > 0, what, devices);
}

static void flood_console(void)
{
    for (unsigned i = 0; i < 1500; i++)
        print("flood flood flood flood flood flood flood flood flood flood flood\n");
}

void hostile(void)
{
    strange_registers();
    undecodable();
    into_nowhere();
    wild_firmware_calls();
    attack_all("devices attacked");
    check(psci(PSCI_CPU_ON, 1, (uintptr_t)second, 0) == 0, "a second vCPU joins", 1);
    hammering = true;
    attack_all("devices attacked by two");
    hammering = false;
    for (unsigned s = 0; s < SLOTS; s++) {
        if (rd(VIRTIO + s * VIRTIO_STEP + R_ID) == 2)
            disk_still_works(VIRTIO + s * VIRTIO_STEP);
    }
    flood_console();
    check(true, "console flood", 1500);
    print("1..");
    print_number(tests);
    print(failed ? "\nhostile guest: failed\n" : "\nhostile guest: survived\n");
    for (;;)
        psci(PSCI_SYSTEM_OFF, 0, 0, 0);
}
