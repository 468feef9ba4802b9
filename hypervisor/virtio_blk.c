// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk: takes requests from the queue, checks them, and holds back what
 * has to wait for a rate limit or for another write. The rest is
 * snapshot/disk.c. I/O thread only.
 */
#include <errno.h>
#include <string.h>

#include "../snapshot/disk.h"
#include "base/bucket.h"
#include "base/mem.h"
#include "virtio_mmio.h"

#define REQS        128u
#define SERIAL      20u
#define SECTOR      512u
#define HEADER      16u
#define SEGMENTS    (VIRTQ_CHAIN - 2u) /* beside header and status */
#define TRIM_MAX    (1u << 21)         /* sectors in one discard or write-zeroes */
#define TRIM_SEG    16u
#define BATCH       256u /* requests before others get their turn */
#define CONFIG_SIZE 60u

enum {
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_TOPOLOGY = 10,
    F_DISCARD = 13,
    F_WRITE_ZEROES = 14
};
enum {
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13,
};
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

_Static_assert(CTL_LAYERS_MAX <= DISK_LAYERS_MAX, "a disk takes what an order may bring");

struct blk_req {
    struct disk_req d;
    struct blk *b;
    struct blk_req *next; /* in the free list */
    uint32_t type;
    uint32_t to_guest; /* bytes written to the guest, for the used ring */
    uint16_t head;
    uint8_t *status; /* in guest memory */
    struct iovec iov[VIRTQ_CHAIN];
};

struct blk {
    struct virtio v;
    char serial[SERIAL];
    struct limit limit;
    struct blk_req *free;
    unsigned fresh;          /* reqs[fresh..] have never been used: untouched memory */
    struct blk_req *stalled; /* popped, waits for its turn; nothing is popped after it */
    uint64_t read_bytes, write_bytes;
    struct disk disk; /* the large ones last: untouched pages cost nothing */
    struct blk_req reqs[REQS];
};

static void process(struct blk *b);

static void give_up(struct blk_req *r)
{
    r->next = r->b->free;
    r->b->free = r;
}

/* Answers the guest. */
static void finish(struct blk_req *r, uint8_t status)
{
    struct blk *b = r->b;
    *r->status = status;
    virtq_push(&b->v.vq[0], r->head, status == S_OK ? r->to_guest + 1 : 1);
    virtio_signal(&b->v, 0);
    give_up(r);
    virtio_put(&b->v);
}

static void disk_done(struct disk_req *d, bool ok)
{
    finish(container_of(d, struct blk_req, d), ok ? S_OK : S_IOERR);
}

static bool range_on_disk(const struct blk *b, uint64_t sector, uint64_t len)
{
    uint64_t size = b->disk.layers.size;
    return len % SECTOR == 0 && sector <= size / SECTOR && range_ok(sector * SECTOR, len, size);
}

/* False: it has to wait for other writes to end. */
static bool begin(struct blk_req *r)
{
    struct blk *b = r->b;
    uint64_t len = r->d.end - r->d.pos;
    if (r->type != T_GET_ID && !disk_may_begin(&b->disk, &r->d))
        return false;
    limit_take(&b->limit, r->type <= T_OUT ? len : 0);
    virtio_get(&b->v);
    if (r->type == T_IN) {
        b->read_bytes += len;
        r->to_guest = (uint32_t)len;
    } else if (r->type == T_OUT) {
        b->write_bytes += len;
    } else if (r->type == T_GET_ID) {
        r->to_guest =
            (uint32_t)iov_write(r->iov + r->d.cur, r->d.niov - r->d.cur, 0, b->serial, SERIAL);
        finish(r, S_OK);
        return true;
    }
    disk_begin(&b->disk, &r->d);
    return true;
}

