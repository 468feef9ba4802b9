// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk. Each request works through its range of the disk one stretch at
 * a time, each stretch one asynchronous operation on one layer's file; many
 * requests are in flight. A write that covers only part of a 4 KiB block the top
 * overlay does not hold first copies the block up, alone among the writes.
 * Flush: data, fsync, marks, fsync (snapshot/overlay.h). I/O thread only.
 */
#include "virtio_blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/mem.h"
#include "blk_layers.h"
#include "bucket.h"
#include "virtio_mmio.h"

#define REQS        128u
#define BLOCK       OVERLAY_BLOCK
#define HEADER      16u
#define SEGMENTS    (VIRTQ_CHAIN - 2u) /* beside header and status */
#define TRIM_MAX    (1u << 21)         /* sectors in one discard or write-zeroes */
#define TRIM_SEG    16u
#define SERIAL      20u
#define BATCH       256u /* requests before others get their turn */
#define PUNCH       (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define CONFIG_SIZE 60u

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum {
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_TOPOLOGY = 10,
    F_DISCARD = 13,
    F_WRITE_ZEROES = 14
};

struct blk;
struct req {
    struct ring_op op;
    struct blk *b;
    struct req *next; /* in the free list or among those waiting for a flush */
    enum { DATA, COPY_READ, COPY_WRITE } stage;
    uint32_t type;
    uint32_t to_guest; /* bytes written to the guest, for the used ring */
    uint64_t pos, end; /* what is left of the disk range */
    uint64_t chunk;    /* of it, in the running operation */
    bool short_zero;   /* that may read less: zeros follow */
    bool writes;       /* counted in blk.nwrites */
    bool punch;        /* the running operation makes a hole */
    uint16_t head;
    unsigned cur, niov; /* what is left of the data buffers: iov[cur..niov) */
    unsigned last;      /* last buffer of the running operation, … */
    size_t cut;         /* … shortened by this much */
    uint8_t *status;    /* in guest memory */
    struct iovec iov[VIRTQ_CHAIN];
};

struct blk {
    struct virtio v;
    struct blk_layers layers;
    char serial[SERIAL];
    struct bucket bytes, ops;
    struct ring_op timer;
    struct ring_op again; /* after a full batch */
    struct req *free;
    struct req *stalled;   /* popped, waits for its turn; nothing is popped after it */
    struct req *exclusive; /* the write that copies up */
    unsigned nwrites;
    bool unflushed; /* written to since the last flush began */
    bool failed;    /* an fsync failed: no flush can succeed any more */
    bool final;     /* stopping: flush when the writes are done */
    struct req *waiting, *flushing;
    bool flush_running;
    struct ring_op sync; /* of the running flush, … */
    bool marks;          /* … which has got to the marks */
    bool no_punch;       /* the file system cannot make holes */
    uint64_t read_bytes, write_bytes;
    uint8_t zeros[BLOCK], bounce[BLOCK];
    struct iovec bounce_iov;
    struct req reqs[REQS];
};

static void process(struct blk *b);
static void step(struct req *r);

/* ---- ends ------------------------------------------------------------------------------ */

static void req_free(struct req *r)
{
    struct blk *b = r->b;
    r->next = b->free;
    b->free = r;
}

static void flush_begin(struct blk *b);

/* The end of a stop: what was written becomes durable before the device is quiet. */
static void final_check(struct blk *b)
{
    if (!b->final || b->nwrites || b->flush_running)
        return;
    if (b->waiting || (b->unflushed && !b->failed)) {
        flush_begin(b);
    } else {
        b->final = false;
        virtio_put(&b->v);
    }
}

static void finish(struct req *r, uint8_t status)
{
    struct blk *b = r->b;
    *r->status = status;
    virtq_push(&b->v.vq[0], r->head, status == S_OK ? r->to_guest + 1 : 1);
    virtio_signal(&b->v, 0);
    if (r->writes) {
        b->nwrites--;
        if (b->exclusive == r)
            b->exclusive = NULL;
    }
    req_free(r);
    final_check(b);
    virtio_put(&b->v);
}

