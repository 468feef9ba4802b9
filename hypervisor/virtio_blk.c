// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk: takes requests from the queue, checks them, and holds back what
 * has to wait for a rate limit or for another write. The rest is blk_io.c. I/O
 * thread only.
 */
#include "virtio_blk.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "blk_io.h"

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

static bool range_on_disk(const struct blk *b, uint64_t sector, uint64_t len)
{
    return len % BLK_SECTOR == 0 && sector <= b->layers.size / BLK_SECTOR &&
           range_ok(sector * BLK_SECTOR, len, b->layers.size);
}

static void get_id(struct blk_req *r)
{
    r->to_guest =
        (uint32_t)iov_write(r->iov + r->cur, r->niov - r->cur, 0, r->b->serial, BLK_SERIAL);
    blk_finish(r, BLK_S_OK);
}

/* False: it has to wait for other writes to end. */
static bool begin(struct blk_req *r)
{
    struct blk *b = r->b;
    if (r->type == BLK_T_OUT || r->type == BLK_T_WRITE_ZEROES) {
        bool copy = blk_needs_copy(r);
        if (b->exclusive || (copy && b->nwrites))
            return false;
        if (copy)
            b->exclusive = r;
        r->writes = true;
        b->nwrites++;
    }
    bucket_take(&b->ops, 1);
    bucket_take(&b->bytes, r->type <= BLK_T_OUT ? r->end - r->pos : 0);
    virtio_get(&b->v);
    switch (r->type) {
    case BLK_T_IN:
        b->read_bytes += r->end - r->pos;
        r->to_guest = (uint32_t)(r->end - r->pos);
        blk_step(r);
        break;
    case BLK_T_OUT:
        b->write_bytes += r->end - r->pos;
        blk_step(r);
        break;
    case BLK_T_WRITE_ZEROES:
        blk_step(r);
        break;
    case BLK_T_FLUSH:
        blk_flush(r);
        break;
    case BLK_T_GET_ID:
        get_id(r);
        break;
    default:
        blk_discard(r);
        break;
    }
    return true;
}

/* Reads the header; returns the status to refuse with, or BLK_S_OK. */
static uint8_t parse(struct blk_req *r, const struct virtq_chain *c)
{
    struct blk *b = r->b;
    uint8_t h[HEADER], seg[TRIM_SEG];
    iov_read(r->iov, c->n_out, 0, h, sizeof h);
    r->type = get_le32(h);
    uint64_t sector = get_le64(h + 8), len = 0;
    switch (r->type) {
    case BLK_T_IN:
    case BLK_T_GET_ID:
        r->cur = c->n_out;
        r->niov = c->n_out + c->n_in;
        len = c->in_len - 1;
        break;
    case BLK_T_OUT:
        r->cur = iov_skip(r->iov, c->n_out, HEADER);
        r->niov = c->n_out;
        len = c->out_len - HEADER;
        break;
    case BLK_T_DISCARD:
    case BLK_T_WRITE_ZEROES:
        if (c->out_len != HEADER + TRIM_SEG)
            return BLK_S_UNSUPP;
        iov_read(r->iov, c->n_out, HEADER, seg, sizeof seg);
        sector = get_le64(seg);
        len = (uint64_t)get_le32(seg + 8) * BLK_SECTOR;
        /* Bit 0, unmap, is a hint for write-zeroes and not defined for discard. */
        if (get_le32(seg + 12) & ~(r->type == BLK_T_DISCARD ? 0u : 1u) ||
            len > (uint64_t)TRIM_MAX * BLK_SECTOR)
            return BLK_S_UNSUPP;
        break;
    case BLK_T_FLUSH:
        return BLK_S_OK;
    default:
        return BLK_S_UNSUPP;
    }
    if (r->type == BLK_T_GET_ID)
        return BLK_S_OK;
    if (r->type != BLK_T_IN && b->layers.readonly)
        return BLK_S_IOERR;
    if (len == 0 || !range_on_disk(b, sector, len))
        return BLK_S_IOERR;
    r->pos = sector * BLK_SECTOR;
    r->end = r->pos + len;
    return BLK_S_OK;
}

/* Takes one request from the queue. False: none there, or no place for it. */
static bool take_request(struct blk *b, struct blk_req **ret)
{
    struct virtq_chain c;
    struct blk_req *r = b->free;
    if (!r && b->fresh < BLK_REQS) {
        r = &b->reqs[b->fresh++];
        r->b = b;
        r->op.done = blk_done;
        blk_req_free(r);
    }
    if (!r || virtio_pop(&b->v, 0, &c, r->iov, VIRTQ_CHAIN) <= 0)
        return false;
    if (c.out_len < HEADER || c.in_len < 1) {
        virtio_break(&b->v, "sent a block request without header or status");
        return false;
    }
    b->free = r->next;
    struct iovec *last = &r->iov[c.n_out + c.n_in - 1];
    r->status = (uint8_t *)last->iov_base + --last->iov_len;
    r->head = c.head;
    r->stage = BLK_DATA;
    r->writes = r->short_zero = r->punch = false;
    r->to_guest = 0;
    r->pos = r->end = r->chunk = 0;
    r->cur = r->niov = 0;
    uint8_t status = parse(r, &c);
    if (status != BLK_S_OK) {
        virtio_get(&b->v);
        blk_finish(r, status);
        r = NULL;
    }
    *ret = r;
    return true;
}

