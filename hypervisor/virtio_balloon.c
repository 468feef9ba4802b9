// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-balloon with free-page reporting. Ballooned and reported pages leave
 * the host at once through mem_discard(); what they hold afterwards is
 * undefined for the guest (page poisoning is not offered), so they do not
 * count as dirty either. Page numbers outside RAM are a driver error.
 */
#include <errno.h>
#include <unistd.h>

#include "../snapshot/devstate.h"
#include "base/mem.h"
#include "virtio_mmio.h"

enum { INFLATE, DEFLATE, REPORT /* 2: the queues between belong to features not offered */ };
enum { F_DEFLATE_ON_OOM = 2, F_REPORTING = 5 };

#define PAGE_BITS  12u /* of the interface, whatever the host's page size */
#define PFNS_MAX   4096u
#define BATCH      32u
#define CFG_TARGET 0u
#define CFG_ACTUAL 4u

struct balloon {
    struct virtio v;
    uint64_t host_page;
    uint64_t reported;
    struct iovec iov[VIRTQ_CHAIN];
};

/* Gives back the whole host pages in a range of RAM. */
static uint64_t discard(struct balloon *b, uint64_t gpa, uint64_t len)
{
    uint64_t from = align_up(gpa, b->host_page), to = align_down(gpa + len, b->host_page);
    if (from >= to || mem_discard(b->v.dev.env.mem, from, to - from) < 0)
        return 0;
    return to - from;
}

/* Neighbouring page numbers, up- or downwards, go in one call. */
static bool inflate(struct balloon *b, const struct virtq_chain *c)
{
    uint64_t from = 0, to = 0;
    if (c->n_in || c->out_len % 4 || c->out_len > 4 * PFNS_MAX)
        return false;
    for (uint32_t off = 0; off < c->out_len; off += 4) {
        uint8_t le[4];
        iov_read(b->iov, c->n_out, off, le, sizeof le);
        uint64_t gpa = (uint64_t)get_le32(le) << PAGE_BITS, end = gpa + (1u << PAGE_BITS);
        if (!mem_at(b->v.dev.env.mem, gpa, 1u << PAGE_BITS))
            return false;
        if (gpa == to) {
            to = end;
        } else if (end == from) {
            from = gpa;
        } else {
            if (from < to)
                discard(b, from, to - from);
            from = gpa;
            to = end;
        }
    }
    if (from < to)
        discard(b, from, to - from);
    return true;
}

static bool report(struct balloon *b, const struct virtq_chain *c)
{
    if (c->n_out)
        return false;
    for (unsigned i = 0; i < c->n_in; i++) {
        uint8_t *p = b->iov[i].iov_base;
        uint64_t gpa = MEM_BASE + (uint64_t)(p - b->v.dev.env.mem->host);
        b->reported += discard(b, gpa, b->iov[i].iov_len);
    }
    return true;
}

static void queue(struct virtio *v, unsigned q)
{
    struct balloon *b = container_of(v, struct balloon, v);
    struct virtq_chain c;
    if (!virtio_begin(v, q))
        return;
    for (unsigned n = 0; virtio_pop(v, q, &c, b->iov, VIRTQ_CHAIN); n++) {
        /* Deflated pages come back by being touched. */
        if ((q == INFLATE && !inflate(b, &c)) || (q == REPORT && !report(b, &c))) {
            virtio_break(v, "gave back memory it does not have");
            break;
        }
        virtq_push(&v->vq[q], c.head, 0);
        /* Every page may be a system call of its own. */
        n += c.out_len / 512;
        if (virtio_enough(v, n, BATCH))
            break;
    }
    virtio_signal(v, q);
}

static bool config_write(struct virtio *v, unsigned off, unsigned len, uint32_t val)
{
    if (off != CFG_ACTUAL || len != 4)
        return false;
    put_le32(v->config + CFG_ACTUAL, val);
    return true;
}

int virtio_balloon_set_target(struct dev *d, uint64_t bytes, struct err *e)
{
    struct balloon *b = container_of(d, struct balloon, v.dev);
    uint8_t pages[4];
    if (bytes > d->env.mem->size)
        return err_set(e, EINVAL, "a balloon of %llu bytes in a machine of %llu",
                       (unsigned long long)bytes, (unsigned long long)d->env.mem->size);
    put_le32(pages, (uint32_t)(bytes >> PAGE_BITS));
    virtio_set_config(&b->v, CFG_TARGET, pages, sizeof pages);
    return 0;
}

static void stats(const struct dev *d, struct ctl_stats *s)
{
    struct balloon *b = container_of((struct dev *)(uintptr_t)d, struct balloon, v.dev);
    pthread_mutex_lock(&b->v.lock);
    uint64_t actual = (uint64_t)get_le32(b->v.config + CFG_ACTUAL) << PAGE_BITS;
    pthread_mutex_unlock(&b->v.lock);
    /* The guest's word. */
    s->balloon_bytes += MIN(actual, d->env.mem->size);
    s->reported_bytes += b->reported;
}

/* Configuration space is little-endian, like this machine. */
static const struct dstate_field fields[] = {
    {.id = VIRTIO_DSTATE_OWN, .size = 4, .at = offsetof(struct virtio, config) + CFG_TARGET},
    {.id = VIRTIO_DSTATE_OWN + 1,
     .size = 4,
     .at = offsetof(struct virtio, config) + CFG_ACTUAL},
};

static int load(struct virtio *v, struct dstate_reader *r, struct err *e)
{
    (void)r;
    if (get_le32(v->config + CFG_TARGET) > v->dev.env.mem->size >> PAGE_BITS)
        return err_set(e, EBADMSG, "the saved balloon is larger than the machine");
    return 0;
}

static int make(struct virtio *v, struct dev_order *o, struct err *e)
{
    (void)o;
    (void)e;
    container_of(v, struct balloon, v)->host_page = (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

const struct virtio_ops virtio_balloon_ops = {
    .dev =
        VIRTIO_DEV("virtio-balloon", 0x4c4c4256 /* "VBLL" */, struct balloon, .stats = stats),
    .id = 5,
    .nqueues = 3,
    .queue_size = {64, 64, 64},
    .config_len = 8,
    .features = VIRTIO_F(F_DEFLATE_ON_OOM) | VIRTIO_F(F_REPORTING),
    .make = make,
    .queue = queue,
    .config_write = config_write,
    .fields = fields,
    .nfields = ARRAY_LEN(fields),
    .load = load,
};
