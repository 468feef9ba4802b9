// SPDX-License-Identifier: Apache-2.0
/* The virtio-mmio transport with a device that just holds on to what it gets. */
#include "../../hypervisor/virtio_mmio.h"

#include "../tap.h"
#include "vmm_double.h"

struct echo {
    struct virtio v;
    struct virtq_chain held;
    struct iovec iov[VIRTQ_CHAIN];
    bool holding;
    unsigned queued, stops, resets, activations;
};

static struct test_vm t;
static struct echo *dev;

static void echo_queue(struct virtio *v, unsigned i)
{
    struct echo *d = container_of(v, struct echo, v);
    d->queued++;
    if (!d->holding && virtio_pop(v, i, &d->held, d->iov, VIRTQ_CHAIN)) {
        d->holding = true;
        virtio_get(v);
    }
}

static void echo_release(struct echo *d)
{
    virtq_push(&d->v.vq[0], d->held.head, 1);
    virtio_signal(&d->v, 0);
    d->holding = false;
    virtio_put(&d->v);
}

static void echo_activate(struct virtio *v)
{
    container_of(v, struct echo, v)->activations++;
}

static void echo_stop(struct virtio *v)
{
    container_of(v, struct echo, v)->stops++;
}

static void echo_reset(struct virtio *v)
{
    container_of(v, struct echo, v)->resets++;
}

static bool echo_config(struct virtio *v, unsigned off, unsigned len, uint32_t val)
{
    memcpy(v->config + off, &val, len);
    return true;
}

static const struct virtio_ops echo_ops = {
    .dev = VIRTIO_DEV("echo", 0x4f484345, struct echo),
    .id = 42,
    .nqueues = 2,
    .ndoorbells = 2,
    .queue_size = {TEST_QSIZE, TEST_QSIZE},
    .config_len = 10,
    .features = 1,
    .activate = echo_activate,
    .queue = echo_queue,
    .stop = echo_stop,
    .reset = echo_reset,
    .config_write = echo_config,
};

#define FEATURES (TEST_F_VERSION_1 | 1)

static void make(void)
{
    tv_vm_init(&t);
    CHECK(tv_make(&t, &echo_ops, NULL) == 0);
    dev = container_of(t.dev, struct echo, v.dev);
}

static void begin(void)
{
    make();
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
}

static bool interrupted(void)
{
    bool r = interrupts > 0;
    interrupts = 0;
    return r;
}

static uint16_t offer(unsigned q)
{
    struct test_buf b = {TEST_BUFS, 64, true};
    return tv_add(&t, q, &b, 1);
}

TEST(identity)
{
    begin();
    CHECK(tv_read(&t, 0) == 0x74726976 && tv_read(&t, 4) == 2 && tv_read(&t, 8) == 42);
    CHECK(tv_read(&t, 0x34) == TEST_QSIZE);
    tv_write(&t, T_QUEUE_SEL, 2);
    CHECK(tv_read(&t, 0x34) == 0 && tv_read(&t, T_QUEUE_READY) == 0);
    tv_write(&t, T_QUEUE_SEL, UINT32_MAX);
    CHECK(tv_read(&t, 0x34) == 0);
    tv_write(&t, T_QUEUE_READY, 1);
    tv_write(&t, 0x14, 1);
    CHECK(tv_read(&t, 0x10) == 1); /* VERSION_1 */
    tv_write(&t, 0x14, 0);
    CHECK(tv_read(&t, 0x10) == (1 | 1u << 28 | 1u << 29));
    tv_write(&t, 0x14, 2);
    CHECK(tv_read(&t, 0x10) == 0);
    CHECK(tv_read(&t, 0xb0) == UINT32_MAX && tv_read(&t, 0xb4) == UINT32_MAX);
    tv_vm_free(&t);
}

