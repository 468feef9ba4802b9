// SPDX-License-Identifier: Apache-2.0
/*
 * How disk requests are done; see disk.h. Each works through its range of the disk one
 * stretch at a time, each stretch one asynchronous operation on one layer's
 * file; many requests are in flight. A write that covers only part of a 4 KiB block
 * the top overlay does not hold first copies the block up, alone among the
 * writes. Flush: data, fsync, marks, fsync (overlay.h).
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/iov.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* ---- ends ------------------------------------------------------------------------------ */

static void flush_begin(struct disk *d);

/* What was written becomes durable before the disk is settled. */
static void check_settled(struct disk *d)
{
    if (!d->settling || d->nwrites || d->flush_running)
        return;
    if (d->waiting || (d->unflushed && !d->failed)) {
        flush_begin(d);
    } else {
        d->settling = false;
        d->settled(d);
    }
}

static void finish(struct disk_req *r, bool ok)
{
    struct disk *d = r->d;
    if (r->writes) {
        d->nwrites--;
        if (d->exclusive == r)
            d->exclusive = NULL;
    }
    d->done(r, ok);
    check_settled(d);
}

/* ---- flush ----------------------------------------------------------------------------- */

static void flush_end(struct disk *d, bool ok)
{
    struct disk_req *r = d->flushing;
    d->flushing = NULL;
    d->flush_running = false;
    while (r) {
        struct disk_req *next = r->next;
        finish(r, ok);
        r = next;
    }
    if (d->waiting && !d->flush_running)
        flush_begin(d);
    check_settled(d);
}

static void flush_done(struct ring_op *op, int res)
{
    struct disk *d = container_of(op, struct disk, sync);
    struct overlay *top = disk_layers_top(&d->layers);
    if (res < 0) {
        /* The kernel may have dropped what it could not write. */
        d->failed = true;
        flush_end(d, false);
    } else if (!d->marks && top && overlay_dirty(top)) {
        d->marks = true;
        if (overlay_flush(top, NULL) < 0) {
            d->failed = true;
            flush_end(d, false);
        } else {
            ring_fdatasync(d->ring, &d->sync, disk_layers_wfd(&d->layers));
        }
    } else {
        flush_end(d, true);
    }
    d->progress(d);
}

static void flush_begin(struct disk *d)
{
    struct overlay *top = disk_layers_top(&d->layers);
    d->flushing = d->waiting;
    d->waiting = NULL;
    d->flush_running = true;
    d->marks = false;
    if (d->failed) {
        flush_end(d, false);
        return;
    }
    d->unflushed = false;
    if (top)
        overlay_stage(top);
    ring_fdatasync(d->ring, &d->sync, disk_layers_wfd(&d->layers));
}

static void flush(struct disk_req *r)
{
    struct disk *d = r->d;
    if (d->layers.readonly || (!d->unflushed && !d->flush_running && !d->failed)) {
        finish(r, true);
        return;
    }
    r->next = d->waiting;
    d->waiting = r;
    if (!d->flush_running)
        flush_begin(d);
}

/* ---- data ------------------------------------------------------------------------------ */

/* Shortens the buffers to the next `len` bytes for one operation; returns how many. */
static unsigned take(struct disk_req *r, uint64_t len)
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
static void advance(struct disk_req *r, uint64_t len)
{
    r->iov[r->last].iov_len += r->cut;
    r->cur += iov_skip(r->iov + r->cur, r->niov - r->cur, len);
    r->pos += len;
}

static void read_step(struct disk_req *r)
{
    struct disk *d = r->d;
    for (;;) {
        if (r->pos == r->end) {
            finish(r, true);
            return;
        }
        struct disk_extent x;
        disk_layers_find(&d->layers, r->pos, r->end - r->pos, &x);
        r->chunk = x.len;
        r->short_zero = x.short_zero;
        unsigned n = take(r, x.len);
        if (x.fd >= 0) {
            ring_readv(d->ring, &r->op, x.fd, r->iov + r->cur, n, x.off);
            return;
        }
        for (unsigned i = 0; i < n; i++)
            memset(r->iov[r->cur + i].iov_base, 0, r->iov[r->cur + i].iov_len);
        advance(r, x.len);
    }
}

