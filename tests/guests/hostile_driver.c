// SPDX-License-Identifier: Apache-2.0
/* A small virtio driver, honest where a verb is not about to be otherwise; see hostile.h. */
#include "hostile.h"

#define SECTOR     512u
#define PATIENCE_S 60u

struct queue queues[SLOTS][3];
_Alignas(4096) uint8_t page_a[65536], page_b[65536];

static const unsigned nqueues[SLOTS] = {1, 2, 3, 1, 3};

uint32_t reg(unsigned slot, unsigned off)
{
    return read32(VIRTIO(slot) + off);
}

void set_reg(unsigned slot, unsigned off, uint32_t v)
{
    fence();
    write32(VIRTIO(slot) + off, v);
}

void reset(unsigned slot)
{
    set_reg(slot, R_STATUS, 0);
    MUST(reg(slot, R_STATUS) == 0, "a reset leaves a status");
}

static void set_address(unsigned slot, unsigned off, const volatile void *p)
{
    set_reg(slot, off, (uint32_t)(uintptr_t)p);
    set_reg(slot, off + 4, (uint32_t)((uintptr_t)p >> 32));
}

void set_queue(struct queue *q, unsigned size)
{
    q->size = size;
    q->avail.flags = q->avail.idx = q->avail.event = 0;
    q->used.flags = q->used.idx = q->used.event = 0;
    q->seen = 0;
    q->recycled = false;
    set_reg(q->slot, R_QUEUE_SEL, q->index);
    set_reg(q->slot, R_QUEUE_NUM, size);
    set_address(q->slot, R_DESC, q->desc);
    set_address(q->slot, R_AVAIL, &q->avail);
    set_address(q->slot, R_USED, &q->used);
    set_reg(q->slot, R_QUEUE_READY, 1);
}

void prepare(unsigned slot, uint64_t features)
{
    reset(slot);
    set_reg(slot, R_STATUS, ACK);
    set_reg(slot, R_STATUS, ACK | DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        set_reg(slot, R_ACCEPT_SEL, i);
        set_reg(slot, R_ACCEPT, (uint32_t)((features | F_VERSION1) >> (32 * i)));
    }
    set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK);
    MUST(reg(slot, R_STATUS) & FEATURES_OK, "features are refused");
    for (unsigned i = 0; i < nqueues[slot]; i++) {
        struct queue *q = &queues[slot][i];
        q->slot = slot;
        q->index = i;
        set_reg(slot, R_QUEUE_SEL, i);
        set_queue(q, reg(slot, R_QUEUE_MAX));
        MUST(reg(slot, R_QUEUE_READY) == 1, "a good queue is refused");
    }
}