/* Reads the header; returns the status to refuse with, or S_OK. */
static uint8_t parse(struct blk_req *r, const struct virtq_chain *c)
{
    struct blk *b = r->b;
    uint8_t h[HEADER], seg[TRIM_SEG];
    iov_read(r->iov, c->n_out, 0, h, sizeof h);
    r->type = get_le32(h);
    uint64_t sector = get_le64(h + 8), len = 0;
    switch (r->type) {
    case T_IN:
    case T_GET_ID:
        r->d.type = DISK_READ;
        r->d.cur = c->n_out;
        r->d.niov = c->n_out + c->n_in;
        len = c->in_len - 1;
        break;
    case T_OUT:
        r->d.type = DISK_WRITE;
        r->d.cur = iov_skip(r->iov, c->n_out, HEADER);
        r->d.niov = c->n_out;
        len = c->out_len - HEADER;
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        r->d.type = r->type == T_DISCARD ? DISK_DISCARD : DISK_ZERO;
        if (c->out_len != HEADER + TRIM_SEG)
            return S_UNSUPP;
        iov_read(r->iov, c->n_out, HEADER, seg, sizeof seg);
        sector = get_le64(seg);
        len = (uint64_t)get_le32(seg + 8) * SECTOR;
        /* Bit 0, unmap, is a hint for write-zeroes and not defined for discard. */
        if (get_le32(seg + 12) & ~(r->type == T_DISCARD ? 0u : 1u) ||
            len > (uint64_t)TRIM_MAX * SECTOR)
            return S_UNSUPP;
        break;
    case T_FLUSH:
        r->d.type = DISK_FLUSH;
        return S_OK;
    default:
        return S_UNSUPP;
    }
    if (r->type == T_GET_ID)
        return S_OK;
    if (r->type != T_IN && b->disk.layers.readonly)
        return S_IOERR;
    if (len == 0 || !range_on_disk(b, sector, len))
        return S_IOERR;
    r->d.pos = sector * SECTOR;
    r->d.end = r->d.pos + len;
    return S_OK;
}

/* Takes one request from the queue. False: none there, or no place for it. */
static bool take_request(struct blk *b, struct blk_req **ret)
{
    struct virtq_chain c;
    struct blk_req *r = b->free;
    if (!r && b->fresh < REQS) {
        r = &b->reqs[b->fresh++];
        r->b = b;
        r->d.iov = r->iov;
        give_up(r);
    }
    if (!r || !virtio_pop(&b->v, 0, &c, r->iov, VIRTQ_CHAIN))
        return false;
    if (c.out_len < HEADER || c.in_len < 1) {
        virtio_break(&b->v, "sent a block request without header or status");
        return false;
    }
    b->free = r->next;
    struct iovec *last = &r->iov[c.n_out + c.n_in - 1];
    r->status = (uint8_t *)last->iov_base + --last->iov_len;
    r->head = c.head;
    r->to_guest = 0;
    r->d.pos = r->d.end = 0;
    r->d.cur = r->d.niov = 0;
    uint8_t status = parse(r, &c);
    if (status != S_OK) {
        virtio_get(&b->v);
        finish(r, status);
        r = NULL;
    }
    *ret = r;
    return true;
}

static bool try_begin(struct blk *b, struct blk_req *r)
{
    uint64_t ns = limit_wait(&b->limit);
    if (ns == 0 && begin(r))
        return true;
    b->stalled = r;
    if (ns)
        virtio_after(&b->v, ns);
    return false;
}

static void process(struct blk *b)
{
    struct blk_req *r = b->stalled;
    unsigned n = 0;
    if (!virtio_begin(&b->v, 0))
        return;
    b->stalled = NULL;
    if (r && !try_begin(b, r))
        return;
    /* Without a free request the next completion comes back here. */
    while (take_request(b, &r)) {
        if (r && !try_begin(b, r))
            return;
        if (virtio_enough(&b->v, ++n, BATCH))
            return;
    }
}

static void disk_progress(struct disk *d)
{
    process(container_of(d, struct blk, disk));
}

static void disk_settled(struct disk *d)
{
    virtio_put(&container_of(d, struct blk, disk)->v);
}

