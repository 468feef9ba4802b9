// SPDX-License-Identifier: Apache-2.0
/* The entropy device and the balloon. */
#include "../tap.h"
#include "vmm_double.h"

#define REPORTING (1ull << 5)
#define FEATURES  (TEST_F_VERSION_1 | TEST_F_EVENT_IDX)

static struct test_vm t;

static bool send_buf(unsigned q, uint64_t gpa, uint32_t len, bool write, uint32_t *ret_len)
{
    uint32_t id;
    struct test_buf b = {gpa, len, write};
    tv_add(&t, q, &b, 1);
    tv_notify(&t, q);
    return tv_wait_used(&t, q, &id, ret_len);
}

TEST(rng)
{
    uint32_t len;
    tv_vm_init(&t);
    CHECK(tv_make(&t, &virtio_rng_ops, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, FEATURES, 1));
    CHECK(send_buf(0, TEST_BUFS, 64, true, &len) && len == 64);
    uint8_t zero[64] = {0}, first[64];
    memcpy(first, tv_at(&t, TEST_BUFS), 64);
    CHECK(memcmp(first, zero, 64) != 0);
    CHECK(send_buf(0, TEST_BUFS, 64, true, &len) &&
          memcmp(first, tv_at(&t, TEST_BUFS), 64) != 0);
    CHECK(send_buf(0, TEST_BUFS, 1 << 20, true, &len) && len == 4096); /* bounded */
    CHECK(send_buf(0, TEST_BUFS, 64, false, &len) && len == 0);        /* nothing to write to */
    /* Rate: 1 MiB at once, then 1 MiB a second. */
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned i = 0; i < 300; i++)
        CHECK(send_buf(0, TEST_BUFS, 4096, true, &len));
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 130);
    CHECK(tv_quiesce(&t));
    tv_vm_free(&t);
}

/* The same, but the device is not to answer. */
static bool ignored(unsigned q, uint64_t gpa, uint32_t len, bool write)
{
    uint32_t id, n;
    struct test_buf b = {gpa, len, write};
    tv_add(&t, q, &b, 1);
    tv_notify(&t, q);
    for (unsigned i = 0; i < 10; i++)
        tv_turn(&t, false);
    return !tv_used(&t, q, &id, &n);
}

static void balloon(void)
{
    tv_vm_init(&t);
    CHECK(tv_make(&t, &virtio_balloon_ops, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, FEATURES | REPORTING, 3));
    discarded_bytes = 0;
}

static void write_pfns(const uint32_t *pfns, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put_le32(tv_at(&t, TEST_BUFS) + 4 * i, pfns[i]);
}

TEST(inflate)
{
    const uint32_t first = (TEST_BUFS + (1u << 20)) >> 12;
    balloon();
    memset(tv_at(&t, TEST_BUFS + (1u << 20)), 0x77, 16 * 4096);
    /* Upwards, downwards, scattered. */
    const uint32_t pfns[] = {first, first + 1, first + 3, first + 2, first + 9};
    uint32_t len;
    write_pfns(pfns, 5);
    CHECK(send_buf(0, TEST_BUFS, 20, false, &len) && discarded_bytes == 5 * 4096);
    for (unsigned i = 0; i < 16; i++) {
        bool gone = i < 4 || i == 9;
        CHECK((*tv_at(&t, TEST_BUFS + (1u << 20) + i * 4096) == 0) == gone);
    }
    CHECK(send_buf(1, TEST_BUFS, 20, false, &len)); /* deflate */
    tv_vm_free(&t);

    static const uint32_t wrong[] = {
        0,          1,          (MEM_BASE >> 12) - 1,       UINT32_MAX,
        0x0a000000, 0x09000000, (MEM_BASE + TEST_RAM) >> 12};
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        balloon();
        write_pfns(&wrong[i], 1);
        CHECK(ignored(0, TEST_BUFS, 4, false) && discarded_bytes == 0);
        CHECK(tv_read(&t, T_STATUS) & 64);
        tv_vm_free(&t);
    }
    /* Not whole page numbers; too many at once; writable. */
    static const struct test_buf odd[] = {
        {TEST_BUFS, 3, false}, {TEST_BUFS, 4 * 4096 + 4, false}, {TEST_BUFS, 4, true}};
    for (unsigned i = 0; i < ARRAY_LEN(odd); i++) {
        balloon();
        CHECK(ignored(0, odd[i].gpa, odd[i].len, odd[i].write));
        CHECK(tv_read(&t, T_STATUS) & 64);
        tv_vm_free(&t);
    }
}

TEST(report)
{
    uint32_t len;
    struct ctl_stats s = {0};
    balloon();
    memset(tv_at(&t, TEST_BUFS), 0x77, 1 << 20);
    CHECK(send_buf(2, TEST_BUFS + 0x10000, 0x20000, true, &len));
    CHECK(discarded_bytes == 0x20000 && *tv_at(&t, TEST_BUFS + 0x10000) == 0);
    CHECK(*tv_at(&t, TEST_BUFS + 0xffff) == 0x77 && *tv_at(&t, TEST_BUFS + 0x30000) == 0x77);
    /* Parts of pages stay. */
    CHECK(send_buf(2, TEST_BUFS + 0x40010, 0x2000, true, &len) && discarded_bytes == 0x21000);
    CHECK(send_buf(2, TEST_BUFS + 0x50001, 4094, true, &len) && discarded_bytes == 0x21000);
    t.dev->ops->stats(t.dev, &s);
    CHECK(s.reported_bytes == 0x21000);
    CHECK(ignored(2, TEST_BUFS, 4096, false) && (tv_read(&t, T_STATUS) & 64));
    tv_vm_free(&t);
}

TEST(target)
{
    struct dstate_writer w;
    struct ctl_stats s = {0};
    balloon();
    uint32_t gen = tv_read(&t, 0xfc);
    CHECK(virtio_balloon_set_target(t.dev, TEST_RAM + 4096, NULL) == -EINVAL);
    CHECK(virtio_balloon_set_target(t.dev, 3u << 20, NULL) == 0);
    CHECK(tv_read(&t, 0xfc) == gen + 1 && tv_read(&t, 0x100) == 768 && tv_read(&t, 0x60) == 2);
    tv_write(&t, 0x104, 700); /* the guest tells what it gave */
    tv_write(&t, 0x100, 5);   /* and may not change what was asked */
    CHECK(tv_read(&t, 0x104) == 700 && tv_read(&t, 0x100) == 768);
    t.dev->ops->stats(t.dev, &s);
    CHECK(s.balloon_bytes == 700 * 4096);
    tv_write(&t, 0x104, UINT32_MAX);
    s.balloon_bytes = 0;
    t.dev->ops->stats(t.dev, &s);
    CHECK(s.balloon_bytes == TEST_RAM);
    CHECK(tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    tv_vm_free(&t);
    tv_vm_init(&t);
    CHECK(tv_make(&t, &virtio_balloon_ops, NULL) == 0);
    CHECK(tv_load(&t, w.b.data, w.b.len, NULL) == 0);
    CHECK(tv_read(&t, 0x100) == 768 && tv_read(&t, 0x104) == UINT32_MAX);
    tv_vm_free(&t);
    buf_free(&w.b);
}

int main(void)
{
    RUN(rng);
    RUN(inflate);
    RUN(report);
    RUN(target);
    return TAP_DONE();
}