/* ---- flush ----------------------------------------------------------------------------- */

static void flush_end(struct blk *b, uint8_t status)
{
    struct req *r = b->flushing;
    b->flushing = NULL;
    b->flush_running = false;
    while (r) {
        struct req *next = r->next;
        finish(r, status);
        r = next;
    }
    if (b->waiting && !b->flush_running)
        flush_begin(b);
    final_check(b);
}

static void flush_done(struct ring_op *op, int res)
{
    struct blk *b = container_of(op, struct blk, sync);
    struct overlay *top = blk_layers_top(&b->layers);
    if (res < 0) {
        /* The kernel may have dropped what it could not write. */
        b->failed = true;
        flush_end(b, S_IOERR);
    } else if (!b->marks && top && overlay_dirty(top)) {
        b->marks = true;
        if (overlay_flush(top, NULL) < 0) {
            b->failed = true;
            flush_end(b, S_IOERR);
        } else {
            ring_fdatasync(b->v.dev.env.ring, &b->sync, blk_layers_wfd(&b->layers));
        }
    } else {
        flush_end(b, S_OK);
    }
    process(b);
}

static void flush_begin(struct blk *b)
{
    struct overlay *top = blk_layers_top(&b->layers);
    b->flushing = b->waiting;
    b->waiting = NULL;
    b->flush_running = true;
    b->marks = false;
    if (b->failed) {
        flush_end(b, S_IOERR);
        return;
    }
    b->unflushed = false;
    if (top)
        overlay_stage(top);
    ring_fdatasync(b->v.dev.env.ring, &b->sync, blk_layers_wfd(&b->layers));
}

static void flush(struct req *r)
{
    struct blk *b = r->b;
    if (b->layers.readonly || (!b->unflushed && !b->flush_running && !b->failed)) {
        finish(r, S_OK);
        return;
    }
    r->next = b->waiting;
    b->waiting = r;
    if (!b->flush_running)
        flush_begin(b);
}

/* ---- data ------------------------------------------------------------------------------ */

/* Shortens the buffers to the next `len` bytes for one operation; returns how many. */
static unsigned take(struct req *r, uint64_t len)
{
    unsigned i = r->cur;
    while (len > r->iov[i].iov_len) {
        len -= r->iov[i].iov_len;
        i++;
    }
    r->last = i;
    r->cut = r->iov[i].iov_len - len;
    r->iov[i].iov_len = len;
    return i - r->cur + 1;
}

/* The operation moved `len` bytes of them. */
static void advance(struct req *r, uint64_t len)
{
    r->iov[r->last].iov_len += r->cut;
    r->cur += iov_skip(r->iov + r->cur, r->niov - r->cur, len);
    r->pos += len;
}

static void read_step(struct req *r)
{
    struct blk *b = r->b;
    for (;;) {
        if (r->pos == r->end) {
            finish(r, S_OK);
            return;
        }
        struct blk_extent x;
        blk_layers_find(&b->layers, r->pos, r->end - r->pos, &x);
        r->chunk = x.len;
        r->short_zero = x.short_zero;
        unsigned n = take(r, x.len);
        if (x.fd >= 0) {
            ring_readv(b->v.dev.env.ring, &r->op, x.fd, r->iov + r->cur, n, x.off);
            return;
        }
        for (unsigned i = 0; i < n; i++)
            memset(r->iov[r->cur + i].iov_base, 0, r->iov[r->cur + i].iov_len);
        advance(r, x.len);
    }
}

static bool partial_missing(const struct req *r, uint64_t at)
{
    const struct overlay *top = blk_layers_top(&r->b->layers);
    return at % BLOCK && !overlay_has(top, at / BLOCK);
}

/* Writes only part of a block that has to be copied up first. */
static bool needs_copy(const struct req *r)
{
    return blk_layers_top(&r->b->layers) &&
           (partial_missing(r, r->pos) || partial_missing(r, r->end));
}

