// SPDX-License-Identifier: Apache-2.0
/* The split-ring walker against well-formed and hostile rings. */
#include "../../hypervisor/virtq.h"

#include <errno.h>
#include <stdlib.h>

#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#define RAM   (1u << 20)
#define SIZE  8u
#define DESC  (MEM_BASE + 0x1000)
#define AVAIL (MEM_BASE + 0x2000)
#define USED  (MEM_BASE + 0x3000)
#define TABLE (MEM_BASE + 0x4000)
#define DATA  (MEM_BASE + 0x10000)

static struct guest_mem mem;
static struct virtq q;
static struct virtq_chain c;
static struct iovec iov[VIRTQ_CHAIN];

static void setup(bool event_idx, uint16_t next)
{
    memset(mem.host, 0, RAM);
    struct virtq_conf conf = {.size = SIZE,
                              .next = next,
                              .desc = DESC,
                              .avail = AVAIL,
                              .used = USED,
                              .event_idx = event_idx,
                              .indirect = true};
    CHECK(virtq_init(&q, &mem, &conf) == 0);
}

static void desc(uint64_t table, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
                 uint16_t next)
{
    uint8_t *p = mem_at(&mem, table + 16ull * i, 16);
    put_le64(p, addr);
    put_le32(p + 8, len);
    put_le16(p + 12, flags);
    put_le16(p + 14, next);
}

static uint8_t *at(uint64_t gpa)
{
    return mem.host + (gpa - MEM_BASE);
}

/* Makes `head` available as the only new entry. */
static void offer(uint16_t head)
{
    put_le16(at(AVAIL) + 4 + 2 * (q.next % SIZE), head);
    put_le16(at(AVAIL) + 2, (uint16_t)(q.next + 1));
}

static int pop(void)
{
    return virtq_pop(&q, &c, iov, VIRTQ_CHAIN);
}

/* A chain of one descriptor is refused with `want`. */
static void refused(uint64_t addr, uint32_t len, uint16_t flags, int want)
{
    setup(false, 0);
    desc(DESC, 0, addr, len, flags, 0);
    offer(0);
    CHECK(pop() == want);
    CHECK(q.next == 0);
}

TEST(conf)
{
    struct virtq_conf good = {.size = SIZE, .desc = DESC, .avail = AVAIL, .used = USED}, x;
    struct virtq v;
    CHECK(virtq_init(&v, &mem, &good) == 0);
    static const uint16_t sizes[] = {0, 3, 7, 512, 0x8000, 0xffff};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        x = good;
        x.size = sizes[i];
        CHECK(virtq_init(&v, &mem, &x) == -EINVAL);
    }
    static const uint64_t bad[] = {0,        MEM_BASE - 0x1000, MEM_BASE + RAM,
                                   DESC + 1, UINT64_MAX - 15,   UINT64_MAX & ~15ull};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        x = good;
        x.desc = bad[i];
        CHECK(virtq_init(&v, &mem, &x) == -EINVAL);
        x = good;
        x.avail = bad[i];
        CHECK(virtq_init(&v, &mem, &x) == -EINVAL);
        x = good;
        x.used = bad[i];
        CHECK(virtq_init(&v, &mem, &x) == -EINVAL);
    }
    /* The event words behind the rings have to be inside as well. */
    x = good;
    x.avail = MEM_BASE + RAM - 4 - 2 * SIZE;
    CHECK(virtq_init(&v, &mem, &x) == -EINVAL);
    x.avail -= 2;
    CHECK(virtq_init(&v, &mem, &x) == 0);
    x = good;
    x.used = MEM_BASE + RAM - 4 - 8 * SIZE;
    CHECK(virtq_init(&v, &mem, &x) == -EINVAL);
    x.used -= 4;
    CHECK(virtq_init(&v, &mem, &x) == 0);
}

