// SPDX-License-Identifier: Apache-2.0
/*
 * What a virtio device needs of a machine, without KVM: guest RAM, a bus, a
 * ring, a count of interrupts, doorbells that are plain eventfds, and a small driver
 * that sets up queues and makes descriptor chains. For unit tests and fuzzing;
 * everything runs in one thread.
 */
#ifndef DORMOUSE_TESTS_VMM_DOUBLE_H
#define DORMOUSE_TESTS_VMM_DOUBLE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/virtio_mmio.h"
#include "../../snapshot/devstate.h"

#ifndef TEST_RAM
#define TEST_RAM (16u << 20)
#endif
#define TEST_QSIZE  16u
#define TEST_QUEUES 3u
#define TEST_BUFS   (MEM_BASE + (4u << 20)) /* free for a test's buffers */

/* ---- doubles ---- */

static unsigned interrupts; /* of all devices */

void dev_interrupt(const struct dev *d)
{
    (void)d;
    interrupts++;
}

int doorbell_open(int vm_fd, uint64_t gpa, uint32_t val, int *ret_fd, struct err *e)
{
    (void)vm_fd;
    (void)gpa;
    (void)val;
    (void)e;
    *ret_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *ret_fd < 0 ? -errno : 0;
}

static uint64_t discarded_bytes;

int mem_discard(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
    uint8_t *p = mem_at(m, gpa, len);
    if (!p || gpa % 4096 || len % 4096)
        return -EINVAL;
    memset(p, 0, len);
    discarded_bytes += len;
    return 0;
}

/* ---- the machine ---- */

struct test_queue {
    uint64_t desc, avail, used;
    uint16_t avail_idx, used_idx, next_desc;
};

struct test_vm {
    struct guest_mem mem;
    struct bus bus;
    struct ring *ring;
    struct dev *dev;
    struct ctl_machine m; /* what its order says */
    struct machine_fds fds;
    struct machine_hooks hooks;
    struct test_queue q[TEST_QUEUES];
    uint64_t features;
};

static void tv_kicked(void *ctx)
{
    struct test_vm *t = ctx;
    if (t->dev)
        t->dev->ops->kicked(t->dev);
}

static inline void tv_vm_init(struct test_vm *t)
{
    memset(t, 0, sizeof *t);
    memset(&t->fds, -1, sizeof t->fds);
    interrupts = 0;
    t->mem.size = TEST_RAM;
    t->mem.host =
        mmap(NULL, TEST_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->mem.host == MAP_FAILED || ring_open(&t->ring, 64, NULL) < 0)
        abort();
    ring_on_kick(t->ring, tv_kicked, t);
}

/* Makes the device, as t->m, t->fds and t->hooks say. */
static inline int tv_make(struct test_vm *t, const struct virtio_ops *ops, struct err *e)
{
    struct dev_order o = {.env = {.mem = &t->mem, .bus = &t->bus, .ring = t->ring, .vm_fd = -1},
                          .m = &t->m,
                          .fds = &t->fds,
                          .hooks = &t->hooks};
    return dev_make(&t->dev, &ops->dev, &o, e);
}

static inline void tv_vm_free(struct test_vm *t)
{
    if (t->dev)
        t->dev->ops->free(t->dev);
    ring_free(t->ring);
    munmap(t->mem.host, t->mem.size);
}

static inline void tv_turn(struct test_vm *t, bool wait)
{
    struct err e = ERR_INIT;
    if (ring_turn(t->ring, wait, &e) < 0) {
        fprintf(stderr, "ring: %s\n", e.msg);
        abort();
    }
}

/* ---- registers ---- */

enum {
    T_STATUS = 0x70,
    T_QUEUE_SEL = 0x30,
    T_QUEUE_NUM = 0x38,
    T_QUEUE_READY = 0x44,
    T_NOTIFY = 0x50,
};

static inline uint32_t tv_read(struct test_vm *t, uint32_t off)
{
    return (uint32_t)bus_read(&t->bus, MAP_VIRTIO + off, 4);
}

static inline void tv_write(struct test_vm *t, uint32_t off, uint32_t val)
{
    bus_write(&t->bus, MAP_VIRTIO + off, 4, val);
}

struct test_reset {
    struct test_vm *t;
    atomic_bool done;
};

static void *tv_reset_thread(void *arg)
{
    struct test_reset *r = arg;
    tv_write(r->t, T_STATUS, 0);
    atomic_store(&r->done, true);
    ring_kick(r->t->ring);
    return NULL;
}

/* A reset holds its writer until the I/O thread, here the caller, has let go. */
static inline void tv_reset(struct test_vm *t)
{
    struct test_reset r = {.t = t};
    pthread_t thread;
    if (pthread_create(&thread, NULL, tv_reset_thread, &r) != 0)
        abort();
    while (!atomic_load(&r.done))
        tv_turn(t, true);
    pthread_join(thread, NULL);
    memset(t->q, 0, sizeof t->q);
}

static inline void tv_queue_write(struct test_vm *t, unsigned i, uint16_t size)
{
    uint64_t base = MEM_BASE + 0x100000ull + i * 0x10000ull;
    t->q[i] = (struct test_queue){.desc = base, .avail = base + 0x4000, .used = base + 0x8000};
    memset(mem_at(&t->mem, base, 0x10000), 0, 0x10000);
    tv_write(t, T_QUEUE_SEL, i);
    tv_write(t, T_QUEUE_NUM, size);
    const uint64_t at[3] = {t->q[i].desc, t->q[i].avail, t->q[i].used};
    for (unsigned k = 0; k < 3; k++) {
        tv_write(t, 0x80 + 0x10 * k, (uint32_t)at[k]);
        tv_write(t, 0x84 + 0x10 * k, (uint32_t)(at[k] >> 32));
    }
    tv_write(t, T_QUEUE_READY, 1);
}

