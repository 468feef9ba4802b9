// SPDX-License-Identifier: Apache-2.0
/* The I/O loop; see ring.h. */
#include "ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mem.h"

/* Kernel worker threads for file operations that would block. */
#define WORKERS_MAX 4u
#define CQ_FACTOR   8u

_Static_assert(sizeof(struct __kernel_timespec) == sizeof(((struct ring_op *)0)->ts),
               "a ring_op has room for a kernel timespec");

struct ring {
    struct io_uring u;
    struct ring_op kick;
    int kick_fd;
    atomic_bool kicked;
    void (*on_kick)(void *ctx);
    void *on_kick_ctx;
    bool stop;
    int error; /* submission failed: the loop cannot go on */
};

static void kick_done(struct ring_op *op, int res)
{
    struct ring *r = container_of(op, struct ring, kick);
    if (res < 0)
        r->error = res;
    else if (!op->armed)
        ring_watch(r, op, r->kick_fd, POLLIN);
    atomic_store(&r->kicked, false);
    if (r->on_kick)
        r->on_kick(r->on_kick_ctx);
}

/* io_uring is a second way into the kernel, past every system call filter: the ring takes
 * nothing but what the functions below ask for, above all no open, socket or connect. */
static int restrict_uring(struct io_uring *u)
{
    static const uint8_t allowed[] = {
        IORING_OP_NOP,       IORING_OP_READV,    IORING_OP_WRITEV,  IORING_OP_FSYNC,
        IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_TIMEOUT, IORING_OP_ASYNC_CANCEL};
    struct io_uring_restriction list[ARRAY_LEN(allowed)];
    memset(list, 0, sizeof list);
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
        list[i].opcode = IORING_RESTRICTION_SQE_OP;
        list[i].sqe_op = allowed[i];
    }
    return io_uring_register_restrictions(u, list, ARRAY_LEN(allowed));
}

/* Newer kernels let the loop's own thread do all completion work, at its turn. */
static int open_uring(struct io_uring *u, unsigned entries)
{
    static const unsigned tries[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                     IORING_SETUP_COOP_TASKRUN, 0};
    int r = -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(tries) && r == -EINVAL; i++) {
        struct io_uring_params p = {.flags = tries[i] | IORING_SETUP_CQSIZE |
                                             IORING_SETUP_R_DISABLED,
                                    .cq_entries = entries * CQ_FACTOR};
        r = io_uring_queue_init_params(entries, u, &p);
    }
    return r;
}

int ring_make(struct ring **ret, unsigned entries, struct err *e)
{
    AUTO_FREE struct ring *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "make an I/O ring");
    AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_sys(e, errno, "make an eventfd");
    int rc = open_uring(&r->u, entries);
    if (rc < 0) {
        err_sys(e, -rc, "make an io_uring of %u entries", entries);
        return err_hint(e, "io_uring must be allowed: see kernel.io_uring_disabled");
    }
    rc = restrict_uring(&r->u);
    if (rc < 0) {
        io_uring_queue_exit(&r->u);
        return err_sys(e, -rc, "restrict the io_uring to what is needed");
    }
    r->kick_fd = take_fd(&fd);
    r->kick.done = kick_done;
    *ret = TAKE_PTR(r);
    return 0;
}

int ring_enter(struct ring *r, struct err *e)
{
    unsigned workers[2] = {WORKERS_MAX, WORKERS_MAX};
    /* Only a bound: older kernels go without. */
    (void)io_uring_register_iowq_max_workers(&r->u, workers);
    int rc = io_uring_enable_rings(&r->u);
    if (rc < 0)
        return err_sys(e, -rc, "start the io_uring");
    ring_watch(r, &r->kick, r->kick_fd, POLLIN);
    return 0;
}

int ring_open(struct ring **ret, unsigned entries, struct err *e)
{
    int rc = ring_make(ret, entries, e);
    if (rc == 0 && (rc = ring_enter(*ret, e)) < 0) {
        ring_free(*ret);
        *ret = NULL;
    }
    return rc;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    io_uring_queue_exit(&r->u);
    close(r->kick_fd);
    free(r);
}

