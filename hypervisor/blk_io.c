// SPDX-License-Identifier: Apache-2.0
/*
 * How block requests are done. Each works through its range of the disk one
 * stretch at a time, each stretch one asynchronous operation on one layer's
 * file; many requests are in flight. A write that covers only part of a 4 KiB block
 * the top overlay does not hold first copies the block up, alone among the
 * writes. Flush: data, fsync, marks, fsync (snapshot/overlay.h). I/O thread only;
 * ranges and buffers have been checked.
 */
#include "blk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/mem.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* ---- ends ------------------------------------------------------------------------------ */

void blk_req_free(struct blk_req *r)
{
    struct blk *b = r->b;
    r->next = b->free;
    b->free = r;
}

static void flush_begin(struct blk *b);

/* The end of a stop: what was written becomes durable before the device is quiet. */
void blk_final_check(struct blk *b)
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

void blk_finish(struct blk_req *r, uint8_t status)
{
    struct blk *b = r->b;
    *r->status = status;
    virtq_push(&b->v.vq[0], r->head, status == BLK_S_OK ? r->to_guest + 1 : 1);
    virtio_signal(&b->v, 0);
    if (r->writes) {
        b->nwrites--;
        if (b->exclusive == r)
            b->exclusive = NULL;
    }
    blk_req_free(r);
    blk_final_check(b);
    virtio_put(&b->v);
}

/* ---- flush ----------------------------------------------------------------------------- */

static void flush_end(struct blk *b, uint8_t status)
{
    struct blk_req *r = b->flushing;
    b->flushing = NULL;
    b->flush_running = false;
    while (r) {
        struct blk_req *next = r->next;
        blk_finish(r, status);
        r = next;
    }
    if (b->waiting && !b->flush_running)
        flush_begin(b);
    blk_final_check(b);
}

void blk_flush_done(struct ring_op *op, int res)
{
    struct blk *b = container_of(op, struct blk, sync);
    struct overlay *top = blk_layers_top(&b->layers);
    if (res < 0) {
        /* The kernel may have dropped what it could not write. */
        b->failed = true;
        flush_end(b, BLK_S_IOERR);
    } else if (!b->marks && top && overlay_dirty(top)) {
        b->marks = true;
        if (overlay_flush(top, NULL) < 0) {
            b->failed = true;
            flush_end(b, BLK_S_IOERR);
        } else {
            ring_fdatasync(b->v.dev.env.ring, &b->sync, blk_layers_wfd(&b->layers));
        }
    } else {
        flush_end(b, BLK_S_OK);
    }
    blk_process(b);
}

static void flush_begin(struct blk *b)
{
    struct overlay *top = blk_layers_top(&b->layers);
    b->flushing = b->waiting;
    b->waiting = NULL;
    b->flush_running = true;
    b->marks = false;
    if (b->failed) {
        flush_end(b, BLK_S_IOERR);
        return;
    }
    b->unflushed = false;
    if (top)
        overlay_stage(top);
    ring_fdatasync(b->v.dev.env.ring, &b->sync, blk_layers_wfd(&b->layers));
}

void blk_flush(struct blk_req *r)
{
    struct blk *b = r->b;
    if (b->layers.readonly || (!b->unflushed && !b->flush_running && !b->failed)) {
        blk_finish(r, BLK_S_OK);
        return;
    }
    r->next = b->waiting;
    b->waiting = r;
    if (!b->flush_running)
        flush_begin(b);
}

/* ---- data ------------------------------------------------------------------------------ */

/* Shortens the buffers to the next `len` bytes for one operation; returns how many. */
static unsigned take(struct blk_req *r, uint64_t len)
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
static void advance(struct blk_req *r, uint64_t len)
{
    r->iov[r->last].iov_len += r->cut;
    r->cur += iov_skip(r->iov + r->cur, r->niov - r->cur, len);
    r->pos += len;
}