static void queue(struct virtio *v, unsigned i)
{
    (void)i;
    process(container_of(v, struct blk, v));
}

static void stop(struct virtio *v)
{
    struct blk *b = container_of(v, struct blk, v);
    if (b->stalled) {
        virtq_unpop(&v->vq[0], 1);
        give_up(b->stalled);
        b->stalled = NULL;
    }
    if (!b->disk.settling) {
        virtio_get(v);
        disk_settle(&b->disk);
    }
}

static void stats(const struct dev *d, struct ctl_stats *s)
{
    const struct blk *b = container_of(d, struct blk, v.dev);
    s->blk_read_bytes += b->read_bytes;
    s->blk_write_bytes += b->write_bytes;
}

/* ---- making ---------------------------------------------------------------------------- */

static void blk_free(struct virtio *v)
{
    disk_layers_close(&container_of(v, struct blk, v)->disk.layers);
}

static void fill_config(struct blk *b)
{
    uint8_t *c = b->v.config;
    put_le64(c, b->disk.layers.size / SECTOR);
    put_le32(c + 12, SEGMENTS);
    put_le32(c + 20, SECTOR);
    c[24] = 3;                                /* 2^3 logical blocks are a physical one */
    put_le16(c + 26, OVERLAY_BLOCK / SECTOR); /* minimal and optimal I/O size */
    put_le32(c + 28, OVERLAY_BLOCK / SECTOR);
    put_le16(c + 34, 1);
    put_le32(c + 36, TRIM_MAX);
    put_le32(c + 40, 1);
    put_le32(c + 44, OVERLAY_BLOCK / SECTOR);
    put_le32(c + 48, TRIM_MAX);
    put_le32(c + 52, 1);
    c[56] = 1; /* write-zeroes may unmap */
}

static int make(struct virtio *v, struct dev_order *o, struct err *e)
{
    struct blk *b = container_of(v, struct blk, v);
    const struct ctl_disk *c = &o->m->disks[o->index];
    bool readonly = c->flags & CTL_DISK_READONLY;
    int fds[CTL_LAYERS_MAX];
    for (unsigned i = 0; i < c->nlayers; i++)
        fds[i] = take_fd(&o->fds->layers[o->index][i]);
    int r = disk_layers_open(&b->disk.layers, fds, c->nlayers, c->size, readonly, e);
    if (r < 0)
        return err_wrap(e, "disk %u", o->index);
    memcpy(b->serial, c->serial, SERIAL);
    limit_init(&b->limit, c->limit_bytes, c->limit_ops);
    b->disk.ring = o->env.ring;
    b->disk.done = disk_done;
    b->disk.progress = disk_progress;
    b->disk.settled = disk_settled;
    disk_init(&b->disk);
    fill_config(b);
    v->offered |= readonly ? VIRTIO_F(F_RO) : VIRTIO_F(F_DISCARD) | VIRTIO_F(F_WRITE_ZEROES);
    return 0;
}

const struct virtio_ops virtio_blk_ops = {
    .dev = VIRTIO_DEV("virtio-blk", 0x4b4c4256 /* "VBLK" */, struct blk, .stats = stats),
    .id = 2,
    .nqueues = 1,
    .ndoorbells = 1,
    .queue_size = {REQS},
    .config_len = CONFIG_SIZE,
    .features =
        VIRTIO_F(F_SEG_MAX) | VIRTIO_F(F_BLK_SIZE) | VIRTIO_F(F_TOPOLOGY) | VIRTIO_F(F_FLUSH),
    .make = make,
    .queue = queue,
    .stop = stop,
    .free = blk_free,
};

int virtio_blk_layers(struct dev *d, const int *fds, unsigned nfds, struct err *e)
{
    struct blk *b = container_of(d, struct blk, v.dev);
    int r = disk_exchange(&b->disk, fds, nfds, e);
    return r < 0 ? err_wrap(e, "other layers for a disk") : 0;
}
