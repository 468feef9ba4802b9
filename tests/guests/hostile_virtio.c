// SPDX-License-Identifier: Apache-2.0
/* Verbs against queues and the virtio-mmio registers; see hostile.h. */
#include "hostile.h"

static const uint8_t targets[][2] = {{DISK, 0}, {NET, 0},     {NET, 1},     {VSOCK, 1},
                                     {RNG, 0},  {BALLOON, 0}, {BALLOON, 1}, {BALLOON, 2}};
#define TARGETS (sizeof targets / sizeof targets[0])

/* Every queue gets one chain, which its device must not accept; after a reset it serves. */
static void attack(void (*make)(struct queue *q), uint16_t head, uint64_t features)
{
    for (unsigned i = 0; i < TARGETS; i++) {
        unsigned slot = targets[i][0];
        struct queue *q = &queues[slot][targets[i][1]];
        bring_up(slot, features);
        make(q);
        publish(q, head);
        expect_broken(q);
        works(slot);
    }
}

/* A loop of descriptors of one buffer. */
static void loop(struct queue *q)
{
    for (uint16_t i = 0; i < 4; i++)
        put_desc(q, i, (uintptr_t)page_a, 16, NEXT, (uint16_t)((i + 1) % 4));
}

static void self_loop(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_a, 16, WRITE | NEXT, 0);
}

static void descriptor_loop(void)
{
    attack(loop, 0, 0);
    attack(self_loop, 0, F_EVENT);
}

static void empty(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_a, 0, 0, 0);
}

static void empty_at_the_end(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_a, 64, NEXT, 1);
    put_desc(q, 1, (uintptr_t)page_a, 0, WRITE, 0);
}

static void zero_length(void)
{
    attack(empty, 0, 0);
    attack(empty_at_the_end, 0, 0);
}

static void all_ones(struct queue *q)
{
    put_desc(q, 0, RAM_BASE + 0x200000, UINT32_MAX, 0, 0);
}

/* Each is inside RAM, their sum is beyond 32 bits. */
static void sum(struct queue *q)
{
    for (uint16_t i = 0; i < 60; i++)
        put_desc(q, i, RAM_BASE, (uint32_t)RAM_SIZE, i < 59 ? NEXT : 0, (uint16_t)(i + 1));
}

/* The longest chain that the table can hold. */
static void long_chain(struct queue *q)
{
    for (uint16_t i = 0; i < q->size; i++)
        put_desc(q, i, (uintptr_t)page_a, 16, i + 1u < q->size ? NEXT : 0, (uint16_t)(i + 1));
    q->desc[q->size - 1].next = UINT16_MAX;
    q->desc[q->size - 1].flags = NEXT;
}

static void huge_length(void)
{
    attack(all_ones, 0, 0);
    attack(sum, 0, 0);
    attack(long_chain, 0, 0);
}

static uint64_t wild_addr;
static uint32_t wild_len;

static void wild(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_a, 16, NEXT, 1);
    put_desc(q, 1, wild_addr, wild_len, 0, 0);
}

static void wild_write(struct queue *q)
{
    put_desc(q, 0, wild_addr, wild_len, WRITE, 0);
}

static void addresses(const uint64_t (*list)[2], unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        wild_addr = list[i][0];
        wild_len = (uint32_t)list[i][1];
        attack(wild, 0, 0);
        attack(wild_write, 0, 0);
    }
}

static void outside_ram(void)
{
    static const uint64_t list[][2] = {
        {0, 4096}, {RAM_BASE - 8, 16}, {RAM_END - 8, 16}, {RAM_END, 1}, {1ull << 47, 4096}};
    addresses(list, sizeof list / sizeof list[0]);
}

static void into_devices(void)
{
    static const uint64_t list[][2] = {{VIRTIO(DISK) + R_STATUS, 4},
                                       {VIRTIO(BALLOON) + R_NOTIFY, 4},
                                       {UART, 4096},
                                       {GICD, 4096},
                                       {GICR, 65536}};
    addresses(list, sizeof list / sizeof list[0]);
}

