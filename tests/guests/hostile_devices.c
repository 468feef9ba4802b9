// SPDX-License-Identifier: Apache-2.0
/* Verbs against single devices, and floods; see hostile.h. */
#include "hostile.h"

static const uint64_t windows[] = {VIRTIO(0), VIRTIO(1), VIRTIO(2), VIRTIO(3),
                                   VIRTIO(4), UART,      RTC};
#define WINDOWS (sizeof windows / sizeof windows[0])

/* Every width at every offset, aligned or not, in the registers and behind them. */
static void odd_accesses(void)
{
    for (unsigned w = 0; w < WINDOWS; w++) {
        for (uint64_t off = 0; off < 0x220; off += off < 0x100 ? 1 : 5) {
            uint64_t a = PLAIN(windows[w]) + off;
            /* Not the console's data register, nor what a read changes. */
            bool print_it = windows[w] == UART && off < 8;
            read8(a);
            read16(a);
            read64(a);
            if (off % 4)
                read32(a);
            if (print_it)
                continue;
            write8(a, (uint8_t)rnd());
            write16(a, (uint16_t)rnd());
            write64(a, rnd());
            if (off % 4)
                write32(a, rnd());
        }
        for (uint64_t off = 0xff0; off < 0x1010; off++) { /* across the window's end */
            read64(PLAIN(windows[w]) + off);
            write64(PLAIN(windows[w]) + off, UINT64_MAX);
        }
    }
    MUST(reg(DISK, R_MAGIC) == 0x74726976, "no virtio device any more");
    all_work();
}

/* Pairs, exclusives, atomics and vector-like moves: KVM cannot describe these. */
static void undescribed_accesses(void)
{
    static const uint64_t places[] = {VIRTIO(0) + R_CONFIG, UART + 0x18, RTC, 0x0b000000, 0x0};
    uint64_t before = faults();
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint64_t a = PLAIN(places[i]), v = 0, w = 0;
        __asm__ volatile("ldp %0, %1, [%2]" : "+r"(v), "+r"(w) : "r"(a) : "memory");
        __asm__ volatile("stp %0, %1, [%2]" : : "r"(v), "r"(w), "r"(a) : "memory");
        __asm__ volatile("ldr %0, [%1], #8" : "+r"(v), "+r"(a) : : "memory");
        a = PLAIN(places[i]);
        __asm__ volatile("ldxr %0, [%1]" : "+r"(v) : "r"(a) : "memory");
        __asm__ volatile("ldadd %0, %1, [%2]" : "+r"(v), "+r"(w) : "r"(a) : "memory");
        __asm__ volatile("dc zva, %0" : : "r"(a) : "memory");
        __asm__ volatile("dc civac, %0" : : "r"(a) : "memory");
        __asm__ volatile("prfm pldl1keep, [%0]" : : "r"(a));
    }
    MUST(faults() > before, "every access was emulated");
    all_work();
}

static void config_space(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        uint64_t c = PLAIN(VIRTIO(slot)) + R_CONFIG;
        for (uint64_t off = 60; off < 0x100; off++) {
            MUST(read8(c + off) == 0, "something behind the configuration");
            MUST(read64(c + off) == 0, "something behind the configuration");
        }
        MUST(read64(c) == 0, "8 bytes at once"); /* not an access a driver may make */
        for (uint64_t off = 0; off < 0x100; off++) {
            write8(c + off, 0xff);
            write16(c + off, 0xffff);
            write32(c + off, UINT32_MAX);
            write64(c + off, UINT64_MAX);
        }
    }
    MUST(read32(VIRTIO(DISK) + R_CONFIG) == 2048, "the driver changed the disk's size");
    MUST(read32(VIRTIO(VSOCK) + R_CONFIG) == 3, "the driver changed its own address");
    all_work();
}

/* ---- balloon ----------------------------------------------------------------------------- */

static void pfns(const uint32_t *list, unsigned n, uint32_t bytes)
{
    uint32_t *p = (uint32_t *)(void *)page_a;
    struct queue *q = &queues[BALLOON][0];
    bring_up(BALLOON, 0);
    for (unsigned i = 0; i < n; i++)
        p[i] = list[i];
    put_desc(q, 0, (uintptr_t)page_a, bytes, 0, 0);
    publish(q, 0);
}

static void balloon_outside(void)
{
    static const uint32_t wild[] = {0,
                                    1,
                                    (uint32_t)(RAM_BASE >> 12) - 1,
                                    (uint32_t)(RAM_END >> 12),
                                    (uint32_t)(UART >> 12),
                                    (uint32_t)(VIRTIO(4) >> 12),
                                    UINT32_MAX,
                                    0x80000000u,
                                    0x7fffffffu};
    for (unsigned i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        pfns(&wild[i], 1, 4);
        expect_broken(&queues[BALLOON][0]);
    }
    pfns(wild, 0, 3); /* not whole numbers */
    expect_broken(&queues[BALLOON][0]);
    pfns(wild, 0, 4 * 4097); /* more than a driver may */
    expect_broken(&queues[BALLOON][0]);
    works(BALLOON);
}