/* As a driver does it; false when the device does not agree. */
static inline bool tv_negotiate(struct test_vm *t, uint64_t features)
{
    t->features = features;
    tv_write(t, T_STATUS, 1);
    tv_write(t, T_STATUS, 1 | 2);
    for (uint32_t i = 0; i < 2; i++) {
        tv_write(t, 0x24, i);
        tv_write(t, 0x20, (uint32_t)(features >> (32 * i)));
    }
    tv_write(t, T_STATUS, 1 | 2 | 8);
    return tv_read(t, T_STATUS) & 8;
}

static inline void tv_driver_ok(struct test_vm *t)
{
    tv_write(t, T_STATUS, 1 | 2 | 8 | 4);
    tv_turn(t, false);
    tv_turn(t, false);
}

#define TEST_F_VERSION_1 (1ull << 32)
#define TEST_F_EVENT_IDX (1ull << 29)
#define TEST_F_INDIRECT  (1ull << 28)

static inline bool tv_activate(struct test_vm *t, uint64_t features, unsigned nqueues)
{
    if (!tv_negotiate(t, features))
        return false;
    for (unsigned i = 0; i < nqueues; i++)
        tv_queue_write(t, i, TEST_QSIZE);
    tv_driver_ok(t);
    return true;
}

/* ---- rings ---- */

struct test_buf {
    uint64_t gpa;
    uint32_t len;
    bool write; /* by the device */
};

static inline void tv_desc(struct test_vm *t, uint64_t table, unsigned i, uint64_t addr,
                           uint32_t len, uint16_t flags, uint16_t next)
{
    uint8_t *p = mem_at(&t->mem, table + 16ull * i, 16);
    put_le64(p, addr);
    put_le32(p + 8, len);
    put_le16(p + 12, flags);
    put_le16(p + 14, next);
}

static inline void tv_avail(struct test_vm *t, unsigned q, uint16_t head)
{
    uint8_t *a = mem_at(&t->mem, t->q[q].avail, 6 + 2 * TEST_QSIZE);
    put_le16(a + 4 + 2 * (t->q[q].avail_idx % TEST_QSIZE), head);
    t->q[q].avail_idx++;
    __atomic_store_n((uint16_t *)(void *)(a + 2), t->q[q].avail_idx, __ATOMIC_RELEASE);
}

/* Makes a chain available; returns its head. Descriptors are handed out round the table. */
static inline uint16_t tv_add(struct test_vm *t, unsigned q, const struct test_buf *b,
                              unsigned n)
{
    uint16_t head = t->q[q].next_desc;
    for (unsigned i = 0; i < n; i++) {
        uint16_t at = (uint16_t)((head + i) % TEST_QSIZE);
        uint16_t next = (uint16_t)((at + 1) % TEST_QSIZE);
        tv_desc(t, t->q[q].desc, at, b[i].gpa, b[i].len,
                (uint16_t)((i + 1 < n ? 1 : 0) | (b[i].write ? 2 : 0)), next);
    }
    t->q[q].next_desc = (uint16_t)((head + n) % TEST_QSIZE);
    tv_avail(t, q, head);
    return head;
}

/* The next used entry, if any. */
static inline bool tv_used(struct test_vm *t, unsigned q, uint32_t *id, uint32_t *len)
{
    const uint8_t *u = mem_at(&t->mem, t->q[q].used, 6 + 8 * TEST_QSIZE);
    if (__atomic_load_n((const uint16_t *)(const void *)(u + 2), __ATOMIC_ACQUIRE) ==
        t->q[q].used_idx)
        return false;
    const uint8_t *el = u + 4 + 8 * (t->q[q].used_idx % TEST_QSIZE);
    *id = get_le32(el);
    *len = get_le32(el + 4);
    t->q[q].used_idx++;
    return true;
}

static inline void tv_notify(struct test_vm *t, unsigned q)
{
    tv_write(t, T_NOTIFY, q);
    tv_turn(t, false);
}

/* Waits for a used entry; gives up after some turns that bring nothing. */
static inline bool tv_wait_used(struct test_vm *t, unsigned q, uint32_t *id, uint32_t *len)
{
    for (unsigned i = 0; i < 20000; i++) {
        if (tv_used(t, q, id, len))
            return true;
        tv_turn(t, false);
        if (i > 20)
            usleep(500);
    }
    return false;
}

static inline uint8_t *tv_at(struct test_vm *t, uint64_t gpa)
{
    return t->mem.host + (gpa - MEM_BASE);
}

/* Pauses the device; in-flight work is let finish. */
static inline bool tv_quiesce(struct test_vm *t)
{
    t->dev->ops->quiesce(t->dev);
    for (unsigned i = 0; i < 20000 && !t->dev->quiet; i++) {
        tv_turn(t, false);
        if (i > 20)
            usleep(500);
    }
    return t->dev->quiet;
}

/* Saves the device into w as the machine does. */
static inline int tv_save(struct test_vm *t, struct dstate_writer *w, struct err *e)
{
    memset(w, 0, sizeof *w);
    dw_begin(w, t->dev->ops->tag, 1, 0);
    int r = t->dev->ops->save(t->dev, w, e);
    dw_end(w);
    return r;
}

static inline int tv_load(struct test_vm *t, const void *blob, size_t len, struct err *e)
{
    struct dstate_reader r;
    int rc = dr_check(blob, len, e);
    if (rc == 0)
        rc = dr_find(blob, len, t->dev->ops->tag, 0, &r, e);
    return rc < 0 ? rc : t->dev->ops->load(t->dev, &r, e);
}

#endif