static struct io_uring_sqe *new_sqe(struct ring *r)
{
    struct io_uring_sqe *s = io_uring_get_sqe(&r->u);
    if (!s) {
        int rc = io_uring_submit(&r->u);
        s = io_uring_get_sqe(&r->u);
        if (!s && !r->error)
            r->error = rc < 0 ? rc : -EBUSY;
    }
    return s;
}

static struct io_uring_sqe *arm(struct ring *r, struct ring_op *op)
{
    struct io_uring_sqe *s = new_sqe(r);
    op->armed = s != NULL;
    return s;
}

void ring_readv(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov, unsigned n,
                uint64_t off)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_readv(s, fd, iov, n, off);
    io_uring_sqe_set_data(s, op);
}

void ring_writev(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov,
                 unsigned n, uint64_t off)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_writev(s, fd, iov, n, off);
    io_uring_sqe_set_data(s, op);
}

void ring_fdatasync(struct ring *r, struct ring_op *op, int fd)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_fsync(s, fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data(s, op);
}

void ring_fallocate(struct ring *r, struct ring_op *op, int fd, int mode, uint64_t off,
                    uint64_t len)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_rw(IORING_OP_FALLOCATE, s, fd, NULL, (unsigned)mode, off);
    s->addr = len;
    io_uring_sqe_set_data(s, op);
}

void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_poll_add(s, fd, events);
    io_uring_sqe_set_data(s, op);
}

void ring_watch(struct ring *r, struct ring_op *op, int fd, unsigned events)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_poll_multishot(s, fd, events);
    io_uring_sqe_set_data(s, op);
}

void ring_timer(struct ring *r, struct ring_op *op, uint64_t ns)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    op->ts[0] = (int64_t)(ns / 1000000000u);
    op->ts[1] = (int64_t)(ns % 1000000000u);
    io_uring_prep_timeout(s, (struct __kernel_timespec *)op->ts, 0, 0);
    io_uring_sqe_set_data(s, op);
}

void ring_soon(struct ring *r, struct ring_op *op)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_nop(s);
    io_uring_sqe_set_data(s, op);
}

#ifdef DORMOUSE_DEBUG
void ring_debug(struct ring *r, struct ring_op *op, uint8_t opcode, int fd, uint64_t off)
{
    struct io_uring_sqe *s = arm(r, op);
    if (!s)
        return;
    io_uring_prep_rw(opcode, s, fd, "/", 0, off);
    io_uring_sqe_set_data(s, op);
}
#endif

void ring_cancel(struct ring *r, struct ring_op *op)
{
    if (!op->armed)
        return;
    struct io_uring_sqe *s = new_sqe(r);
    if (!s)
        return;
    io_uring_prep_cancel(s, op, 0);
    io_uring_sqe_set_data(s, NULL);
}

void ring_kick(struct ring *r)
{
    if (atomic_exchange(&r->kicked, true))
        return;
    uint64_t one = 1;
    /* Fails only when the count is full, and then the loop has been woken. */
    ssize_t n = write(r->kick_fd, &one, sizeof one);
    (void)n;
}

void ring_on_kick(struct ring *r, void (*kicked)(void *ctx), void *ctx)
{
    r->on_kick = kicked;
    r->on_kick_ctx = ctx;
}

static void dispatch(struct ring *r)
{
    struct io_uring_cqe *c;
    while (!r->error && io_uring_peek_cqe(&r->u, &c) == 0) {
        struct ring_op *op = io_uring_cqe_get_data(c);
        int res = c->res;
        bool more = c->flags & IORING_CQE_F_MORE;
        io_uring_cqe_seen(&r->u, c);
        if (!op)
            continue;
        op->armed = more;
        op->done(op, res);
    }
}

int ring_turn(struct ring *r, bool wait, struct err *e)
{
    int rc = r->error;
    if (!rc)
        rc = wait ? io_uring_submit_and_wait(&r->u, 1) : io_uring_submit_and_get_events(&r->u);
    /* Out of memory or completions piled up: dispatching makes room. */
    if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
        return err_sys(e, -rc, "wait for I/O");
    dispatch(r);
    return r->error ? err_sys(e, -r->error, "submit I/O") : 0;
}

int ring_run(struct ring *r, struct err *e)
{
    int rc = 0;
    while (!r->stop && rc == 0)
        rc = ring_turn(r, true, e);
    r->stop = false;
    return rc;
}

void ring_stop(struct ring *r)
{
    r->stop = true;
}