/* All RAM but this program, the machine's own pages too, forwards and backwards. */
static void balloon_everything(void)
{
    struct queue *q = &queues[BALLOON][0];
    bring_up(BALLOON, 0);
    uint32_t first = (uint32_t)(RAM_BASE >> 12), n = 0;
    uint32_t *list = (uint32_t *)(void *)page_b;
    for (uint32_t i = 0; i < (uint32_t)(RAM_SIZE >> 12); i++) {
        uint32_t page = i & 1 ? i : (uint32_t)(RAM_SIZE >> 12) - 2 - i; /* no two neighbours */
        if (page >= 0x200 && page < 0x400)
            continue;
        list[n++] = first + page;
        if (n < 4096)
            continue;
        put_desc(q, 0, (uintptr_t)page_b, n * 4, 0, 0);
        publish(q, 0);
        notify(q);
        MUST(wait_used(q, q->avail.idx), "the balloon takes no pages");
        n = 0;
    }
    MUST(read64(VMGENID) == 0, "a page in the balloon keeps its content");
    /* Reporting: everything, as one buffer, many times over. */
    q = &queues[BALLOON][2];
    bring_up(BALLOON, 0);
    for (unsigned i = 0; i < 16; i++) {
        put_desc(q, i, RAM_BASE + 0x400000, (uint32_t)(RAM_SIZE - 0x400000), WRITE, 0);
        publish(q, (uint16_t)i);
    }
    put_desc(q, 0, RAM_BASE + 0x400001, 4097, WRITE, 0); /* not whole pages */
    notify(q);
    MUST(wait_used(q, q->avail.idx), "reporting stopped");
    works(BALLOON);
}

/* Its own rings, while they are in use. */
static void balloon_own_rings(void)
{
    struct queue *q = &queues[BALLOON][0];
    uint32_t own[3] = {(uint32_t)((uintptr_t)q >> 12), (uint32_t)((uintptr_t)q >> 12) + 1,
                       (uint32_t)((uintptr_t)page_a >> 12)};
    for (unsigned i = 0; i < 50; i++) {
        pfns(own, 3, 12);
        notify(q);
        uint64_t end = now() + ticks_per_s() / 200;
        while (now() < end)
            continue;
        reset(BALLOON);
    }
    all_work();
}

/* ---- disk ---------------------------------------------------------------------------------
 */

static void disk_refuses(uint32_t type, uint64_t sector, uint32_t len)
{
    struct queue *q = &queues[DISK][0];
    bring_up(DISK, 0);
    blk_request(q, type, sector, (uintptr_t)page_b, len);
    publish(q, 0);
    notify(q);
    MUST(wait_used(q, 1), "a wrong request breaks the device");
    MUST(page_a[64] == 1 || page_a[64] == 2, "a wrong request is served");
}

static void disk_ranges(void)
{
    uint32_t *seg = (uint32_t *)(void *)page_b;
    static const uint64_t sectors[] = {2048,       2047 + 1,   1ull << 32,           1ull << 55,
                                       UINT64_MAX, 1ull << 63, (UINT64_MAX >> 9) + 1};
    for (unsigned i = 0; i < sizeof sectors / sizeof sectors[0]; i++) {
        disk_refuses(0, sectors[i], 512);
        disk_refuses(1, sectors[i], 512);
    }
    disk_refuses(0, 2047, 1024);
    disk_refuses(1, 2047, 1024);
    disk_refuses(0, 0, 511);
    disk_refuses(1, 0, 513);
    for (uint32_t type = 14; type < 40; type++)
        disk_refuses(type, 0, 512);
    disk_refuses(UINT32_MAX, 0, 512);
    for (uint32_t type = 11; type <= 13; type += 2) {
        seg[0] = 2047; /* sector, count, flags */
        seg[1] = 0;
        seg[2] = 2;
        seg[3] = 0;
        disk_refuses(type, 0, 16);
        seg[0] = seg[1] = seg[2] = UINT32_MAX;
        disk_refuses(type, 0, 16);
        seg[0] = seg[1] = 0;
        seg[2] = 1;
        seg[3] = UINT32_MAX;
        disk_refuses(type, 0, 16);
        disk_refuses(type, 0, 15);
        disk_refuses(type, 0, 32);
    }
    /* No header, no status. */
    struct queue *q = &queues[DISK][0];
    bring_up(DISK, 0);
    put_desc(q, 0, (uintptr_t)page_a, 15, NEXT, 1);
    put_desc(q, 1, (uintptr_t)page_b, 1, WRITE, 0);
    publish(q, 0);
    expect_broken(q);
    bring_up(DISK, 0);
    put_desc(q, 0, (uintptr_t)page_a, 16, 0, 0);
    publish(q, 0);
    expect_broken(q);
    /* Reading over the request itself, and over the rings. */
    bring_up(DISK, 0);
    blk_request(q, 0, 0, (uintptr_t)q, 8192);
    publish(q, 0);
    notify(q);
    uint64_t end = now() + ticks_per_s() / 20;
    while (now() < end)
        continue;
    works(DISK);
}

