// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-rng: fills the guest's buffers with getrandom(), at most REQUEST_MAX
 * bytes a request and RATE bytes a second, so that a guest cannot keep the I/O
 * thread busy. I/O thread only.
 */
#include "virtio_rng.h"

#include <errno.h>
#include <sys/random.h>

#include "base/bucket.h"
#include "base/mem.h"
#include "virtio_mmio.h"

#define REQUEST_MAX 4096u
#define RATE        (1u << 20)

struct rng {
    struct virtio v;
    struct bucket bytes;
    struct ring_op timer;
    struct iovec iov[VIRTQ_CHAIN];
};

/* Bytes written; fewer than asked for only when the kernel has none. */
static uint32_t fill(const struct iovec *iov, unsigned n)
{
    uint32_t done = 0;
    for (unsigned i = 0; i < n && done < REQUEST_MAX; i++) {
        size_t part = MIN(iov[i].iov_len, REQUEST_MAX - done);
        ssize_t r = getrandom(iov[i].iov_base, part, GRND_NONBLOCK);
        if (r <= 0)
            break;
        done += (uint32_t)r;
        if ((size_t)r < part)
            break;
    }
    return done;
}

static void process(struct rng *g)
{
    struct virtq_chain c;
    if (!virtio_running(&g->v) || g->v.vq[0].size == 0 || g->timer.armed)
        return;
    for (;;) {
        uint64_t ns = bucket_wait(&g->bytes);
        if (ns) {
            ring_timer(g->v.dev.env.ring, &g->timer, ns);
            break;
        }
        if (virtio_pop(&g->v, 0, &c, g->iov, VIRTQ_CHAIN) <= 0) {
            if (virtio_enable_notify(&g->v, 0))
                continue;
            break;
        }
        uint32_t n = fill(g->iov + c.n_out, c.n_in);
        /* A request costs something even when it brings nothing. */
        bucket_take(&g->bytes, MAX(n, 64u));
        virtq_push(&g->v.vq[0], c.head, n);
    }
    virtio_signal(&g->v, 0);
}

static void queue(struct virtio *v, unsigned i)
{
    (void)i;
    process(container_of(v, struct rng, v));
}

static void timer_done(struct ring_op *op, int res)
{
    (void)res;
    process(container_of(op, struct rng, timer));
}

static void rng_free(struct virtio *v)
{
    free(container_of(v, struct rng, v));
}

static const struct virtio_ops ops = {
    .id = 4,
    .nqueues = 1,
    .queue_size = {16},
    .queue = queue,
    .free = rng_free,
};

static const struct dev_ops dev_ops =
    VIRTIO_DEV_OPS("virtio-rng", 0x474e5256 /* "VRNG" */, NULL);

int virtio_rng_new(struct dev **ret, const struct dev_env *env, unsigned slot, struct err *e)
{
    struct rng *g = calloc(1, sizeof *g);
    if (!g)
        return err_sys(e, ENOMEM, "make an entropy device");
    bucket_init(&g->bytes, RATE);
    g->timer.done = timer_done;
    int r = virtio_init(&g->v, &dev_ops, &ops, env, slot, 0, e);
    if (r < 0) {
        free(g);
        return r;
    }
    *ret = &g->v.dev;
    return 0;
}
