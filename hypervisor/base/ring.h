// SPDX-License-Identifier: Apache-2.0
/*
 * The one I/O loop: completions of an io_uring. Each request embeds a
 * `struct ring_op` whose `done` runs in the loop's thread. Single-threaded but
 * for ring_kick(), which any thread may call; the thread that called
 * ring_open() or ring_enter() has to run the loop. No busy waiting: an idle loop sits in one
 * io_uring_enter. Open it before a seccomp filter goes on: only
 * io_uring_enter and write (kick) are needed afterwards.
 */
#ifndef DORMOUSE_BASE_RING_H
#define DORMOUSE_BASE_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "err.h"

struct ring;
struct ring_op {
    void (*done)(struct ring_op *op, int res); /* res: as in the cqe */
    bool armed;                                /* in flight; kept by the loop */
    int64_t ts[2];                             /* ring_timer's */
};

/* `entries` is how many operations one turn submits in one system call; up to eight times
 * as many may be in flight. */
int ring_open(struct ring **ret, unsigned entries, struct err *e);
/* The same in two steps, of which the first may be a parent's. Whoever has it and does not
 * enter it frees it. */
int ring_make(struct ring **ret, unsigned entries, struct err *e);
int ring_enter(struct ring *r, struct err *e);
/* Nothing runs afterwards; ops still armed are forgotten. */
void ring_free(struct ring *r);

/* Queue one operation (submitted at the loop's next turn, all in one system call).
 * The op and what it points to must stay until done() ran. */
void ring_readv(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov, unsigned n,
                uint64_t off);
void ring_writev(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov,
                 unsigned n, uint64_t off);
void ring_fdatasync(struct ring *r, struct ring_op *op, int fd);
void ring_fallocate(struct ring *r, struct ring_op *op, int fd, int mode, uint64_t off,
                    uint64_t len);
/* One-shot poll; re-arm in done(). */
void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events);
/* done() after each wake-up of the file without re-arming or reading it (an eventfd's
 * count may just grow). When op->armed is false in done(), it has ended: res < 0 says
 * why, else watch again. */
void ring_watch(struct ring *r, struct ring_op *op, int fd, unsigned events);
/* done(op, -ETIME) after `ns`. */
void ring_timer(struct ring *r, struct ring_op *op, uint64_t ns);
/* done(op, 0) at the next turn. */
void ring_soon(struct ring *r, struct ring_op *op);
#ifdef DORMOUSE_DEBUG
/* An operation that the loop has no use for, to see it refused. */
void ring_debug(struct ring *r, struct ring_op *op, uint8_t opcode, int fd, uint64_t off);
#endif
/* Cancels; done() still runs, with -ECANCELED or the real result. */
void ring_cancel(struct ring *r, struct ring_op *op);

/* From any thread: run `kicked` (set with ring_on_kick) in the loop's thread soon. */
void ring_kick(struct ring *r);
void ring_on_kick(struct ring *r, void (*kicked)(void *ctx), void *ctx);

/* Runs until ring_stop(); returns 0 or -errno. ring_turn: one wait-and-dispatch. */
int ring_run(struct ring *r, struct err *e);
int ring_turn(struct ring *r, bool wait, struct err *e);
void ring_stop(struct ring *r);

#endif