/* 0 or how long the rate limits ask to wait. */
static uint64_t limits_wait(struct blk *b)
{
    uint64_t a = bucket_wait(&b->ops), c = bucket_wait(&b->bytes);
    return MAX(a, c);
}

static bool try_begin(struct blk *b, struct blk_req *r)
{
    uint64_t ns = limits_wait(b);
    if (ns == 0 && begin(r))
        return true;
    b->stalled = r;
    if (ns && !b->timer.armed)
        ring_timer(b->v.dev.env.ring, &b->timer, ns);
    return false;
}

void blk_process(struct blk *b)
{
    struct blk_req *r = b->stalled;
    unsigned n = 0;
    if (!virtio_running(&b->v) || b->again.armed)
        return;
    b->stalled = NULL;
    if (r && !try_begin(b, r))
        return;
    do {
        if (b->v.vq[0].size)
            virtq_disable_notify(&b->v.vq[0]);
        while (take_request(b, &r)) {
            if (r && !try_begin(b, r))
                return;
            if (++n == BATCH) {
                ring_soon(b->v.dev.env.ring, &b->again);
                return;
            }
        }
        /* Without a free request the next completion comes back here. */
    } while ((b->free || b->fresh < BLK_REQS) && virtio_enable_notify(&b->v, 0));
}

static void queue(struct virtio *v, unsigned i)
{
    (void)i;
    blk_process(container_of(v, struct blk, v));
}

static void timer_done(struct ring_op *op, int res)
{
    (void)res;
    blk_process(container_of(op, struct blk, timer));
}

static void again_done(struct ring_op *op, int res)
{
    (void)res;
    blk_process(container_of(op, struct blk, again));
}

static void stop(struct virtio *v)
{
    struct blk *b = container_of(v, struct blk, v);
    if (b->stalled) {
        virtq_unpop(&v->vq[0], 1);
        blk_req_free(b->stalled);
        b->stalled = NULL;
    }
    if (!b->final) {
        b->final = true;
        virtio_get(v);
        blk_final_check(b);
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
    struct blk *b = container_of(v, struct blk, v);
    blk_layers_close(&b->layers);
    free(b);
}

static const struct virtio_ops ops = {
    .id = 2,
    .nqueues = 1,
    .ndoorbells = 1,
    .queue_size = {BLK_REQS},
    .queue = queue,
    .stop = stop,
    .free = blk_free,
};

static const struct dev_ops dev_ops =
    VIRTIO_DEV_OPS("virtio-blk", 0x4b4c4256 /* "VBLK" */, stats);

static void fill_config(struct blk *b)
{
    uint8_t *c = b->v.config;
    put_le64(c, b->layers.size / BLK_SECTOR);
    put_le32(c + 12, SEGMENTS);
    put_le32(c + 20, BLK_SECTOR);
    c[24] = 3;                                    /* 2^3 logical blocks are a physical one */
    put_le16(c + 26, OVERLAY_BLOCK / BLK_SECTOR); /* minimal and optimal I/O size */
    put_le32(c + 28, OVERLAY_BLOCK / BLK_SECTOR);
    put_le16(c + 34, 1);
    put_le32(c + 36, TRIM_MAX);
    put_le32(c + 40, 1);
    put_le32(c + 44, OVERLAY_BLOCK / BLK_SECTOR);
    put_le32(c + 48, TRIM_MAX);
    put_le32(c + 52, 1);
    c[56] = 1; /* write-zeroes may unmap */
    b->v.config_len = CONFIG_SIZE;
}

int virtio_blk_new(struct dev **ret, const struct dev_env *env, unsigned slot,
                   const struct virtio_blk_config *c, struct err *e)
{
    struct blk_layers layers;
    int r = blk_layers_open(&layers, c->fds, c->nlayers, c->size, c->readonly, e);
    if (r < 0)
        return r;
    struct blk *b = calloc(1, sizeof *b);
    if (!b) {
        blk_layers_close(&layers);
        return err_sys(e, ENOMEM, "make a block device");
    }
    b->layers = layers;
    memcpy(b->serial, c->serial, BLK_SERIAL);
    bucket_init(&b->bytes, c->limit_bytes);
    bucket_init(&b->ops, c->limit_ops);
    b->timer.done = timer_done;
    b->again.done = again_done;
    b->sync.done = blk_flush_done;
    fill_config(b);
    uint64_t f =
        VIRTIO_F(F_SEG_MAX) | VIRTIO_F(F_BLK_SIZE) | VIRTIO_F(F_TOPOLOGY) | VIRTIO_F(F_FLUSH);
    f |= c->readonly ? VIRTIO_F(F_RO) : VIRTIO_F(F_DISCARD) | VIRTIO_F(F_WRITE_ZEROES);
    r = virtio_init(&b->v, &dev_ops, &ops, env, slot, f, e);
    if (r < 0) {
        blk_free(&b->v);
        return r;
    }
    *ret = &b->v.dev;
    return 0;
}