static void wrapping(void)
{
    static const uint64_t list[][2] = {{UINT64_MAX, 1},
                                       {UINT64_MAX - 15, 32},
                                       {UINT64_MAX - 0x3fffffff, 0x50000000},
                                       {UINT64_MAX - 0xfff, 0xffffffff}};
    addresses(list, sizeof list / sizeof list[0]);
}

static void next_beyond(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_a, 16, NEXT, (uint16_t)q->size);
}

static void wrong_order(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_a, 16, WRITE | NEXT, 1);
    put_desc(q, 1, (uintptr_t)page_a, 16, 0, 0);
}

static void jump(struct queue *q)
{
    q->avail.idx = (uint16_t)(q->size + 1);
}

static void ring_indices(void)
{
    attack(next_beyond, 0, 0);
    attack(wrong_order, 0, 0);
    attack(empty, UINT16_MAX, 0); /* the head itself */
    attack(jump, 0, 0);
}

/* Tables of descriptors in page_b. */
static void table_entry(unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    ((struct desc *)(void *)page_b)[i] = (struct desc){addr, len, flags, next};
}

static void nested(struct queue *q)
{
    table_entry(0, (uintptr_t)page_b + 4096, 64, INDIRECT, 0);
    put_desc(q, 0, (uintptr_t)page_b, 64, INDIRECT, 0);
}

static void itself(struct queue *q)
{
    table_entry(0, (uintptr_t)page_b, 64, INDIRECT, 0);
    put_desc(q, 0, (uintptr_t)page_b, 64, INDIRECT, 0);
}

static void table_loop(struct queue *q)
{
    table_entry(0, (uintptr_t)page_a, 16, NEXT, 1);
    table_entry(1, (uintptr_t)page_a, 16, NEXT, 0);
    put_desc(q, 0, (uintptr_t)page_b, 32, INDIRECT, 0);
}

static void table_and_next(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_b, 64, INDIRECT | NEXT, 1);
    put_desc(q, 1, (uintptr_t)page_a, 64, 0, 0);
}

static void table_beyond(struct queue *q)
{
    table_entry(0, (uintptr_t)page_a, 16, NEXT, 4);
    put_desc(q, 0, (uintptr_t)page_b, 64, INDIRECT, 0);
}

static void table_of_nothing(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_b, 0, INDIRECT, 0);
}

static void table_of_half(struct queue *q)
{
    put_desc(q, 0, (uintptr_t)page_b, 24, INDIRECT, 0);
}

static void table_outside(struct queue *q)
{
    put_desc(q, 0, RAM_END - 16, 32, INDIRECT, 0);
}

static void table_wraps(struct queue *q)
{
    put_desc(q, 0, UINT64_MAX - 15, 64, INDIRECT, 0);
}

static void indirect(void)
{
    attack(nested, 0, F_INDIRECT);
    attack(itself, 0, F_INDIRECT);
    attack(table_loop, 0, F_INDIRECT);
    attack(table_and_next, 0, F_INDIRECT);
    attack(table_beyond, 0, F_INDIRECT);
    attack(table_of_nothing, 0, F_INDIRECT);
    attack(table_of_half, 0, F_INDIRECT);
    attack(table_outside, 0, F_INDIRECT);
    attack(table_wraps, 0, F_INDIRECT);
    attack(table_loop, 0, 0); /* not negotiated at all */
}

/* ---- the queue registers ----------------------------------------------------------------- */

