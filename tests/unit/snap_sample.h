// SPDX-License-Identifier: Apache-2.0
/*
 * A small machine's snapshots, made by the real writer from synthetic state:
 * an image and a session over it, with every kind of device block in them. For
 * tests of readers and tools; nothing here needs KVM.
 */
#ifndef DORMOUSE_TESTS_SNAP_SAMPLE_H
#define DORMOUSE_TESTS_SNAP_SAMPLE_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/num.h"
#include "../../snapshot/devstate.h"
#include "../../snapshot/snapfile.h"
#include "../../snapshot/snapstate.h"

#define SAMPLE_MEM   (4ull << 20)
#define SAMPLE_PAGES (SAMPLE_MEM / SNAP_PAGE)
#define SAMPLE_BASE  0x40000000ull
#define SAMPLE_HOST  ((struct snap_host){.gic = 3, .midr = 0x413fd0c1, .cntfrq = 62500000})

/* A generator of our own: the same sequence with every C library. */
struct sample_rng {
    uint64_t s;
};
static inline uint64_t sample_random(struct sample_rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static inline void sample_fill(uint8_t *mem, uint64_t page, uint64_t seed)
{
    struct sample_rng r = {seed * 1000003 + page};
    for (unsigned i = 0; i < SNAP_PAGE; i += 8)
        put_le64(mem + page * SNAP_PAGE + i, sample_random(&r));
}

static inline void sample_mark(uint64_t *bitmap, uint64_t page)
{
    bitmap[page / 64] |= 1ull << page % 64;
}

static inline void sample_vcpu(struct dstate_writer *w, uint16_t n)
{
    uint8_t list[64 * 16 + 24], *p = list;
    dw_begin(w, SNAP_TAG_VCPU, 1, n);
    for (unsigned i = 0; i < 34; i++, p += 16) { /* X0… and on, 8 bytes each */
        put_le64(p, 0x6030000000100000ull + 2ull * i);
        put_le64(p + 8, 0xffff800080000000ull + i * 16u + n);
    }
    for (unsigned i = 0; i < 8; i++, p += 16) {
        put_le64(p, 0x603000000013c080ull + i);
        put_le64(p + 8, i);
    }
    put_le64(p, 0x6040000000100054ull); /* V0, 16 bytes */
    memset(p + 8, 0x5a, 16);
    p += 24;
    dw_bytes(w, SNAP_VCPU_REGS, list, (size_t)(p - list));
    dw_u32(w, SNAP_VCPU_MP_STATE, n ? 5 : 0);
    dw_u32(w, SNAP_VCPU_SERROR, 0);
    dw_u64(w, SNAP_VCPU_SERROR_ESR, 0);
    dw_end(w);
}

static inline void sample_gic(struct dstate_writer *w)
{
    static const uint32_t groups[] = {1, 5, 6};
    uint8_t words[24 * SNAP_GIC_WORD];
    for (unsigned i = 0; i < 24; i++) {
        uint8_t *p = words + i * SNAP_GIC_WORD;
        put_le32(p, groups[i % 3]);
        put_le32(p + 4, i & 1);
        put_le32(p + 8, 0x80u + 4 * i);
        put_le64(p + 12, i * 0x01010101ull);
    }
    dw_begin(w, SNAP_TAG_GIC, 1, 0);
    dw_bytes(w, SNAP_GIC_WORDS, words, sizeof words);
    dw_end(w);
}

static inline void sample_virtio(struct dstate_writer *w, uint32_t tag, unsigned queues)
{
    dw_begin(w, tag, 1, 0);
    dw_u32(w, 1, 15);
    dw_u64(w, 2, 1ull << 32 | 1ull << 29);
    for (uint16_t f = 3; f < 8; f++)
        dw_u32(w, f, 0);
    for (unsigned q = 0; q < queues; q++) {
        uint8_t raw[32] = {0};
        put_le16(raw, 16);
        put_le16(raw + 2, 1);
        put_le16(raw + 4, (uint16_t)(3 + q));
        for (unsigned i = 0; i < 3; i++)
            put_le64(raw + 8 + 8 * i, SAMPLE_BASE + 0x100000 + q * 0x10000 + i * 0x4000);
        dw_bytes(w, (uint16_t)(8 + q), raw, sizeof raw);
    }
    dw_end(w);
}

static inline struct dstate_writer sample_state(uint64_t counter)
{
    static const uint32_t tags[] = {SNAP_TAG_UART, SNAP_TAG('V', 'B', 'L', 'K'),
                                    SNAP_TAG('V', 'N', 'E', 'T'), SNAP_TAG('V', 'S', 'O', 'K'),
                                    SNAP_TAG('V', 'R', 'N', 'G')};
    static const unsigned queues[] = {0, 1, 2, 3, 1};
    struct dstate_writer w;
    uint8_t list[5 * 8];
    memset(&w, 0, sizeof w);
    dw_begin(&w, SNAP_TAG_MACHINE, 1, 0);
    dw_u64(&w, SNAP_MACHINE_COUNTER, counter);
    for (unsigned i = 0; i < 5; i++) {
        put_le32(list + 8 * i, tags[i]);
        put_le32(list + 8 * i + 4, 0);
    }
    dw_bytes(&w, SNAP_MACHINE_DEVS, list, sizeof list);
    dw_end(&w);
    sample_vcpu(&w, 0);
    sample_vcpu(&w, 1);
    sample_gic(&w);
    dw_begin(&w, SNAP_TAG_UART, 1, 0);
    for (uint16_t f = 1; f <= 6; f++)
        dw_u32(&w, f, f);
    dw_end(&w);
    for (unsigned i = 1; i < 5; i++)
        sample_virtio(&w, tags[i], queues[i]);
    return w;
}

static inline struct snap_info sample_info(uint32_t flags)
{
    struct snap_info info;
    memset(&info, 0, sizeof info);
    info.flags = flags;
    memset(info.id, flags ? 0x11 : 0x22, SNAP_ID);
    if (!flags)
        memset(info.parent, 0x11, SNAP_ID);
    info.mem_base = SAMPLE_BASE;
    info.mem_bytes = SAMPLE_MEM;
    info.vcpus = 2;
    info.gic = SAMPLE_HOST.gic;
    info.midr = SAMPLE_HOST.midr;
    info.cntfrq = SAMPLE_HOST.cntfrq;
    info.fingerprint = 0x1234;
    return info;
}

struct sample {
    uint8_t *base, *mem;           /* the image's memory, and the session's */
    uint64_t *stored, *candidates; /* of the image; touched by the session */
};

static inline void sample_free(struct sample *s)
{
    free(s->base);
    free(s->mem);
    free(s->stored);
    free(s->candidates);
}

/* The image: pages 1–3, 40–360 and 700 have content; 5 was touched and is zero. */
static inline int sample_image(struct sample *s, int fd)
{
    struct dstate_writer w = sample_state(77);
    struct snap_info info = sample_info(SNAP_FULL);
    struct snap_result result;
    s->base = calloc(1, SAMPLE_MEM);
    s->mem = malloc(SAMPLE_MEM);
    s->stored = snap_bitmap_new(SAMPLE_MEM);
    s->candidates = snap_bitmap_new(SAMPLE_MEM);
    for (uint64_t p = 1; p <= 700; p++) {
        if (p > 3 && p < 700 && (p < 40 || p > 360))
            continue;
        sample_fill(s->base, p, 1);
        sample_mark(s->stored, p);
    }
    sample_mark(s->stored, 5);
    struct snap_source src = {.mem = s->base, .candidates = s->stored};
    int r = snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL);
    s->stored[0] &= ~(1ull << 5);
    memcpy(s->mem, s->base, SAMPLE_MEM);
    buf_free(&w.b);
    return r;
}

/* The session: 2, 50–52 and 900 changed or new, 3 and 700 now zero, 1 and 60 the same. */
static inline int sample_session_as(struct sample *s, int fd, bool deltas)
{
    struct dstate_writer w = sample_state(99);
    struct snap_info info = sample_info(0);
    struct snap_result result;
    static const uint16_t changed[] = {2, 50, 51, 52, 900}, zero[] = {3, 700}, same[] = {1, 60};
    for (unsigned i = 0; i < 5; i++) {
        sample_fill(s->mem, changed[i], 2);
        sample_mark(s->candidates, changed[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        memset(s->mem + zero[i] * SNAP_PAGE, 0, SNAP_PAGE);
        sample_mark(s->candidates, zero[i]);
        sample_mark(s->candidates, same[i]);
    }
    struct snap_source src = {.mem = s->mem,
                              .candidates = s->candidates,
                              .base = s->base,
                              .base_stored = s->stored,
                              .deltas = deltas};
    int r = snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL);
    buf_free(&w.b);
    return r;
}

static inline int sample_session(struct sample *s, int fd)
{
    return sample_session_as(s, fd, false);
}

static inline int sample_memfd(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

#endif