TEST(chain)
{
    setup(false, 0);
    CHECK(pop() == 0);
    desc(DESC, 3, DATA, 16, 1, 5);
    desc(DESC, 5, DATA + 0x100, 32, 1 | 2, 1);
    desc(DESC, 1, DATA + 0x200, 1, 2, 0);
    offer(3);
    CHECK(pop() == 1);
    CHECK(c.head == 3 && c.n_out == 1 && c.n_in == 2 && c.out_len == 16 && c.in_len == 33);
    CHECK(iov[0].iov_base == at(DATA) && iov[2].iov_base == at(DATA + 0x200));
    CHECK(pop() == 0);
    virtq_unpop(&q, 1);
    CHECK(pop() == 1 && c.head == 3);
    virtq_push(&q, 3, 33);
    CHECK(get_le16(at(USED) + 2) == 0);
    CHECK(virtq_signal(&q));
    CHECK(get_le16(at(USED) + 2) == 1 && get_le32(at(USED) + 4) == 3 &&
          get_le32(at(USED) + 8) == 33);
    CHECK(!virtq_signal(&q));
}

TEST(indirect)
{
    setup(false, 0);
    desc(DESC, 0, TABLE, 48, 4, 0);
    desc(TABLE, 0, DATA, 16, 1, 2);
    desc(TABLE, 2, DATA + 64, 8, 2, 0);
    offer(0);
    CHECK(pop() == 1 && c.n_out == 1 && c.n_in == 1 && c.in_len == 8);
    /* Direct descriptors may come before the table. */
    setup(false, 0);
    desc(DESC, 0, DATA, 4, 1, 1);
    desc(DESC, 1, TABLE, 16, 4, 0);
    desc(TABLE, 0, DATA + 64, 8, 2, 0);
    offer(0);
    CHECK(pop() == 1 && c.out_len == 4 && c.in_len == 8);
    /* Inside another, with NEXT, of odd length, empty, out of RAM, not negotiated. */
    setup(false, 0);
    desc(DESC, 0, TABLE, 32, 4, 0);
    desc(TABLE, 0, TABLE, 32, 4, 0);
    offer(0);
    CHECK(pop() == -EINVAL);
    refused(TABLE, 32, 4 | 1, -EINVAL);
    refused(TABLE, 24, 4, -EINVAL);
    refused(TABLE, 0, 4, -EINVAL);
    refused(MEM_BASE + RAM - 16, 32, 4, -EFAULT);
    refused(UINT64_MAX - 15, 32, 4, -EFAULT);
    setup(false, 0);
    q.indirect = false;
    desc(DESC, 0, TABLE, 16, 4, 0);
    desc(TABLE, 0, DATA, 8, 0, 0);
    offer(0);
    CHECK(pop() == -EINVAL);
    /* A loop inside the table, and a next beyond it. */
    setup(false, 0);
    desc(DESC, 0, TABLE, 32, 4, 0);
    desc(TABLE, 0, DATA, 8, 1, 1);
    desc(TABLE, 1, DATA, 8, 1, 0);
    offer(0);
    CHECK(pop() == -ELOOP);
    desc(TABLE, 1, DATA, 8, 1, 2);
    CHECK(pop() == -EBADMSG);
}