TEST(widths)
{
    begin();
    uint64_t bad = t.bus.misses;
    static const struct {
        uint32_t off;
        unsigned len;
    } odd[] = {{0, 1},    {0, 2},    {0, 8},     {1, 4},     {2, 2},     {0x6e, 4},  {0x70, 8},
               {0xfe, 4}, {0x1c, 4}, {0x100, 8}, {0x107, 4}, {0x10a, 1}, {0x1fc, 4}, {0xff, 2}};
    for (unsigned i = 0; i < ARRAY_LEN(odd); i++) {
        CHECK(bus_read(&t.bus, MAP_VIRTIO + odd[i].off, odd[i].len) == 0);
        bus_write(&t.bus, MAP_VIRTIO + odd[i].off, odd[i].len, UINT64_MAX);
        bad += 2;
    }
    CHECK(t.bus.misses == bad);
    /* Read-only registers. */
    tv_write(&t, 0, 1);
    tv_write(&t, 0xfc, 1);
    CHECK(t.bus.misses == bad + 2 && tv_read(&t, 0xfc) == 0);
    tv_vm_free(&t);
}

TEST(config_space)
{
    begin();
    bus_write(&t.bus, MAP_VIRTIO + 0x100, 1, 0xab);
    bus_write(&t.bus, MAP_VIRTIO + 0x102, 2, 0x1234);
    bus_write(&t.bus, MAP_VIRTIO + 0x106, 4, 0x01020304);
    CHECK(bus_read(&t.bus, MAP_VIRTIO + 0x100, 4) == 0x123400ab);
    CHECK(bus_read(&t.bus, MAP_VIRTIO + 0x107, 1) == 3);
    uint32_t gen = tv_read(&t, 0xfc);
    uint8_t v = 9;
    virtio_set_config(&dev->v, 0, &v, 1);
    CHECK(tv_read(&t, 0xfc) == gen + 1 && !interrupted());
    tv_activate(&t, FEATURES, 2);
    virtio_set_config(&dev->v, 0, &v, 1);
    CHECK(interrupted() && tv_read(&t, 0x60) == 2);
    tv_write(&t, 0x64, 2);
    CHECK(tv_read(&t, 0x60) == 0);
    tv_vm_free(&t);
}

TEST(status_order)
{
    begin();
    tv_write(&t, T_STATUS, 4); /* no FEATURES_OK before it */
    CHECK(tv_read(&t, T_STATUS) == 0);
    tv_write(&t, T_STATUS, 8); /* no DRIVER before it */
    CHECK(tv_read(&t, T_STATUS) == 0);
    tv_write(&t, T_STATUS, 64 | 32 | 16); /* not the driver's to set */
    CHECK(tv_read(&t, T_STATUS) == 0);
    CHECK(!tv_negotiate(&t, 1)); /* without VERSION_1 */
    CHECK(!tv_negotiate(&t, FEATURES | 1ull << 40));
    CHECK(!tv_negotiate(&t, FEATURES | 2));
    CHECK(tv_negotiate(&t, FEATURES));
    /* Agreed: no second thoughts. */
    tv_write(&t, 0x24, 0);
    tv_write(&t, 0x20, UINT32_MAX);
    CHECK(dev->v.accepted == FEATURES);
    tv_write(&t, T_STATUS, 1); /* bits do not go away */
    CHECK(tv_read(&t, T_STATUS) == (1 | 2 | 8));
    tv_driver_ok(&t);
    CHECK(tv_read(&t, T_STATUS) == (1 | 2 | 4 | 8) && dev->activations == 1);
    tv_driver_ok(&t);
    CHECK(dev->activations == 1);
    tv_write(&t, T_STATUS, 128);
    CHECK(tv_read(&t, T_STATUS) == (128 | 1 | 2 | 4 | 8));
    tv_reset(&t);
    CHECK(tv_read(&t, T_STATUS) == 0 && dev->resets == 1);
    tv_write(&t, T_STATUS, 128);
    CHECK(!tv_negotiate(&t, FEATURES)); /* failed: only a reset helps */
    tv_vm_free(&t);
}