static void read_step(struct blk_req *r)
{
    struct blk *b = r->b;
    for (;;) {
        if (r->pos == r->end) {
            blk_finish(r, BLK_S_OK);
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

static bool partial_missing(const struct blk_req *r, uint64_t at)
{
    const struct overlay *top = blk_layers_top(&r->b->layers);
    return at % OVERLAY_BLOCK && !overlay_has(top, at / OVERLAY_BLOCK);
}

/* Writes only part of a block that has to be copied up first. */
bool blk_needs_copy(const struct blk_req *r)
{
    return blk_layers_top(&r->b->layers) &&
           (partial_missing(r, r->pos) || partial_missing(r, r->end));
}

static void copy_up(struct blk_req *r)
{
    struct blk *b = r->b;
    struct blk_extent x;
    blk_layers_find(&b->layers, align_down(r->pos, OVERLAY_BLOCK), OVERLAY_BLOCK, &x);
    r->stage = BLK_COPY_READ;
    r->short_zero = x.short_zero;
    b->bounce_iov = (struct iovec){b->bounce, OVERLAY_BLOCK};
    memset(b->bounce, 0, OVERLAY_BLOCK);
    if (x.fd >= 0) {
        ring_readv(b->v.dev.env.ring, &r->op, x.fd, &b->bounce_iov, 1, x.off);
    } else {
        r->stage = BLK_COPY_WRITE;
        ring_writev(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), &b->bounce_iov, 1,
                    overlay_offset(blk_layers_top(&b->layers), r->pos / OVERLAY_BLOCK));
    }
}

static uint64_t write_offset(const struct blk *b, uint64_t pos)
{
    const struct overlay *top = blk_layers_top(&b->layers);
    return top ? overlay_offset(top, 0) + pos : pos;
}

static void zero_step(struct blk_req *r)
{
    struct blk *b = r->b;
    struct ring *ring = b->v.dev.env.ring;
    int fd = blk_layers_wfd(&b->layers);
    uint64_t in = r->pos % OVERLAY_BLOCK;
    r->punch = in == 0 && r->chunk >= OVERLAY_BLOCK && !b->no_punch;
    if (r->punch) {
        r->chunk = align_down(r->chunk, OVERLAY_BLOCK);
        ring_fallocate(ring, &r->op, fd, PUNCH, write_offset(b, r->pos), r->chunk);
        return;
    }
    r->chunk = MIN(r->chunk, OVERLAY_BLOCK - in);
    r->iov[0] = (struct iovec){b->zeros, r->chunk};
    ring_writev(ring, &r->op, fd, r->iov, 1, write_offset(b, r->pos));
}

static void write_step(struct blk_req *r)
{
    struct blk *b = r->b;
    if (r->pos == r->end) {
        blk_finish(r, BLK_S_OK);
        return;
    }
    r->stage = BLK_DATA;
    r->chunk = r->end - r->pos;
    if (blk_layers_top(&b->layers)) {
        uint64_t first = align_down(r->pos, OVERLAY_BLOCK),
                 tail = align_down(r->end, OVERLAY_BLOCK);
        if (partial_missing(r, r->pos) || (first == tail && partial_missing(r, r->end))) {
            copy_up(r);
            return;
        }
        if (partial_missing(r, r->end))
            r->chunk = tail - r->pos;
    }
    if (r->type == BLK_T_WRITE_ZEROES) {
        zero_step(r);
        return;
    }
    unsigned n = take(r, r->chunk);
    ring_writev(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), r->iov + r->cur, n,
                write_offset(b, r->pos));
}

void blk_step(struct blk_req *r)
{
    if (r->type == BLK_T_IN)
        read_step(r);
    else
        write_step(r);
}

static void read_done(struct blk_req *r, int res)
{
    uint64_t got = res > 0 ? (uint64_t)res : 0;
    if (res < 0 || got > r->chunk || (got == 0 && !r->short_zero)) {
        blk_finish(r, BLK_S_IOERR);
        return;
    }
    if (got == 0) { /* behind the end of the base file */
        for (unsigned i = r->cur; i <= r->last; i++)
            memset(r->iov[i].iov_base, 0, r->iov[i].iov_len);
        got = r->chunk;
    }
    advance(r, got);
    blk_step(r);
}

static void write_done(struct blk_req *r, int res)
{
    struct blk *b = r->b;
    struct overlay *top = blk_layers_top(&b->layers);
    uint64_t got = r->punch && res == 0 ? r->chunk : res > 0 ? (uint64_t)res : 0;
    if (r->punch && res == -EOPNOTSUPP) {
        b->no_punch = true;
        blk_step(r);
        return;
    }
    /* A short write must not leave half a new block behind. */
    if (top && got < r->chunk) {
        uint64_t end = align_down(r->pos + got, OVERLAY_BLOCK);
        got = end > r->pos ? end - r->pos : 0;
    }
    if (res < 0 || got == 0 || got > r->chunk) {
        blk_finish(r, BLK_S_IOERR);
        return;
    }
    if (top) {
        uint64_t first = r->pos / OVERLAY_BLOCK,
                 end = (r->pos + got + OVERLAY_BLOCK - 1) / OVERLAY_BLOCK;
        overlay_set(top, first, end - first);
    }
    b->unflushed = true;
    if (r->type == BLK_T_OUT)
        advance(r, got);
    else
        r->pos += got;
    blk_step(r);
}

static void copy_done(struct blk_req *r, int res)
{
    struct blk *b = r->b;
    struct overlay *top = blk_layers_top(&b->layers);
    uint64_t block = r->pos / OVERLAY_BLOCK;
    if (r->stage == BLK_COPY_READ &&
        (res == (int)OVERLAY_BLOCK || (res >= 0 && r->short_zero))) {
        r->stage = BLK_COPY_WRITE;
        ring_writev(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), &b->bounce_iov, 1,
                    overlay_offset(top, block));
    } else if (r->stage == BLK_COPY_WRITE && res == (int)OVERLAY_BLOCK) {
        overlay_set(top, block, 1);
        b->unflushed = true;
        blk_step(r);
    } else {
        blk_finish(r, BLK_S_IOERR);
    }
}

void blk_discard(struct blk_req *r)
{
    struct blk *b = r->b;
    uint64_t from = align_up(r->pos, OVERLAY_BLOCK), to = align_down(r->end, OVERLAY_BLOCK);
    if (from >= to) {
        blk_finish(r, BLK_S_OK);
        return;
    }
    ring_fallocate(b->v.dev.env.ring, &r->op, blk_layers_wfd(&b->layers), PUNCH,
                   write_offset(b, from), to - from);
}

static void discard_done(struct blk_req *r, int res)
{
    r->b->unflushed = true;
    /* Only advice: a file system without holes keeps the blocks. */
    blk_finish(r, res < 0 && res != -EOPNOTSUPP ? BLK_S_IOERR : BLK_S_OK);
}

void blk_done(struct ring_op *op, int res)
{
    struct blk_req *r = container_of(op, struct blk_req, op);
    struct blk *b = r->b;
    if (r->stage != BLK_DATA)
        copy_done(r, res);
    else if (r->type == BLK_T_IN)
        read_done(r, res);
    else if (r->type == BLK_T_DISCARD)
        discard_done(r, res);
    else
        write_done(r, res);
    blk_process(b);
}