static bool accepted(uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
    const uint64_t a[3] = {desc, avail, used};
    prepare(DISK, 0);
    set_reg(DISK, R_QUEUE_SEL, 0);
    set_reg(DISK, R_QUEUE_READY, 0);
    set_reg(DISK, R_QUEUE_NUM, size);
    for (unsigned i = 0; i < 3; i++) {
        set_reg(DISK, R_DESC + i * 0x10, (uint32_t)a[i]);
        set_reg(DISK, R_DESC + i * 0x10 + 4, (uint32_t)(a[i] >> 32));
    }
    set_reg(DISK, R_QUEUE_READY, 1);
    bool ready = reg(DISK, R_QUEUE_READY);
    set_reg(DISK, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
    set_reg(DISK, R_NOTIFY, 0);
    reset(DISK);
    return ready;
}

static void queue_addresses(void)
{
    static const uint64_t bad[] = {
        0,         RAM_BASE - 16, RAM_END - 16,    RAM_END,    UART,
        GICD,      VIRTIO(DISK),  UINT64_MAX - 15, 1ull << 63, (uintptr_t)page_a + 1,
        1ull << 47};
    uint64_t good = (uintptr_t)page_a;
    set_reg(DISK, R_QUEUE_SEL, 0);
    uint32_t max = reg(DISK, R_QUEUE_MAX);
    MUST(accepted(max, good, good + 8192, good + 16384), "a good queue is refused");
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        MUST(!accepted(max, bad[i], good + 8192, good + 16384), "a wild descriptor table");
        MUST(!accepted(max, good, bad[i], good + 16384), "a wild available ring");
        MUST(!accepted(max, good, good + 8192, bad[i]), "a wild used ring");
    }
    works(DISK);
}

static void queue_sizes(void)
{
    static const uint32_t bad[] = {0,     3,     255,   257,     512,
                                   32768, 65536, 65537, 0x10100, UINT32_MAX};
    uint64_t good = (uintptr_t)page_a;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        MUST(!accepted(bad[i], good, good + 8192, good + 16384), "a wrong queue size");
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        prepare(slot, 0);
        for (unsigned i = 3; i < 40; i++) { /* queues that are not there */
            set_reg(slot, R_QUEUE_SEL, i < 35 ? i : UINT32_MAX - i);
            MUST(reg(slot, R_QUEUE_MAX) == 0, "more queues than there are");
            set_reg(slot, R_QUEUE_NUM, 16);
            set_reg(slot, R_QUEUE_READY, 1);
            MUST(reg(slot, R_QUEUE_READY) == 0, "a queue that is not there is ready");
        }
    }
    all_work();
}

/* The rings of a live queue stay where they are, at the size they have. */
static void live_queue(void)
{
    for (unsigned t = 0; t < TARGETS; t++) {
        unsigned slot = targets[t][0];
        bring_up(slot, 0);
        for (unsigned i = 0; i < 3; i++) {
            set_reg(slot, R_QUEUE_SEL, i);
            set_reg(slot, R_QUEUE_NUM, 1u << (rnd() % 17));
            for (unsigned off = R_DESC; off < R_DESC + 0x30; off += 4)
                set_reg(slot, off, rnd());
            set_reg(slot, R_QUEUE_READY, 0);
            set_reg(slot, R_QUEUE_READY, 1);
        }
        set_reg(slot, R_QUEUE_SEL, 0);
        MUST(reg(slot, R_QUEUE_READY) == 1, "a live queue was taken away");
    }
    /* The old rings still serve. */
    struct queue *q = &queues[DISK][0];
    bring_up(DISK, 0);
    set_reg(DISK, R_QUEUE_SEL, 0);
    set_reg(DISK, R_QUEUE_NUM, 1);
    set_reg(DISK, R_USED, 0);
    blk_request(q, 8, 0, (uintptr_t)page_b, 20);
    publish(q, 0);
    notify(q);
    MUST(wait_used(q, 1) && page_a[64] == 0, "a live queue was changed");
    all_work();
}

static void used_ring_wrap(void)
{
    struct queue *q = &queues[BALLOON][1];
    bring_up(BALLOON, F_EVENT);
    for (unsigned i = 0; i < q->size; i++)
        put_desc(q, i, (uintptr_t)page_a, 4, 0, 0);
    for (unsigned n = 0; n < 70000;) {
        for (unsigned i = 0; i < q->size; i++, n++) {
            q->avail.ring[(q->avail.idx + i) % q->size] = (uint16_t)i;
        }
        fence();
        *(volatile uint16_t *)&q->avail.idx = (uint16_t)(q->avail.idx + q->size);
        notify(q);
        MUST(wait_used(q, q->avail.idx), "the device stopped at a wrap");
    }
    works(BALLOON);
    bring_up(DISK, 0);
    q = &queues[DISK][0];
    blk_request(q, 8, 0, (uintptr_t)page_b, 20);
    for (unsigned n = 0; n < 66000; n += q->size) {
        for (unsigned i = 0; i < q->size; i++)
            q->avail.ring[(q->avail.idx + i) % q->size] = 0;
        fence();
        *(volatile uint16_t *)&q->avail.idx = (uint16_t)(q->avail.idx + q->size);
        notify(q);
        MUST(wait_used(q, q->avail.idx), "the disk stopped at a wrap");
    }
    works(DISK);
}