static bool partial_missing(const struct disk *d, uint64_t at)
{
    const struct overlay *top = disk_layers_top(&d->layers);
    return at % OVERLAY_BLOCK && !overlay_has(top, at / OVERLAY_BLOCK);
}

/* Writes only part of a block that has to be copied up first. */
static bool needs_copy(const struct disk *d, const struct disk_req *r)
{
    return disk_layers_top(&d->layers) &&
           (partial_missing(d, r->pos) || partial_missing(d, r->end));
}

static void copy_up(struct disk_req *r)
{
    struct disk *d = r->d;
    struct disk_extent x;
    disk_layers_find(&d->layers, align_down(r->pos, OVERLAY_BLOCK), OVERLAY_BLOCK, &x);
    r->stage = DISK_COPY_READ;
    r->short_zero = x.short_zero;
    d->bounce_iov = (struct iovec){d->bounce, OVERLAY_BLOCK};
    memset(d->bounce, 0, OVERLAY_BLOCK);
    if (x.fd >= 0) {
        ring_readv(d->ring, &r->op, x.fd, &d->bounce_iov, 1, x.off);
    } else {
        r->stage = DISK_COPY_WRITE;
        ring_writev(d->ring, &r->op, disk_layers_wfd(&d->layers), &d->bounce_iov, 1,
                    overlay_offset(disk_layers_top(&d->layers), r->pos / OVERLAY_BLOCK));
    }
}

static uint64_t write_offset(const struct disk *d, uint64_t pos)
{
    const struct overlay *top = disk_layers_top(&d->layers);
    return top ? overlay_offset(top, 0) + pos : pos;
}

static void zero_step(struct disk_req *r)
{
    struct disk *d = r->d;
    struct ring *ring = d->ring;
    int fd = disk_layers_wfd(&d->layers);
    uint64_t in = r->pos % OVERLAY_BLOCK;
    r->punch = in == 0 && r->chunk >= OVERLAY_BLOCK && !d->no_punch;
    if (r->punch) {
        r->chunk = align_down(r->chunk, OVERLAY_BLOCK);
        ring_fallocate(ring, &r->op, fd, PUNCH, write_offset(d, r->pos), r->chunk);
        return;
    }
    r->chunk = MIN(r->chunk, OVERLAY_BLOCK - in);
    r->iov[0] = (struct iovec){d->zeros, r->chunk};
    ring_writev(ring, &r->op, fd, r->iov, 1, write_offset(d, r->pos));
}

static void write_step(struct disk_req *r)
{
    struct disk *d = r->d;
    if (r->pos == r->end) {
        finish(r, true);
        return;
    }
    r->stage = DISK_DATA;
    r->chunk = r->end - r->pos;
    if (disk_layers_top(&d->layers)) {
        uint64_t first = align_down(r->pos, OVERLAY_BLOCK),
                 tail = align_down(r->end, OVERLAY_BLOCK);
        if (partial_missing(d, r->pos) || (first == tail && partial_missing(d, r->end))) {
            copy_up(r);
            return;
        }
        if (partial_missing(d, r->end))
            r->chunk = tail - r->pos;
    }
    if (r->type == DISK_ZERO) {
        zero_step(r);
        return;
    }
    unsigned n = take(r, r->chunk);
    ring_writev(d->ring, &r->op, disk_layers_wfd(&d->layers), r->iov + r->cur, n,
                write_offset(d, r->pos));
}

static void step(struct disk_req *r)
{
    if (r->type == DISK_READ)
        read_step(r);
    else
        write_step(r);
}