static void copy_up(struct req *r)
{
    struct blk *b = r->b;
    struct blk_extent x;
    blk_layers_find(&b->layers, align_down(r->pos, BLOCK), BLOCK, &x);
    r->stage = COPY_READ;
    r->short_zero = x.short_zero;
    b->bounce_iov = (struct iovec){b->bounce, BLOCK};
    memset(b->bounce, 0, BLOCK);
    if (x.fd >= 0) {
        ring_readv(b->v.dev.env.ring, &r->op, x.fd, &b->bounce_iov, 1, x.off);
    } else {
        r->stage = COPY_WRITE;
        ring_writev(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), &b->bounce_iov, 1,
                    overlay_offset(blk_layers_top(&b->layers), r->pos / BLOCK));
    }
}

static uint64_t write_offset(const struct blk *b, uint64_t pos)
{
    const struct overlay *top = blk_layers_top(&b->layers);
    return top ? overlay_offset(top, 0) + pos : pos;
}

static void zero_step(struct req *r)
{
    struct blk *b = r->b;
    struct ring *ring = b->v.dev.env.ring;
    int fd = blk_layers_wfd(&b->layers);
    uint64_t in = r->pos % BLOCK;
    r->punch = in == 0 && r->chunk >= BLOCK && !b->no_punch;
    if (r->punch) {
        r->chunk = align_down(r->chunk, BLOCK);
        ring_fallocate(ring, &r->op, fd, PUNCH, write_offset(b, r->pos), r->chunk);
        return;
    }
    r->chunk = MIN(r->chunk, BLOCK - in);
    r->iov[0] = (struct iovec){b->zeros, r->chunk};
    ring_writev(ring, &r->op, fd, r->iov, 1, write_offset(b, r->pos));
}

static void write_step(struct req *r)
{
    struct blk *b = r->b;
    if (r->pos == r->end) {
        finish(r, S_OK);
        return;
    }
    r->stage = DATA;
    r->chunk = r->end - r->pos;
    if (blk_layers_top(&b->layers)) {
        uint64_t first = align_down(r->pos, BLOCK), tail = align_down(r->end, BLOCK);
        if (partial_missing(r, r->pos) || (first == tail && partial_missing(r, r->end))) {
            copy_up(r);
            return;
        }
        if (partial_missing(r, r->end))
            r->chunk = tail - r->pos;
    }
    if (r->type == T_WRITE_ZEROES) {
        zero_step(r);
        return;
    }
    unsigned n = take(r, r->chunk);
    ring_writev(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), r->iov + r->cur, n,
                write_offset(b, r->pos));
}

static void step(struct req *r)
{
    if (r->type == T_IN)
        read_step(r);
    else
        write_step(r);
}

static void read_done(struct req *r, int res)
{
    uint64_t got = res > 0 ? (uint64_t)res : 0;
    if (res < 0 || got > r->chunk || (got == 0 && !r->short_zero)) {
        finish(r, S_IOERR);
        return;
    }
    if (got == 0) { /* behind the end of the base file */
        for (unsigned i = r->cur; i <= r->last; i++)
            memset(r->iov[i].iov_base, 0, r->iov[i].iov_len);
        got = r->chunk;
    }
    advance(r, got);
    step(r);
}

static void write_done(struct req *r, int res)
{
    struct blk *b = r->b;
    struct overlay *top = blk_layers_top(&b->layers);
    uint64_t got = r->punch && res == 0 ? r->chunk : res > 0 ? (uint64_t)res : 0;
    if (r->punch && res == -EOPNOTSUPP) {
        b->no_punch = true;
        step(r);
        return;
    }
    /* A short write must not leave half a new block behind. */
    if (top && got < r->chunk) {
        uint64_t end = align_down(r->pos + got, BLOCK);
        got = end > r->pos ? end - r->pos : 0;
    }
    if (res < 0 || got == 0 || got > r->chunk) {
        finish(r, S_IOERR);
        return;
    }
    if (top) {
        uint64_t first = r->pos / BLOCK, end = (r->pos + got + BLOCK - 1) / BLOCK;
        overlay_set(top, first, end - first);
    }
    b->unflushed = true;
    if (r->type == T_OUT)
        advance(r, got);
    else
        r->pos += got;
    step(r);
}