TEST(queue_checks)
{
    begin();
    tv_queue_write(&t, 0, TEST_QSIZE);
    CHECK(tv_read(&t, T_QUEUE_READY) == 0); /* features first */
    CHECK(tv_negotiate(&t, FEATURES));
    static const uint16_t sizes[] = {0, 3, 32, 0xffff};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        tv_queue_write(&t, 0, sizes[i]);
        CHECK(tv_read(&t, T_QUEUE_READY) == 0);
    }
    tv_queue_write(&t, 0, TEST_QSIZE);
    CHECK(tv_read(&t, T_QUEUE_READY) == 1);
    /* Ready: neither size nor addresses change any more. */
    struct virtio_regs before = dev->v.regs[0];
    tv_write(&t, T_QUEUE_NUM, 4);
    for (uint32_t r = 0x80; r <= 0xa4; r += 4)
        tv_write(&t, r, 0xdead);
    CHECK(memcmp(&before, &dev->v.regs[0], sizeof before) == 0);
    tv_write(&t, T_QUEUE_READY, 0);
    tv_write(&t, 0x84, 0xffffffff);
    tv_write(&t, T_QUEUE_READY, 1);
    CHECK(tv_read(&t, T_QUEUE_READY) == 0); /* outside RAM */
    tv_queue_write(&t, 0, TEST_QSIZE);
    tv_driver_ok(&t);
    /* Live: not even through READY 0. */
    tv_write(&t, T_QUEUE_READY, 0);
    CHECK(tv_read(&t, T_QUEUE_READY) == 1);
    tv_write(&t, T_QUEUE_NUM, 2);
    for (uint32_t r = 0x80; r <= 0xa4; r += 4)
        tv_write(&t, r, 0xffffffff);
    CHECK(memcmp(&before, &dev->v.regs[0], sizeof before) == 0);
    /* A queue that was not set up stays absent, also after DRIVER_OK. */
    tv_queue_write(&t, 1, TEST_QSIZE);
    CHECK(tv_read(&t, T_QUEUE_READY) == 0);
    tv_notify(&t, 1);
    CHECK(dev->queued == 1 && !dev->v.broken); /* 1: queue 0 at activation */
    tv_vm_free(&t);
}

TEST(notify)
{
    begin();
    tv_write(&t, T_NOTIFY, 0); /* before the driver is ready: ignored */
    tv_turn(&t, false);
    CHECK(dev->queued == 0);
    CHECK(tv_activate(&t, FEATURES, 2));
    unsigned n = dev->queued;
    uint16_t head = offer(0);
    tv_notify(&t, 0);
    CHECK(dev->queued == n + 1 && dev->holding);
    tv_write(&t, T_NOTIFY, 2);
    tv_write(&t, T_NOTIFY, UINT32_MAX);
    tv_turn(&t, false);
    CHECK(dev->queued == n + 1);
    echo_release(dev);
    uint32_t id, len;
    CHECK(tv_used(&t, 0, &id, &len) && id == head && len == 1);
    CHECK(interrupted() && tv_read(&t, 0x60) == 1);
    /* Not acknowledged: no second edge. */
    offer(0);
    tv_notify(&t, 0);
    echo_release(dev);
    CHECK(!interrupted());
    tv_write(&t, 0x64, 1);
    /* The doorbell's eventfd, again and again without being read. */
    for (unsigned i = 0; i < 3; i++) {
        uint64_t one = 1;
        offer(0);
        CHECK(write(dev->v.bells[0].fd, &one, 8) == 8);
        tv_turn(&t, true);
        CHECK(dev->holding);
        echo_release(dev);
    }
    tv_vm_free(&t);
}

