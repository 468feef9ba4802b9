// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile guest made of the fuzzer's bytes: register accesses of any width,
 * writes into RAM, well- and ill-formed descriptor chains, resets, pauses,
 * saves and forged device states. A target supplies the device with fuzz_make()
 * and what its outside does with fuzz_outside().
 */
#ifndef DORMOUSE_TESTS_VIRTIO_FUZZ_H
#define DORMOUSE_TESTS_VIRTIO_FUZZ_H

#define TEST_RAM (8u << 20)

#include "../../hypervisor/base/log.h"
#include "../unit/vmm_double.h"
#include "fake_ring.h"

/* Makes t->dev. */
static void fuzz_make(struct test_vm *t);
/* Something happens on the host's side: one byte says what. */
static void fuzz_outside(struct test_vm *t, uint8_t what);
static void fuzz_end(void);
#define FUZZ_FEATURES (TEST_F_VERSION_1 | TEST_F_EVENT_IDX | TEST_F_INDIRECT)

static struct test_vm fuzz_vm;
static uint8_t fuzz_mode; /* the input's first byte: 0xfe, 0xff a forged state, else bit 0
                             activates first */

static unsigned fuzz_waits;

/* A reset waits for the I/O thread: that is us. */
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
{
    (void)cond;
    if (++fuzz_waits == 100000)
        abort(); /* the reset never ends */
    pthread_mutex_unlock(lock);
    ring_turn(fuzz_vm.ring, true, NULL);
    pthread_mutex_lock(lock);
    return 0;
}

struct fuzz_in {
    const uint8_t *p;
    size_t left;
};

static uint8_t in8(struct fuzz_in *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}

static uint32_t in32(struct fuzz_in *in)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 8 | in8(in);
    return v;
}

/* Mostly inside RAM, sometimes just at its edges or far away. */
static uint64_t in_gpa(struct fuzz_in *in)
{
    uint8_t kind = in8(in);
    uint64_t v = in32(in);
    switch (kind % 8) {
    case 0:
        return MEM_BASE + TEST_RAM - v % 64;
    case 1:
        return v << 32 | v;
    case 2:
        return MAP_VIRTIO + v % 0x1000;
    default:
        return TEST_BUFS + v % 0x10000;
    }
}

static void fuzz_chain(struct test_vm *t, struct fuzz_in *in)
{
    unsigned q = in8(in) % TEST_QUEUES, n = 1 + in8(in) % 6;
    struct test_buf b[6];
    if (!t->q[q].desc)
        return;
    for (unsigned i = 0; i < n; i++) {
        uint8_t shape = in8(in);
        b[i] = (struct test_buf){in_gpa(in), shape & 0x40 ? in32(in) : (shape & 0x3f) * 16u,
                                 shape & 0x80};
        if (!(shape & 0x40) && (shape & 0x3f) < 8)
            b[i].len = 1u + (shape & 7) * 11u;
    }
    tv_add(t, q, b, n);
    if (in8(in) & 1)
        tv_write(t, T_NOTIFY, q);
}

static void fuzz_poke(struct test_vm *t, struct fuzz_in *in)
{
    uint64_t gpa = in_gpa(in);
    unsigned len = in8(in) % 64;
    uint8_t *p = mem_at(&t->mem, gpa, len ? len : 1);
    for (unsigned i = 0; i < len; i++) {
        uint8_t v = in8(in);
        if (p)
            p[i] = v;
    }
}

static void fuzz_pause(struct test_vm *t, bool move)
{
    struct dstate_writer w;
    struct err e = ERR_INIT;
    t->dev->ops->quiesce(t->dev);
    for (unsigned i = 0; !t->dev->quiet; i++) {
        if (i == 10000)
            abort(); /* never comes to rest */
        ring_turn(t->ring, true, NULL);
    }
    if (tv_save(t, &w, &e) == 0 && move) {
        /* What was saved by ourselves can be loaded. */
        t->dev->ops->free(t->dev);
        t->dev = NULL;
        ring_free(t->ring);
        memset(&t->bus, 0, sizeof t->bus);
        if (ring_open(&t->ring, 64, NULL) < 0)
            abort();
        ring_on_kick(t->ring, tv_kicked, t);
        fuzz_make(t);
        if (tv_load(t, w.b.data, w.b.len, &e) < 0) {
            fprintf(stderr, "%s\n", e.msg);
            abort();
        }
        t->dev->ops->start(t->dev, NULL);
    } else {
        t->dev->ops->resume(t->dev);
    }
    buf_free(&w.b);
}