TEST(hostile)
{
    refused(DATA, 0, 0, -EINVAL);
    refused(0, 8, 0, -EFAULT);
    refused(0x0a000000, 8, 2, -EFAULT); /* a device's registers */
    refused(MEM_BASE - 4, 8, 0, -EFAULT);
    refused(MEM_BASE + RAM - 4, 8, 0, -EFAULT);
    refused(MEM_BASE, UINT32_MAX, 0, -EFAULT);
    refused(UINT64_MAX - 3, 8, 0, -EFAULT);
    refused(DATA, 8, 1, -ELOOP); /* next is itself */

    setup(false, 0);
    offer(SIZE);
    CHECK(pop() == -EBADMSG);
    offer(0xffff);
    CHECK(pop() == -EBADMSG);
    desc(DESC, 0, DATA, 8, 1, SIZE);
    offer(0);
    CHECK(pop() == -EBADMSG);
    /* What the device reads comes before what it writes. */
    desc(DESC, 0, DATA, 8, 1 | 2, 1);
    desc(DESC, 1, DATA, 8, 0, 0);
    CHECK(pop() == -EINVAL);
    /* More entries than the ring has. */
    setup(false, 0);
    put_le16(at(AVAIL) + 2, SIZE + 1);
    CHECK(pop() == -EBADMSG);
    put_le16(at(AVAIL) + 2, 0xffff);
    CHECK(pop() == -EBADMSG);
    /* More buffers than we take; more bytes than a chain may have. */
    setup(false, 0);
    desc(DESC, 0, DATA, 1, 1, 1);
    desc(DESC, 1, DATA, 1, 1, 2);
    desc(DESC, 2, DATA, 1, 0, 0);
    offer(0);
    CHECK(virtq_pop(&q, &c, iov, 2) == -E2BIG);
    CHECK(virtq_pop(&q, &c, iov, 3) == 1);
}

TEST(wrap)
{
    setup(false, 0xfffd);
    desc(DESC, 2, DATA, 8, 2, 0);
    for (unsigned i = 0; i < 10; i++) {
        offer(2);
        CHECK(pop() == 1 && c.head == 2);
        virtq_push(&q, c.head, 8);
        CHECK(virtq_signal(&q));
    }
    CHECK(q.next == 7 && get_le16(at(USED) + 2) == 7);
}

TEST(suppression)
{
    setup(false, 0);
    desc(DESC, 0, DATA, 8, 2, 0);
    put_le16(at(AVAIL), 1); /* no interrupts, please */
    offer(0);
    CHECK(pop() == 1);
    virtq_push(&q, 0, 8);
    CHECK(!virtq_signal(&q));
    virtq_disable_notify(&q);
    CHECK(get_le16(at(USED)) == 1);
    CHECK(!virtq_enable_notify(&q));
    CHECK(get_le16(at(USED)) == 0);
    offer(0);
    CHECK(virtq_enable_notify(&q));

    setup(true, 0);
    desc(DESC, 0, DATA, 8, 2, 0);
    for (unsigned i = 0; i < 6; i++) {
        put_le16(at(AVAIL) + 4 + 2 * SIZE, 3); /* used_event: after the fourth */
        offer(0);
        CHECK(pop() == 1);
        virtq_push(&q, 0, 8);
        /* The first is always told: what the guest knew before is not known. */
        CHECK(virtq_signal(&q) == (i == 0 || i == 3));
    }
    CHECK(!virtq_enable_notify(&q));
    CHECK(get_le16(at(USED) + 4 + 8 * SIZE) == 6); /* avail_event */
}

TEST(iov)
{
    char a[4] = "abc", b[5] = "defg", out[16] = {0};
    struct iovec v[3] = {{a, 3}, {NULL, 0}, {b, 4}};
    CHECK(iov_read(v, 3, 2, out, 3) == 3 && memcmp(out, "cde", 3) == 0);
    CHECK(iov_read(v, 3, 5, out, 10) == 2 && memcmp(out, "fg", 2) == 0);
    CHECK(iov_read(v, 3, 7, out, 1) == 0 && iov_read(v, 3, SIZE_MAX, out, 1) == 0);
    CHECK(iov_write(v, 3, 1, "XYZ", 3) == 3 && memcmp(a, "aXY", 3) == 0 && b[0] == 'Z');
    CHECK(iov_skip(v, 3, 4) == 2 && v[2].iov_base == b + 1 && v[2].iov_len == 3);
    CHECK(iov_skip(v, 3, 3) == 3);
}

int main(void)
{
    mem.size = RAM;
    mem.host = aligned_alloc(4096, RAM);
    if (!mem.host)
        return 1;
    RUN(conf);
    RUN(chain);
    RUN(indirect);
    RUN(hostile);
    RUN(wrap);
    RUN(suppression);
    RUN(iov);
    free(mem.host);
    return TAP_DONE();
}
