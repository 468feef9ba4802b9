// SPDX-License-Identifier: Apache-2.0
/* The I/O loop on a real io_uring. */
#include "../../hypervisor/base/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "../tap.h"

static struct ring *ring;

struct seen {
    struct ring_op op;
    unsigned calls;
    int res;
    bool stop;
};

static void seen(struct ring_op *op, int res)
{
    struct seen *s = container_of(op, struct seen, op);
    s->calls++;
    s->res = res;
    if (s->stop)
        ring_stop(ring);
}

static void open_ring(unsigned entries)
{
    struct err e = ERR_INIT;
    if (!CHECK(ring_open(&ring, entries, &e) == 0)) {
        printf("# %s\n", e.msg);
        _exit(1);
    }
}

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

TEST(files)
{
    struct seen w = {.op.done = seen}, r = w, s = w, p = w;
    char out[] = "hello", in[8] = {0};
    struct iovec wv[2] = {{out, 2}, {out + 2, 3}}, rv = {in, sizeof in};
    AUTO_CLOSE int fd = memfd_create("ring", MFD_CLOEXEC);
    open_ring(8);
    ring_writev(ring, &w.op, fd, wv, 2, 100);
    CHECK(w.op.armed);
    while (w.calls == 0)
        CHECK(ring_turn(ring, true, NULL) == 0);
    CHECK(w.res == 5 && !w.op.armed);
    ring_readv(ring, &r.op, fd, &rv, 1, 100);
    ring_fdatasync(ring, &s.op, fd);
    while (r.calls + s.calls < 2)
        ring_turn(ring, true, NULL);
    CHECK(r.res == 5 && memcmp(in, "hello", 5) == 0 && s.res == 0);
    ring_fallocate(ring, &p.op, fd, 0x3, 0, 4096);
    while (p.calls == 0)
        ring_turn(ring, true, NULL);
    CHECK(p.res == 0 && pread(fd, in, 5, 100) == 5 && in[0] == 0);
    ring_readv(ring, &r.op, -1, &rv, 1, 0);
    while (r.calls < 2)
        ring_turn(ring, true, NULL);
    CHECK(r.res == -EBADF);
    ring_free(ring);
}

/* More operations than the ring has entries. */
TEST(many)
{
    static struct seen ops[60];
    static char bytes[60];
    static struct iovec iov[60];
    unsigned done = 0;
    AUTO_CLOSE int fd = memfd_create("ring", MFD_CLOEXEC);
    open_ring(8);
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        ops[i] = (struct seen){.op.done = seen};
        bytes[i] = (char)i;
        iov[i] = (struct iovec){&bytes[i], 1};
        ring_writev(ring, &ops[i].op, fd, &iov[i], 1, i);
    }
    while (done < ARRAY_LEN(ops)) {
        if (!CHECK(ring_turn(ring, true, NULL) == 0))
            break;
        done = 0;
        for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
            done += ops[i].calls;
    }
    CHECK(done == ARRAY_LEN(ops));
    char back[60];
    CHECK(pread(fd, back, 60, 0) == 60 && memcmp(back, bytes, 60) == 0);
    ring_free(ring);
}

TEST(timers)
{
    struct seen a = {.op.done = seen}, b = {.op.done = seen, .stop = true};
    open_ring(8);
    uint64_t start = now_ms();
    ring_timer(ring, &b.op, 60 * 1000000ull);
    ring_timer(ring, &a.op, 20 * 1000000ull);
    CHECK(ring_run(ring, NULL) == 0);
    CHECK(a.calls == 1 && a.res == -ETIME && b.res == -ETIME && now_ms() - start >= 55);
    ring_timer(ring, &a.op, 1000 * 1000000000ull);
    ring_turn(ring, false, NULL);
    ring_cancel(ring, &a.op);
    while (a.calls < 2)
        ring_turn(ring, true, NULL);
    CHECK(a.res == -ECANCELED && !a.op.armed);
    ring_cancel(ring, &a.op); /* not armed: nothing */
    ring_soon(ring, &a.op);
    while (a.calls < 3)
        ring_turn(ring, true, NULL);
    CHECK(a.res == 0);
    ring_free(ring);
}

TEST(polls)
{
    struct seen one = {.op.done = seen}, many = {.op.done = seen};
    AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t n = 1;
    open_ring(8);
    ring_poll(ring, &one.op, fd, POLLIN);
    ring_watch(ring, &many.op, fd, POLLIN);
    ring_turn(ring, false, NULL);
    CHECK(one.calls == 0 && many.calls == 0);
    for (unsigned i = 1; i <= 5; i++) { /* without reading it */
        CHECK(write(fd, &n, 8) == 8);
        while (many.calls < i)
            ring_turn(ring, true, NULL);
        CHECK(many.op.armed && (many.res & POLLIN));
    }
    CHECK(one.calls == 1 && !one.op.armed && (one.res & POLLIN));
    ring_cancel(ring, &many.op);
    while (many.op.armed)
        ring_turn(ring, true, NULL);
    CHECK(many.res == -ECANCELED);
    ring_free(ring);
}

static unsigned kicks;

static void kicked(void *ctx)
{
    CHECK(ctx == &kicks);
    if (++kicks == 100)
        ring_stop(ring);
}

static void *kicker(void *arg)
{
    (void)arg;
    for (unsigned last = 0; last < 100;) {
        ring_kick(ring);
        unsigned seen_now;
        while ((seen_now = __atomic_load_n(&kicks, __ATOMIC_ACQUIRE)) == last)
            usleep(10);
        last = seen_now;
    }
    return NULL;
}

TEST(kick)
{
    pthread_t t;
    open_ring(8);
    kicks = 0;
    ring_on_kick(ring, kicked, &kicks);
    CHECK(pthread_create(&t, NULL, kicker, NULL) == 0);
    CHECK(ring_run(ring, NULL) == 0);
    pthread_join(t, NULL);
    CHECK(kicks == 100);
    ring_free(ring);
}

/* An idle loop does not spin. */
TEST(idle)
{
    struct seen s = {.op.done = seen, .stop = true};
    struct timespec a, b;
    open_ring(8);
    ring_timer(ring, &s.op, 300 * 1000000ull);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    CHECK(ring_run(ring, NULL) == 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    CHECK((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 50);
    ring_free(ring);
}

int main(void)
{
    RUN(files);
    RUN(many);
    RUN(timers);
    RUN(polls);
    RUN(kick);
    RUN(idle);
    return TAP_DONE();
}