static void fuzz_step(struct test_vm *t, struct fuzz_in *in)
{
    uint8_t op = in8(in);
    static const uint8_t widths[] = {1, 2, 4, 8};
    switch (op % 12) {
    case 0:
        tv_write(t, in8(in) * 4u, in32(in));
        break;
    case 1: {
        uint64_t at = MAP_VIRTIO + (in32(in) & 0xfff);
        unsigned len = widths[in8(in) % 4];
        bus_write(&t->bus, at, len, (uint64_t)in32(in) << 32 | in32(in));
        break;
    }
    case 2:
        bus_read(&t->bus, MAP_VIRTIO + (in32(in) & 0x1ff), widths[in8(in) % 4]);
        break;
    case 3:
        fuzz_poke(t, in);
        break;
    case 4:
    case 5:
        fuzz_chain(t, in);
        break;
    case 6:
        tv_write(t, T_NOTIFY, in8(in) % 4);
        break;
    case 7:
        fuzz_outside(t, in8(in));
        break;
    case 8:
        tv_write(t, T_STATUS, 0);
        memset(t->q, 0, sizeof t->q);
        tv_activate(t, FUZZ_FEATURES | in8(in), TEST_QUEUES);
        break;
    case 9:
        fuzz_pause(t, in8(in) & 1);
        break;
    case 10: { /* rings as they should not be */
        unsigned q = in8(in) % TEST_QUEUES, off = in8(in);
        if (t->q[q].desc)
            put_le16(tv_at(t, (op & 64 ? t->q[q].avail : t->q[q].desc) + off * 2u),
                     (uint16_t)in32(in));
        break;
    }
    default:
        ring_turn(t->ring, true, NULL);
        break;
    }
}

/* A saved state that somebody made up. */
static void fuzz_load(struct test_vm *t, struct fuzz_in *in)
{
    struct dstate_writer w;
    struct err e = ERR_INIT;
    memset(&w, 0, sizeof w);
    dw_begin(&w, t->dev->ops->tag, 1, 0);
    while (in->left > 0) {
        uint16_t field = in8(in);
        uint8_t len = in8(in), bytes[255];
        if (field >= 250)
            field = (uint16_t)(1024 + field - 250);
        for (unsigned i = 0; i < len; i++)
            bytes[i] = in8(in);
        dw_bytes(&w, field, bytes, len);
    }
    dw_end(&w);
    if (tv_load(t, w.b.data, w.b.len, &e) == 0) {
        t->dev->ops->start(t->dev, NULL);
        for (unsigned i = 0; i < 4; i++)
            ring_turn(t->ring, true, NULL);
        fuzz_pause(t, false);
    } else if (e.num == 0) {
        abort();
    }
    buf_free(&w.b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_in in = {data, len};
    struct test_vm *t = &fuzz_vm;
    log_setup(LOG_ERROR, "fuzz");
    fuzz_mode = in8(&in);
    fuzz_waits = 0;
    tv_vm_init(t);
    fuzz_make(t);
    if (fuzz_mode >= 0xfe) {
        fuzz_load(t, &in);
    } else {
        t->dev->ops->start(t->dev, NULL);
        if (fuzz_mode & 1)
            tv_activate(t, FUZZ_FEATURES, TEST_QUEUES);
        for (unsigned i = 0; in.left > 0 && i < 200; i++)
            fuzz_step(t, &in);
        for (unsigned i = 0; i < 4; i++)
            ring_turn(t->ring, true, NULL);
        fuzz_pause(t, false);
    }
    t->dev->ops->free(t->dev);
    t->dev = NULL;
    tv_vm_free(t);
    fuzz_end();
    return 0;
}

#endif