/* Packets that lie about themselves: offload headers and lengths of all kinds. */
static void net_headers(void)
{
    struct queue *tx = &queues[NET][1];
    bring_up(NET, 0x1 | 1 << 11 | 1 << 12); /* with checksum and segmentation offload */
    for (unsigned i = 0; i < 1500; i++) {
        static const uint32_t lens[] = {1, 11, 12, 25, 26, 60, 1526, 9000, 65535};
        for (unsigned k = 0; k < 64; k++)
            page_a[k] = (uint8_t)rnd();
        if (i % 2) {
            page_a[0] = 1; /* needs a checksum, somewhere */
            page_a[1] = (uint8_t)(i % 6);
            page_a[24] = 8; /* IPv4 */
            page_a[25] = 0;
        }
        uint32_t len = i % 3 ? lens[i % 9] : rnd() % 65536;
        uint32_t cut = len > 1 ? 1 + rnd() % (len - 1) : 0;
        if (cut) {
            put_desc(tx, 0, (uintptr_t)page_a, cut, NEXT, 1);
            put_desc(tx, 1, (uintptr_t)page_a + cut, len - cut, 0, 0);
        } else {
            put_desc(tx, 0, (uintptr_t)page_a, 1, 0, 0);
        }
        publish(tx, 0);
        notify(tx);
        MUST(wait_used(tx, tx->avail.idx), "a packet breaks the device");
    }
    works(NET);
}

/* ---- vsock --------------------------------------------------------------------------------
 */

static struct queue *vsock_up(bool receive)
{
    struct queue *rx = &queues[VSOCK][0];
    bring_up(VSOCK, 0);
    for (uint16_t i = 0; receive && i < 64; i++) {
        put_desc(rx, i, (uintptr_t)page_a + i * 1024u, 1024, WRITE, 0);
        publish(rx, i);
    }
    rx->recycled = receive;
    if (receive)
        notify(rx);
    return &queues[VSOCK][1];
}

static void vsock_lengths(void)
{
    static const uint32_t lens[] = {1, 20, 468, 65535, 65536, 65537, 0x7fffffff, UINT32_MAX};
    struct queue *tx = vsock_up(true);
    MUST(vsock_send(tx, 3, 2, 10, 1024, 0, 1, 1, 44), "a connection is refused");
    for (unsigned i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        MUST(vsock_send(tx, 3, 2, 10, 1024, lens[i], 1, 5, 44), "a packet breaks the device");
        MUST(vsock_send(tx, 3, 2, 11, 1024, lens[i], 1, 5, 64), "a packet breaks the device");
    }
    for (uint32_t n = 1; n < 44; n++)
        MUST(vsock_send(tx, 3, 2, 10, 1024, 0, 1, 5, n), "a short header breaks the device");
    /* A receive buffer without room for a header. */
    tx = vsock_up(false);
    put_desc(&queues[VSOCK][0], 0, (uintptr_t)page_a, 43, WRITE, 0);
    publish(&queues[VSOCK][0], 0);
    vsock_send(tx, 3, 2, 10, 99, 0, 1, 5, 44);
    expect_broken(&queues[VSOCK][0]);
    works(VSOCK);
}

static void vsock_words(void)
{
    static const uint64_t cids[] = {0, 1, 2, 3, 4, UINT32_MAX, UINT64_MAX, 1ull << 32 | 3};
    struct queue *tx = vsock_up(true);
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned k = 0; k < 8; k++)
            MUST(vsock_send(tx, cids[i], cids[k], 5, 6, 0, 1, 1, 44), "an address breaks it");
    }
    for (unsigned op = 0; op < 60; op++) {
        tx = vsock_up(op % 3 == 0);
        vsock_send(tx, 3, 2, op, 1024, 0, 1, 1, 44);
        for (unsigned k = 0; k < 4; k++)
            MUST(vsock_send(tx, 3, 2, op, 1024, k, (uint16_t)(k == 3 ? op : 1), (uint16_t)op,
                            44 + k),
                 "an operation breaks the device");
    }
    /* More than the credit allows, then a second connection on the same ports. */
    tx = vsock_up(true);
    vsock_send(tx, 3, 2, 10, 1024, 0, 1, 1, 44);
    for (unsigned i = 0; i < 200; i++)
        MUST(vsock_send(tx, 3, 2, 10, 1024, 400, 1, 5, 444), "too much data breaks the device");
    MUST(vsock_send(tx, 3, 2, 10, 1024, 0, 1, 1, 44), "a second connection breaks the device");
    works(VSOCK);
}