/* ---- status and features ----------------------------------------------------------------- */

static void features(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        /* What is not offered. */
        reset(slot);
        set_reg(slot, R_STATUS, ACK | DRIVER);
        set_reg(slot, R_FEATURES_SEL, 0);
        uint32_t offered = reg(slot, R_FEATURES);
        set_reg(slot, R_ACCEPT_SEL, 0);
        set_reg(slot, R_ACCEPT, ~offered);
        set_reg(slot, R_ACCEPT_SEL, 1);
        set_reg(slot, R_ACCEPT, UINT32_MAX);
        set_reg(slot, R_ACCEPT_SEL, 77);
        set_reg(slot, R_ACCEPT, UINT32_MAX);
        set_reg(slot, R_FEATURES_SEL, UINT32_MAX);
        MUST(reg(slot, R_FEATURES) == 0, "features beyond 64");
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK);
        MUST(!(reg(slot, R_STATUS) & FEATURES_OK), "a feature not offered was accepted");
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
        MUST(!(reg(slot, R_STATUS) & DRIVER_OK), "a driver without features");
        set_reg(slot, R_NOTIFY, 0);
        /* Without the modern interface. */
        reset(slot);
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
        MUST(!(reg(slot, R_STATUS) & FEATURES_OK), "a legacy driver was accepted");
        /* Again, when all is up: indirect descriptors were not asked for. */
        bring_up(slot, 0);
        set_reg(slot, R_ACCEPT_SEL, 0);
        set_reg(slot, R_ACCEPT, UINT32_MAX);
        set_reg(slot, R_STATUS, ACK | DRIVER);
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK);
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
        set_reg(slot, R_STATUS, NEEDS_RESET | 0xffffff10u);
        MUST(!(reg(slot, R_STATUS) & ~0x8fu), "a driver set the device's own bits");
        reset(slot);
    }
    bring_up(DISK, 0);
    set_reg(DISK, R_ACCEPT_SEL, 0);
    set_reg(DISK, R_ACCEPT, (uint32_t)F_INDIRECT);
    set_reg(DISK, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
    table_loop(&queues[DISK][0]);
    publish(&queues[DISK][0], 0);
    expect_broken(&queues[DISK][0]);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        bring_up(slot, 0);
        set_reg(slot, R_STATUS, FAILED);
        set_reg(slot, R_NOTIFY, 0);
    }
    all_work();
}

/* Large reads are under way when the driver leaves; then its memory is its own again. */
static void reset_in_flight(void)
{
    struct queue *q = &queues[DISK][0];
    for (unsigned round = 0; round < 40; round++) {
        bring_up(DISK, 0);
        for (uint16_t i = 0; i < 80; i++) {
            uint32_t *head = (uint32_t *)(void *)(page_a + i * 32);
            bool out = (i + round) % 3 == 0;
            head[0] = out;
            head[1] = head[3] = 0;
            head[2] = (i * 8u + round) % 1024;
            put_desc(q, 3u * i, (uintptr_t)head, 16, NEXT, (uint16_t)(3 * i + 1));
            put_desc(q, 3u * i + 1, (uintptr_t)page_b, 32768, out ? NEXT : NEXT | WRITE,
                     (uint16_t)(3 * i + 2));
            put_desc(q, 3u * i + 2, (uintptr_t)head + 16, 1, WRITE, 0);
            publish(q, (uint16_t)(3 * i));
        }
        notify(q);
        for (unsigned i = rnd() % 2000; i > 0; i--)
            __asm__ volatile("nop");
        reset(DISK);
        for (unsigned i = 0; i < 32768; i += 64)
            page_b[i] = (uint8_t)round;
        uint64_t end = now() + ticks_per_s() / 1000;
        while (now() < end)
            continue;
        fence();
        for (unsigned i = 0; i < 32768; i += 64)
            MUST(*(volatile uint8_t *)&page_b[i] == (uint8_t)round, "written to after a reset");
    }
    all_work();
}