static void read_done(struct disk_req *r, int res)
{
    uint64_t got = res > 0 ? (uint64_t)res : 0;
    if (res < 0 || got > r->chunk || (got == 0 && !r->short_zero)) {
        finish(r, false);
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

static void write_done(struct disk_req *r, int res)
{
    struct disk *d = r->d;
    struct overlay *top = disk_layers_top(&d->layers);
    uint64_t got = r->punch && res == 0 ? r->chunk : res > 0 ? (uint64_t)res : 0;
    if (r->punch && res == -EOPNOTSUPP) {
        d->no_punch = true;
        step(r);
        return;
    }
    /* A short write must not leave half a new block behind. */
    if (top && got < r->chunk) {
        uint64_t end = align_down(r->pos + got, OVERLAY_BLOCK);
        got = end > r->pos ? end - r->pos : 0;
    }
    if (res < 0 || got == 0 || got > r->chunk) {
        finish(r, false);
        return;
    }
    if (top) {
        uint64_t first = r->pos / OVERLAY_BLOCK,
                 end = (r->pos + got + OVERLAY_BLOCK - 1) / OVERLAY_BLOCK;
        overlay_set(top, first, end - first);
    }
    d->unflushed = true;
    if (r->type == DISK_WRITE)
        advance(r, got);
    else
        r->pos += got;
    step(r);
}

static void copy_done(struct disk_req *r, int res)
{
    struct disk *d = r->d;
    struct overlay *top = disk_layers_top(&d->layers);
    uint64_t block = r->pos / OVERLAY_BLOCK;
    if (r->stage == DISK_COPY_READ &&
        (res == (int)OVERLAY_BLOCK || (res >= 0 && r->short_zero))) {
        r->stage = DISK_COPY_WRITE;
        ring_writev(d->ring, &r->op, disk_layers_wfd(&d->layers), &d->bounce_iov, 1,
                    overlay_offset(top, block));
    } else if (r->stage == DISK_COPY_WRITE && res == (int)OVERLAY_BLOCK) {
        overlay_set(top, block, 1);
        d->unflushed = true;
        step(r);
    } else {
        finish(r, false);
    }
}

static void discard(struct disk_req *r)
{
    struct disk *d = r->d;
    uint64_t from = align_up(r->pos, OVERLAY_BLOCK), to = align_down(r->end, OVERLAY_BLOCK);
    if (from >= to) {
        finish(r, true);
        return;
    }
    ring_fallocate(d->ring, &r->op, disk_layers_wfd(&d->layers), PUNCH, write_offset(d, from),
                   to - from);
}

static void discard_done(struct disk_req *r, int res)
{
    r->d->unflushed = true;
    /* Only advice: a file system without holes keeps the blocks. */
    finish(r, res >= 0 || res == -EOPNOTSUPP);
}

static void done(struct ring_op *op, int res)
{
    struct disk_req *r = container_of(op, struct disk_req, op);
    struct disk *d = r->d;
    if (r->stage != DISK_DATA)
        copy_done(r, res);
    else if (r->type == DISK_READ)
        read_done(r, res);
    else if (r->type == DISK_DISCARD)
        discard_done(r, res);
    else
        write_done(r, res);
    d->progress(d);
}

/* ---- the caller's side ------------------------------------------------------------------ */

void disk_init(struct disk *d)
{
    d->sync.done = flush_done;
}

static bool takes_turns(const struct disk_req *r)
{
    return r->type == DISK_WRITE || r->type == DISK_ZERO;
}

bool disk_may_begin(const struct disk *d, const struct disk_req *r)
{
    return !takes_turns(r) || (!d->exclusive && !(d->nwrites && needs_copy(d, r)));
}

void disk_begin(struct disk *d, struct disk_req *r)
{
    r->d = d;
    r->op.done = done;
    r->stage = DISK_DATA;
    r->chunk = 0;
    r->short_zero = r->punch = false;
    r->writes = takes_turns(r);
    if (r->writes) {
        d->nwrites++;
        if (needs_copy(d, r))
            d->exclusive = r;
    }
    if (r->type == DISK_FLUSH)
        flush(r);
    else if (r->type == DISK_DISCARD)
        discard(r);
    else
        step(r);
}

void disk_settle(struct disk *d)
{
    if (!d->settling) {
        d->settling = true;
        check_settled(d);
    }
}

int disk_exchange(struct disk *d, const int *fds, unsigned nfds, struct err *e)
{
    const struct overlay *top = disk_layers_top(&d->layers);
    struct disk_layers fresh;
    int r = 0;
    /* A settled disk has flushed; marks that are only in memory would be lost. */
    if (d->failed || d->nwrites || d->unflushed || (top && overlay_dirty(top)))
        r = err_set(e, EIO, "what was written is not durable");
    for (unsigned i = 0; r < 0 && i < nfds; i++)
        close(fds[i]);
    if (r == 0)
        r = disk_layers_open(&fresh, fds, nfds, d->layers.size, d->layers.readonly, e);
    if (r < 0)
        return r;
    disk_layers_close(&d->layers);
    d->layers = fresh;
    d->no_punch = false;
    return 0;
}