/* Thousands of connections, half of them given up at once; the host never looks. */
static void vsock_flood(void)
{
    struct queue *tx = vsock_up(true);
    for (uint32_t i = 0; i < 1500; i++) {
        vsock_send(tx, 3, 2, i, 1024 + (i & 1), 0, 1, 1, 44);
        if (i & 1)
            vsock_send(tx, 3, 2, i, 1025, 0, 1, 3, 44);
        if (i == 500)
            holding();
    }
    works(VSOCK);
    holding();
    for (;;)
        __asm__ volatile("wfi");
}

/* ---- floods --------------------------------------------------------------------------------
 */

static void ringing(unsigned cpu)
{
    (void)cpu;
    for (;;) {
        unsigned slot = rnd() % SLOTS;
        write32(VIRTIO(slot) + R_NOTIFY, rnd() % 4);
        write32(VIRTIO(slot) + R_NOTIFY, rnd());
        write32(VIRTIO(slot) + R_ISR_ACK, rnd());
    }
}

/* All CPUs ring all doorbells, with requests in the queues; the test pauses and saves. */
static void notify_flood(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++)
        bring_up(slot, F_EVENT);
    for (unsigned cpu = 1; cpu < 4; cpu++)
        MUST(start_cpu(cpu, ringing), "a CPU does not start");
    holding();
    struct queue *q = &queues[DISK][0], *b = &queues[BALLOON][1];
    for (unsigned n = 0;; n++) {
        blk_request(q, n & 1, n % 1024, (uintptr_t)page_b, 32768);
        publish(q, 0);
        notify(q);
        put_desc(b, 0, (uintptr_t)page_a, 4, 0, 0);
        publish(b, 0);
        notify(b);
        if (!wait_used(q, q->avail.idx))
            broken("the disk stopped");
        MUST(page_a[64] == 0, "the disk failed");
    }
}

/* The random device is limited; the rest of the machine has to go on meanwhile. */
static void rng_flood(void)
{
    struct queue *q = &queues[RNG][0];
    bring_up(RNG, 0);
    holding();
    for (unsigned i = 0; i < q->size; i++)
        put_desc(q, i, RAM_BASE + 0x1000000, 64u << 20, WRITE, 0);
    for (;;) {
        for (unsigned i = 0; i < q->size; i++)
            publish(q, (uint16_t)i);
        notify(q);
        wait_used(q, q->avail.idx);
    }
}

static void console_flood(void)
{
    for (unsigned i = 0; i < 40000; i += 2)
        write8(UART, i % 100 == 98 ? '\n' : (uint8_t)('a' + i % 26));
    for (unsigned i = 0; i < 256; i++) /* what is no text */
        write8(UART, (uint8_t)i);
    print("\n");
}

static void console_endless(void)
{
    for (unsigned i = 0;; i++)
        write8(UART, i % 100 == 99 ? '\n' : 'x');
}

/* The generation id is the guest's to read, and to destroy for itself. */
static void vmgenid(void)
{
    MUST(read64(VMGENID) | read64(VMGENID + 8), "there is no generation id");
    for (uint64_t off = 0; off < 4096; off += 8)
        write64(VMGENID + off, UINT64_MAX);
    write64(VMGENID - 8, 1);
    all_work();
}

const struct verb device_verbs[] = {{"odd_accesses", odd_accesses},
                                    {"undescribed_accesses", undescribed_accesses},
                                    {"config_space", config_space},
                                    {"balloon_outside", balloon_outside},
                                    {"balloon_everything", balloon_everything},
                                    {"balloon_own_rings", balloon_own_rings},
                                    {"disk_ranges", disk_ranges},
                                    {"net_headers", net_headers},
                                    {"vsock_lengths", vsock_lengths},
                                    {"vsock_words", vsock_words},
                                    {"vsock_flood", vsock_flood},
                                    {"notify_flood", notify_flood},
                                    {"rng_flood", rng_flood},
                                    {"console_flood", console_flood},
                                    {"console_endless", console_endless},
                                    {"vmgenid", vmgenid},
                                    {NULL, NULL}};