void bring_up(unsigned slot, uint64_t features)
{
    prepare(slot, features);
    set_reg(slot, R_STATUS, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
}

void put_desc(struct queue *q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
              uint16_t next)
{
    q->desc[i] = (struct desc){addr, len, flags, next};
}

void publish(struct queue *q, uint16_t head)
{
    q->avail.ring[q->avail.idx % q->size] = head;
    fence();
    *(volatile uint16_t *)&q->avail.idx = (uint16_t)(q->avail.idx + 1);
    fence();
}

void notify(const struct queue *q)
{
    set_reg(q->slot, R_NOTIFY, q->index);
}

bool wait_used(struct queue *q, uint16_t idx)
{
    uint64_t end = now() + PATIENCE_S * ticks_per_s();
    for (;;) {
        fence();
        if (*(volatile uint16_t *)&q->used.idx == idx)
            return true;
        if (reg(q->slot, R_STATUS) & NEEDS_RESET)
            return *(volatile uint16_t *)&q->used.idx == idx;
        MUST(now() < end, "the device does not answer");
    }
}

void expect_broken(struct queue *q)
{
    uint64_t end = now() + PATIENCE_S * ticks_per_s();
    notify(q);
    while (!(reg(q->slot, R_STATUS) & NEEDS_RESET))
        MUST(now() < end, "the device takes what it must not");
}

void expect_refusal(struct queue *q)
{
    uint16_t want = q->avail.idx;
    notify(q);
    wait_used(q, want);
}

void blk_request(struct queue *q, uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
    uint32_t *head = (uint32_t *)(void *)page_a;
    head[0] = type;
    head[1] = 0;
    head[2] = (uint32_t)sector;
    head[3] = (uint32_t)(sector >> 32);
    page_a[64] = 0xff;
    put_desc(q, 0, (uintptr_t)page_a, 16, NEXT, 1);
    put_desc(q, 1, data, len, type == 0 || type == 8 ? NEXT | WRITE : NEXT, 2);
    put_desc(q, 2, (uintptr_t)page_a + 64, 1, WRITE, 0);
}

/* The device hands out what it owes before it takes more: its buffers go back at once. */
static void recycle(struct queue *rx)
{
    fence();
    while (rx->seen != *(volatile uint16_t *)&rx->used.idx) {
        publish(rx, (uint16_t)rx->used.ring[rx->seen++ % rx->size].id);
        notify(rx);
    }
}

bool vsock_send(struct queue *q, uint64_t src, uint64_t dst, uint32_t src_port,
                uint32_t dst_port, uint32_t len, uint16_t type, uint16_t op, uint32_t real_len)
{
    static unsigned slot;
    unsigned at = slot++ % 64;
    uint8_t *p = page_b + at * 512;
    uint64_t *cid = (uint64_t *)(void *)p;
    uint32_t *w = (uint32_t *)(void *)p;
    cid[0] = src;
    cid[1] = dst;
    w[4] = src_port;
    w[5] = dst_port;
    w[6] = len;
    w[7] = (uint32_t)op << 16 | type;
    w[8] = 0;
    w[9] = 65536;
    w[10] = 0;
    put_desc(q, at, (uintptr_t)p, real_len, 0, 0);
    publish(q, (uint16_t)at);
    notify(q);
    uint64_t end = now() + PATIENCE_S * ticks_per_s();
    while (*(volatile uint16_t *)&q->used.idx != q->avail.idx) {
        if (reg(q->slot, R_STATUS) & NEEDS_RESET)
            return false;
        MUST(now() < end, "the device does not answer");
        if (queues[VSOCK][0].recycled)
            recycle(&queues[VSOCK][0]);
    }
    return true;
}

static void disk_works(void)
{
    struct queue *q = &queues[DISK][0];
    for (unsigned i = 0; i < SECTOR; i++)
        page_b[i] = (uint8_t)(i * 3 + 1);
    blk_request(q, 1, 3, (uintptr_t)page_b, SECTOR);
    publish(q, 0);
    notify(q);
    MUST(wait_used(q, q->avail.idx) && page_a[64] == 0, "the disk does not write any more");
    for (unsigned i = 0; i < SECTOR; i++)
        page_b[i] = 0;
    blk_request(q, 0, 3, (uintptr_t)page_b, SECTOR);
    publish(q, 0);
    notify(q);
    MUST(wait_used(q, q->avail.idx) && page_a[64] == 0, "the disk does not read any more");
    for (unsigned i = 0; i < SECTOR; i++)
        MUST(page_b[i] == (uint8_t)(i * 3 + 1), "the disk has lost what it took");
}

static void rng_works(void)
{
    struct queue *q = &queues[RNG][0];
    put_desc(q, 0, (uintptr_t)page_b, 64, WRITE, 0);
    publish(q, 0);
    notify(q);
    MUST(wait_used(q, q->avail.idx) && q->used.ring[0].len == 64, "no more random bytes");
}

static void balloon_works(void)
{
    struct queue *q = &queues[BALLOON][0];
    *(uint32_t *)(void *)page_a = (uint32_t)((uintptr_t)page_b >> 12) + 4;
    page_b[4 * 4096] = 0x55;
    put_desc(q, 0, (uintptr_t)page_a, 4, 0, 0);
    publish(q, 0);
    notify(q);
    MUST(wait_used(q, q->avail.idx), "the balloon takes no page any more");
    fence();
    MUST(*(volatile uint8_t *)&page_b[4 * 4096] == 0,
         "a page in the balloon keeps its content");
}

/* A packet for a port without a connection is answered with a reset. */
static void vsock_works(void)
{
    struct queue *rx = &queues[VSOCK][0];
    put_desc(rx, 0, (uintptr_t)page_a, 4096, WRITE, 0);
    publish(rx, 0);
    notify(rx);
    MUST(vsock_send(&queues[VSOCK][1], 3, 2, 77, 88, 0, 1, 5, 44), "vsock sends no more");
    MUST(wait_used(rx, 1), "vsock receives no more");
    MUST(*(uint16_t *)(void *)(page_a + 30) == 3, "vsock does not refuse a dead connection");
}

static void net_works(void)
{
    struct queue *tx = &queues[NET][1];
    for (unsigned i = 0; i < 12; i++)
        page_a[i] = 0;
    for (unsigned i = 12; i < 76; i++)
        page_a[i] = i < 18 ? 0xff : (uint8_t)(i & 0xfe);
    put_desc(tx, 0, (uintptr_t)page_a, 76, 0, 0);
    publish(tx, 0);
    notify(tx);
    MUST(wait_used(tx, tx->avail.idx), "the network sends no more");
}

void works(unsigned slot)
{
    bring_up(slot, 0);
    switch (slot) {
    case DISK:
        disk_works();
        break;
    case NET:
        net_works();
        break;
    case VSOCK:
        vsock_works();
        break;
    case RNG:
        rng_works();
        break;
    default:
        balloon_works();
        break;
    }
}

void all_work(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        works(i);
}