TEST(reset_waits)
{
    begin();
    CHECK(tv_activate(&t, FEATURES, 2));
    offer(0);
    tv_notify(&t, 0);
    CHECK(dev->holding);
    struct test_reset r = {.t = &t};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, tv_reset_thread, &r) == 0);
    while (dev->stops == 0)
        tv_turn(&t, true);
    CHECK(!atomic_load(&r.done) && dev->resets == 0);
    offer(0); /* nothing more is taken */
    CHECK(!virtio_running(&dev->v));
    echo_release(dev);
    CHECK(dev->resets == 1);
    while (!atomic_load(&r.done))
        tv_turn(&t, true);
    pthread_join(thread, NULL);
    CHECK(tv_read(&t, T_STATUS) == 0 && tv_read(&t, T_QUEUE_READY) == 0);
    /* And all over again. */
    memset(t.q, 0, sizeof t.q);
    CHECK(tv_activate(&t, FEATURES, 2));
    offer(0);
    tv_notify(&t, 0);
    CHECK(dev->holding);
    echo_release(dev);
    tv_vm_free(&t);
}

TEST(broken)
{
    begin();
    CHECK(tv_activate(&t, FEATURES, 2));
    struct test_buf b = {0x1000, 64, true};
    tv_add(&t, 0, &b, 1);
    tv_notify(&t, 0);
    CHECK(dev->v.broken && !dev->holding && interrupted());
    CHECK(tv_read(&t, T_STATUS) & 64);
    CHECK(tv_read(&t, 0x60) == 2);
    unsigned n = dev->queued;
    tv_notify(&t, 0);
    tv_notify(&t, 1);
    CHECK(dev->queued == n); /* dead until the reset */
    tv_reset(&t);
    CHECK(!dev->v.broken && tv_activate(&t, FEATURES, 2));
    offer(1);
    tv_notify(&t, 1);
    CHECK(dev->holding);
    tv_vm_free(&t);
}

TEST(quiesce)
{
    begin();
    CHECK(tv_activate(&t, FEATURES, 2));
    offer(0);
    tv_notify(&t, 0);
    t.dev->ops->quiesce(t.dev);
    CHECK(!t.dev->quiet && dev->stops == 1);
    echo_release(dev);
    CHECK(t.dev->quiet);
    offer(0);
    tv_notify(&t, 0);
    CHECK(!dev->holding);
    t.dev->ops->resume(t.dev); /* the lost notification */
    CHECK(dev->holding);
    echo_release(dev);
    CHECK(tv_quiesce(&t)); /* idle: at once */
    tv_vm_free(&t);
}

