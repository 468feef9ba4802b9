// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O ring for fuzz targets: operations are done when the loop turns, one
 * at a time and in order, timers run out at once, nothing is asynchronous. So a
 * run depends on its input only.
 */
#ifndef DORMOUSE_TESTS_FAKE_RING_H
#define DORMOUSE_TESTS_FAKE_RING_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../hypervisor/base/ring.h"

enum fake_kind {
    FAKE_READ,
    FAKE_WRITE,
    FAKE_SYNC,
    FAKE_PUNCH,
    FAKE_POLL,
    FAKE_WATCH,
    FAKE_NOW
};

struct ring {
    struct fake_op {
        struct ring_op *op;
        enum fake_kind kind;
        int fd, mode;
        const struct iovec *iov;
        unsigned n;
        uint64_t off, len;
        bool cancelled;
    } ops[2048];
    unsigned n;
    void (*kicked)(void *ctx);
    void *ctx;
    bool kick;
};

int ring_open(struct ring **ret, unsigned entries, struct err *e)
{
    (void)entries;
    (void)e;
    *ret = calloc(1, sizeof **ret);
    return *ret ? 0 : -ENOMEM;
}

void ring_free(struct ring *r)
{
    free(r);
}

static void fake_start(struct ring *r, struct fake_op f)
{
    /* A device that starts an operation twice, or without end. */
    if (f.op->armed || r->n == sizeof r->ops / sizeof r->ops[0])
        abort();
    f.op->armed = true;
    r->ops[r->n++] = f;
}

void ring_readv(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov, unsigned n,
                uint64_t off)
{
    fake_start(r, (struct fake_op){
                      .op = op, .kind = FAKE_READ, .fd = fd, .iov = iov, .n = n, .off = off});
}

void ring_writev(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov,
                 unsigned n, uint64_t off)
{
    fake_start(r, (struct fake_op){
                      .op = op, .kind = FAKE_WRITE, .fd = fd, .iov = iov, .n = n, .off = off});
}

void ring_fdatasync(struct ring *r, struct ring_op *op, int fd)
{
    fake_start(r, (struct fake_op){.op = op, .kind = FAKE_SYNC, .fd = fd});
}

void ring_fallocate(struct ring *r, struct ring_op *op, int fd, int mode, uint64_t off,
                    uint64_t len)
{
    fake_start(
        r, (struct fake_op){
               .op = op, .kind = FAKE_PUNCH, .fd = fd, .mode = mode, .off = off, .len = len});
}

void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events)
{
    fake_start(r, (struct fake_op){.op = op, .kind = FAKE_POLL, .fd = fd, .n = events});
}

void ring_watch(struct ring *r, struct ring_op *op, int fd, unsigned events)
{
    fake_start(r, (struct fake_op){.op = op, .kind = FAKE_WATCH, .fd = fd, .n = events});
}

void ring_timer(struct ring *r, struct ring_op *op, uint64_t ns)
{
    if (ns == 0 || ns > 3600ull * 1000000000u)
        abort();
    fake_start(r, (struct fake_op){.op = op, .kind = FAKE_NOW, .n = 1});
}

void ring_soon(struct ring *r, struct ring_op *op)
{
    fake_start(r, (struct fake_op){.op = op, .kind = FAKE_NOW});
}

void ring_cancel(struct ring *r, struct ring_op *op)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (r->ops[i].op == op)
            r->ops[i].cancelled = true;
    }
}

void ring_kick(struct ring *r)
{
    r->kick = true;
}

void ring_on_kick(struct ring *r, void (*kicked)(void *ctx), void *ctx)
{
    r->kicked = kicked;
    r->ctx = ctx;
}

/* False: not yet. */
static bool fake_perform(const struct fake_op *f, int *res)
{
    ssize_t n = 0;
    struct pollfd p = {.fd = f->fd, .events = (short)f->n};
    if (f->cancelled) {
        *res = -ECANCELED;
        return true;
    }
    switch (f->kind) {
    case FAKE_READ:
        n = preadv(f->fd, f->iov, (int)f->n, (off_t)f->off);
        break;
    case FAKE_WRITE:
        n = pwritev(f->fd, f->iov, (int)f->n, (off_t)f->off);
        break;
    case FAKE_PUNCH:
        n = fallocate(f->fd, f->mode, (off_t)f->off, (off_t)f->len);
        break;
    case FAKE_POLL:
        if (poll(&p, 1, 0) <= 0)
            return false;
        n = p.revents;
        break;
    case FAKE_WATCH: /* doorbells ring through the notify register here */
        return false;
    case FAKE_SYNC:
        break;
    case FAKE_NOW:
        n = f->n ? -ETIME : 0;
        break;
    }
    *res = n < 0 && f->kind != FAKE_NOW ? -errno : (int)n;
    return true;
}

/* Does what is there now, not what that starts. */
int ring_turn(struct ring *r, bool wait, struct err *e)
{
    (void)wait;
    (void)e;
    if (r->kick) {
        r->kick = false;
        r->kicked(r->ctx);
    }
    unsigned now = r->n;
    for (unsigned i = 0; now > 0; now--) {
        struct fake_op f = r->ops[i];
        int res;
        if (!fake_perform(&f, &res)) {
            i++;
            continue;
        }
        r->n--;
        memmove(&r->ops[i], &r->ops[i + 1], (r->n - i) * sizeof r->ops[0]);
        f.op->armed = false;
        f.op->done(f.op, res);
    }
    return 0;
}

#endif
