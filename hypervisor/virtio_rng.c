// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-rng: fills the guest's buffers with getrandom(), at most REQUEST_MAX
 * bytes a request and RATE bytes a second, so that a guest cannot keep the I/O
 * thread busy. I/O thread only.
 */
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

static void queue(struct virtio *v, unsigned i)
{
    struct rng *g = container_of(v, struct rng, v);
    struct virtq_chain c;
    uint64_t ns;
    (void)i;
    while (!(ns = bucket_wait(&g->bytes)) && virtio_pop(v, 0, &c, g->iov, VIRTQ_CHAIN)) {
        uint32_t n = fill(g->iov + c.n_out, c.n_in);
        /* A request costs something even when it brings nothing. */
        bucket_take(&g->bytes, MAX(n, 64u));
        virtq_push(&v->vq[0], c.head, n);
    }
    if (ns)
        virtio_after(v, ns);
    virtio_signal(v, 0);
}

static int make(struct virtio *v, struct dev_order *o, struct err *e)
{
    (void)o;
    (void)e;
    bucket_init(&container_of(v, struct rng, v)->bytes, RATE);
    return 0;
}

const struct virtio_ops virtio_rng_ops = {
    .dev = VIRTIO_DEV("virtio-rng", 0x474e5256 /* "VRNG" */, struct rng),
    .id = 4,
    .nqueues = 1,
    .queue_size = {16},
    .make = make,
    .queue = queue,
};