static void copy_done(struct req *r, int res)
{
    struct blk *b = r->b;
    struct overlay *top = blk_layers_top(&b->layers);
    uint64_t block = r->pos / BLOCK;
    if (r->stage == COPY_READ && (res == (int)BLOCK || (res >= 0 && r->short_zero))) {
        r->stage = COPY_WRITE;
        ring_writev(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), &b->bounce_iov, 1,
                    overlay_offset(top, block));
    } else if (r->stage == COPY_WRITE && res == (int)BLOCK) {
        overlay_set(top, block, 1);
        b->unflushed = true;
        step(r);
    } else {
        finish(r, S_IOERR);
    }
}

static void discard_done(struct req *r, int res)
{
    r->b->unflushed = true;
    /* Only advice: a file system without holes keeps the blocks. */
    finish(r, res < 0 && res != -EOPNOTSUPP ? S_IOERR : S_OK);
}

static void req_done(struct ring_op *op, int res)
{
    struct req *r = container_of(op, struct req, op);
    struct blk *b = r->b;
    if (r->stage != DATA)
        copy_done(r, res);
    else if (r->type == T_IN)
        read_done(r, res);
    else if (r->type == T_DISCARD)
        discard_done(r, res);
    else
        write_done(r, res);
    process(b);
}

/* ---- beginnings ------------------------------------------------------------------------ */

static bool range_on_disk(const struct blk *b, uint64_t sector, uint64_t len)
{
    return len % BLK_SECTOR == 0 && sector <= b->layers.size / BLK_SECTOR &&
           range_ok(sector * BLK_SECTOR, len, b->layers.size);
}

static void discard(struct req *r)
{
    struct blk *b = r->b;
    uint64_t from = align_up(r->pos, BLOCK), to = align_down(r->end, BLOCK);
    if (from >= to) {
        finish(r, S_OK);
        return;
    }
    ring_fallocate(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), PUNCH,
                   write_offset(b, from), to - from);
}

static void get_id(struct req *r)
{
    r->to_guest =
        (uint32_t)iov_write(r->iov + r->cur, r->niov - r->cur, 0, r->b->serial, SERIAL);
    finish(r, S_OK);
}

/* False: it has to wait for other writes to end. */
static bool begin(struct req *r)
{
    struct blk *b = r->b;
    if (r->type == T_OUT || r->type == T_WRITE_ZEROES) {
        bool copy = needs_copy(r);
        if (b->exclusive || (copy && b->nwrites))
            return false;
        if (copy)
            b->exclusive = r;
        r->writes = true;
        b->nwrites++;
    }
    bucket_take(&b->ops, 1);
    bucket_take(&b->bytes, r->type <= T_OUT ? r->end - r->pos : 0);
    virtio_get(&b->v);
    switch (r->type) {
    case T_IN:
        b->read_bytes += r->end - r->pos;
        r->to_guest = (uint32_t)(r->end - r->pos);
        step(r);
        break;
    case T_OUT:
        b->write_bytes += r->end - r->pos;
        step(r);
        break;
    case T_WRITE_ZEROES:
        step(r);
        break;
    case T_FLUSH:
        flush(r);
        break;
    case T_GET_ID:
        get_id(r);
        break;
    default:
        discard(r);
        break;
    }
    return true;
}