static volatile uint32_t done;

static void resetter(unsigned cpu)
{
    for (unsigned i = 0; i < 300; i++) {
        unsigned slot = (cpu + i) % SLOTS;
        write32(VIRTIO(slot) + R_STATUS, 0);
        write32(VIRTIO(slot) + R_NOTIFY, i);
    }
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    for (;;)
        __asm__ volatile("wfi");
}

/* Three CPUs reset what the first brings up. */
static void reset_race(void)
{
    for (unsigned cpu = 1; cpu < 4; cpu++)
        MUST(start_cpu(cpu, resetter), "a CPU does not start");
    while (done < 3) {
        unsigned slot = rnd() % SLOTS;
        set_reg(slot, R_STATUS, ACK);
        set_reg(slot, R_STATUS, ACK | DRIVER);
        set_reg(slot, R_ACCEPT_SEL, 1);
        set_reg(slot, R_ACCEPT, 1);
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK);
        queues[slot][0].slot = slot;
        queues[slot][0].index = 0;
        set_queue(&queues[slot][0], 16);
        loop(&queues[slot][0]);
        set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
        publish(&queues[slot][0], 0);
        notify(&queues[slot][0]);
    }
    all_work();
}

/* The other CPU rewrites descriptors and ring indices while the device reads them. */
static void scribbler(unsigned cpu)
{
    static const uint64_t where[] = {(uintptr_t)page_b, UINT64_MAX - 7, RAM_END - 8, UART,
                                     RAM_BASE + 0x100000};
    (void)cpu;
    for (uint32_t i = 0; !done; i++) {
        struct queue *q = &queues[i & 1 ? DISK : BALLOON][0];
        volatile struct desc *d = &q->desc[rnd() % 8];
        d->addr = where[rnd() % 5];
        d->len = rnd() >> (rnd() % 32);
        d->flags = (uint16_t)(rnd() & 7);
        d->next = (uint16_t)(rnd() % 9);
        if (i % 64 == 0)
            *(volatile uint16_t *)&q->avail.idx = (uint16_t)(q->avail.idx + rnd() % 3);
    }
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    for (;;)
        __asm__ volatile("wfi");
}

static void rewritten_under_way(void)
{
    MUST(start_cpu(1, scribbler), "a CPU does not start");
    for (unsigned i = 0; i < 120; i++) {
        unsigned slot = i & 1 ? DISK : BALLOON;
        struct queue *q = &queues[slot][0];
        bring_up(slot, i & 2 ? F_INDIRECT : 0);
        for (unsigned k = 0; k < 20 && !(reg(slot, R_STATUS) & NEEDS_RESET); k++) {
            publish(q, (uint16_t)(rnd() % 8));
            notify(q);
        }
    }
    done = 1;
    while (done < 2)
        continue;
    all_work();
}

const struct verb virtio_verbs[] = {{"descriptor_loop", descriptor_loop},
                                    {"zero_length", zero_length},
                                    {"huge_length", huge_length},
                                    {"outside_ram", outside_ram},
                                    {"into_devices", into_devices},
                                    {"wrapping", wrapping},
                                    {"ring_indices", ring_indices},
                                    {"indirect", indirect},
                                    {"queue_addresses", queue_addresses},
                                    {"queue_sizes", queue_sizes},
                                    {"live_queue", live_queue},
                                    {"used_ring_wrap", used_ring_wrap},
                                    {"features", features},
                                    {"reset_in_flight", reset_in_flight},
                                    {"reset_race", reset_race},
                                    {"rewritten_under_way", rewritten_under_way},
                                    {NULL, NULL}};