/* A machine that is restored paused: nothing moves before it is resumed. */
TEST(start_paused)
{
    struct dstate_writer w;
    begin();
    CHECK(tv_activate(&t, FEATURES, 2));
    CHECK(tv_save(&t, &w, NULL) == -EBUSY);
    buf_free(&w.b);
    offer(0);
    struct test_vm old = t;
    CHECK(tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    for (unsigned again = 0; again < 2; again++) {
        make();
        memcpy(t.mem.host, old.mem.host, TEST_RAM);
        memcpy(t.q, old.q, sizeof t.q);
        CHECK(tv_load(&t, w.b.data, w.b.len, NULL) == 0);
        buf_free(&w.b);
        t.dev->ops->quiesce(t.dev);
        CHECK(t.dev->quiet && t.dev->ops->start(t.dev, NULL) == 0);
        tv_turn(&t, false);
        CHECK(!dev->holding && t.dev->quiet);
        CHECK(tv_save(&t, &w, NULL) == 0); /* and may be saved as it is */
        tv_vm_free(&old);
        old = t;
    }
    t.dev->ops->resume(t.dev);
    CHECK(dev->holding);
    buf_free(&w.b);
    tv_vm_free(&t);
}

TEST(save_load)
{
    struct dstate_writer w;
    begin();
    CHECK(tv_activate(&t, FEATURES, 2));
    for (unsigned i = 0; i < 3; i++) {
        offer(0);
        tv_notify(&t, 0);
        echo_release(dev);
    }
    offer(0); /* its doorbell is lost */
    struct test_vm old = t;
    CHECK(tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    struct virtio_regs regs = dev->v.regs[0];

    make();
    memcpy(t.mem.host, old.mem.host, TEST_RAM);
    struct err e = ERR_INIT;
    if (!CHECK(tv_load(&t, w.b.data, w.b.len, &e) == 0))
        printf("# %s\n", e.msg);
    memcpy(t.q, old.q, sizeof t.q);
    CHECK(!dev->holding);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    CHECK(dev->activations == 1 && dev->holding && interrupted()); /* isr was set */
    CHECK(tv_read(&t, T_STATUS) == 15 && tv_read(&t, 0x60) == 1);
    CHECK(dev->v.vq[0].next == 4 && dev->v.regs[0].c.desc == regs.c.desc);
    echo_release(dev);
    uint32_t id, len;
    for (unsigned i = 0; i < 4; i++)
        CHECK(tv_used(&t, 0, &id, &len));
    CHECK(!tv_used(&t, 0, &id, &len));
    tv_vm_free(&t);
    tv_vm_free(&old);
    buf_free(&w.b);
}

/* One field of a saved device replaced: what a driver may not do, a file may not either. */
static void forged(uint16_t field, size_t at, uint8_t byte, bool want_ok)
{
    struct dstate_writer w;
    struct err e = ERR_INIT;
    begin();
    CHECK(tv_activate(&t, FEATURES, 2) && tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    size_t pos = 12; /* the block's header */
    while (pos < w.b.len && get_le16(w.b.data + pos) != field)
        pos += 8 + get_le32(w.b.data + pos + 4);
    CHECK(pos < w.b.len);
    w.b.data[pos + 8 + at] = byte;
    tv_vm_free(&t);
    make();
    int r = tv_load(&t, w.b.data, w.b.len, &e);
    if (!CHECK((r == 0) == want_ok))
        printf("# field %u byte %zu = 0x%x: %d %s\n", field, at, byte, r, e.msg);
    if (r == 0) {
        CHECK(t.dev->ops->start(t.dev, NULL) == 0);
        tv_turn(&t, false);
    }
    tv_vm_free(&t);
    buf_free(&w.b);
}

TEST(forged_state)
{
    forged(1, 0, 15, true);
    forged(1, 0, 15 | 64, true); /* needs reset: may be saved, does nothing */
    forged(1, 0, 4, false);      /* DRIVER_OK alone */
    forged(1, 0, 15 | 16, false);
    forged(1, 1, 1, false);
    forged(2, 0, 2, false); /* feature not offered */
    forged(2, 4, 0, false); /* no VERSION_1 */
    forged(3, 0, 0xff, true);
    forged(7, 3, 0xff, true); /* selector: checked at each use */
    forged(8, 0, 3, false);   /* size no power of two */
    forged(8, 0, 32, false);
    forged(8, 2, 2, false);     /* ready: neither 0 nor 1 */
    forged(8, 15, 0xff, false); /* addresses */
    forged(8, 16, 1, false);
    forged(8, 31, 0x80, false);
    forged(9, 8, 8, false);
    forged(8, 4, 0x55, true); /* ring index: the rings then look overrun … */
}

/* … which breaks the queue when it is looked at, and only that. */
TEST(forged_index)
{
    struct dstate_writer w;
    begin();
    CHECK(tv_activate(&t, FEATURES, 2) && tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    tv_vm_free(&t);
    make();
    size_t pos = 12;
    while (get_le16(w.b.data + pos) != 8)
        pos += 8 + get_le32(w.b.data + pos + 4);
    put_le16(w.b.data + pos + 12, 0x1234);
    CHECK(tv_load(&t, w.b.data, w.b.len, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    CHECK(dev->v.broken && (tv_read(&t, T_STATUS) & 64));
    tv_vm_free(&t);
    buf_free(&w.b);
}

int main(void)
{
    RUN(identity);
    RUN(widths);
    RUN(config_space);
    RUN(status_order);
    RUN(queue_checks);
    RUN(notify);
    RUN(reset_waits);
    RUN(broken);
    RUN(quiesce);
    RUN(start_paused);
    RUN(save_load);
    RUN(forged_state);
    RUN(forged_index);
    return TAP_DONE();
}