/* Reads the header; returns the status to refuse with, or S_OK. */
static uint8_t parse(struct req *r, const struct virtq_chain *c)
{
    struct blk *b = r->b;
    uint8_t h[HEADER], seg[TRIM_SEG];
    iov_read(r->iov, c->n_out, 0, h, sizeof h);
    r->type = get_le32(h);
    uint64_t sector = get_le64(h + 8), len = 0;
    switch (r->type) {
    case T_IN:
    case T_GET_ID:
        r->cur = c->n_out;
        r->niov = c->n_out + c->n_in;
        len = c->in_len - 1;
        break;
    case T_OUT:
        r->cur = iov_skip(r->iov, c->n_out, HEADER);
        r->niov = c->n_out;
        len = c->out_len - HEADER;
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        if (c->out_len != HEADER + TRIM_SEG)
            return S_UNSUPP;
        iov_read(r->iov, c->n_out, HEADER, seg, sizeof seg);
        sector = get_le64(seg);
        len = (uint64_t)get_le32(seg + 8) * BLK_SECTOR;
        /* Bit 0, unmap, is a hint for write-zeroes and not defined for discard. */
        if (get_le32(seg + 12) & ~(r->type == T_DISCARD ? 0u : 1u) ||
            len > (uint64_t)TRIM_MAX * BLK_SECTOR)
            return S_UNSUPP;
        break;
    case T_FLUSH:
        return S_OK;
    default:
        return S_UNSUPP;
    }
    if (r->type == T_GET_ID)
        return S_OK;
    if (r->type != T_IN && b->layers.readonly)
        return S_IOERR;
    if (len == 0 || !range_on_disk(b, sector, len))
        return S_IOERR;
    r->pos = sector * BLK_SECTOR;
    r->end = r->pos + len;
    return S_OK;
}

/* Takes one request from the queue. False: none there, or no place for it. */
static bool take_request(struct blk *b, struct req **ret)
{
    struct virtq_chain c;
    struct req *r = b->free;
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
    r->stage = DATA;
    r->writes = r->short_zero = r->punch = false;
    r->to_guest = 0;
    r->pos = r->end = r->chunk = 0;
    r->cur = r->niov = 0;
    uint8_t status = parse(r, &c);
    if (status != S_OK) {
        virtio_get(&b->v);
        finish(r, status);
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

static bool try_begin(struct blk *b, struct req *r)
{
    uint64_t ns = limits_wait(b);
    if (ns == 0 && begin(r))
        return true;
    b->stalled = r;
    if (ns && !b->timer.armed)
        ring_timer(b->v.dev.env.ring, &b->timer, ns);
    return false;
}

static void process(struct blk *b)
{
    struct req *r = b->stalled;
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
    } while (b->free && virtio_enable_notify(&b->v, 0));
}

static void queue(struct virtio *v, unsigned i)
{
    (void)i;
    process(container_of(v, struct blk, v));
}

static void timer_done(struct ring_op *op, int res)
{
    (void)res;
    process(container_of(op, struct blk, timer));
}

static void again_done(struct ring_op *op, int res)
{
    (void)res;
    process(container_of(op, struct blk, again));
}

static void stop(struct virtio *v)
{
    struct blk *b = container_of(v, struct blk, v);
    if (b->stalled) {
        virtq_unpop(&v->vq[0], 1);
        req_free(b->stalled);
        b->stalled = NULL;
    }
    if (!b->final) {
        b->final = true;
        virtio_get(v);
        final_check(b);
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
    .queue_size = {REQS},
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
    c[24] = 3;                            /* 2^3 logical blocks are a physical one */
    put_le16(c + 26, BLOCK / BLK_SECTOR); /* minimal and optimal I/O size */
    put_le32(c + 28, BLOCK / BLK_SECTOR);
    put_le16(c + 34, 1);
    put_le32(c + 36, TRIM_MAX);
    put_le32(c + 40, 1);
    put_le32(c + 44, BLOCK / BLK_SECTOR);
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
    memcpy(b->serial, c->serial, SERIAL);
    bucket_init(&b->bytes, c->limit_bytes);
    bucket_init(&b->ops, c->limit_ops);
    b->timer.done = timer_done;
    b->again.done = again_done;
    b->sync.done = flush_done;
    for (unsigned i = REQS; i-- > 0;) {
        b->reqs[i].b = b;
        b->reqs[i].op.done = req_done;
        req_free(&b->reqs[i]);
    }
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
