// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net on a tap, with checksum and segmentation offload both ways.
 * Packets go between guest buffers and the tap in one readv or writev each.
 * For receiving, guest buffers are collected ahead in a window that is large
 * enough for the largest packet the guest may get; unused ones stay there and
 * are put back at a stop. The kernel checks the packet headers, we the sizes.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bucket.h"
#include "base/fd.h"
#include "base/mem.h"
#include "virtio_mmio.h"

enum { RX, TX };
enum {
    F_CSUM = 0,
    F_GUEST_CSUM = 1,
    F_MAC = 5,
    F_GUEST_TSO4 = 7,
    F_GUEST_TSO6 = 8,
    F_HOST_TSO4 = 11,
    F_HOST_TSO6 = 12,
    F_MRG_RXBUF = 15,
    F_STATUS = 16,
};

#define HEADER       12u /* struct virtio_net_hdr_v1 */
#define HEADER_NBUFS 10u
#define FRAME_MIN    14u
#define FRAME_SMALL  1514u
#define PACKET_MAX   (HEADER + 65550u)
#define WINDOW       128u /* receive buffers collected ahead; 64 KiB in pieces of 1.5 KiB fit */
#define WINDOW_IOV   256u
#define BATCH        64u /* packets before others get their turn */

struct net {
    struct virtio v;
    int fd;
    struct net_dir {
        struct limit limit;
        struct net_wake {
            struct ring_op op;
            struct net *n;
        } poll, timer; /* file is ready; limit is over */
    } dir[2];
    unsigned nbufs, niov;
    uint64_t room; /* bytes in the window */
    bool gone;     /* the tap was removed */
    uint64_t rx_bytes, tx_bytes;
    /* The receive window: nbufs chains, whose buffers follow each other in iov. */
    struct net_buf {
        uint16_t head, niov;
        uint32_t len;
    } bufs[WINDOW];
    struct iovec iov[WINDOW_IOV];
    struct iovec tx_iov[VIRTQ_CHAIN];
};

/* False and a timer is running: over the limit. */
static bool within_limit(struct net *n, unsigned dir)
{
    uint64_t ns = limit_wait(&n->dir[dir].limit);
    if (ns == 0)
        return true;
    if (!n->dir[dir].timer.op.armed)
        ring_timer(n->v.dev.env.ring, &n->dir[dir].timer.op, ns);
    return false;
}

/* ---- host to guest --------------------------------------------------------------------- */

static uint64_t rx_need(const struct net *n)
{
    bool large = virtio_has(&n->v, F_GUEST_TSO4) || virtio_has(&n->v, F_GUEST_TSO6);
    return large ? PACKET_MAX : HEADER + FRAME_SMALL;
}

/* Collects buffers until the largest packet fits. False: the guest has too few. */
static bool fill_window(struct net *n)
{
    uint64_t need = rx_need(n);
    bool merge = virtio_has(&n->v, F_MRG_RXBUF);
    while (n->room < need) {
        struct virtq_chain c;
        unsigned max = MIN(WINDOW_IOV - n->niov, VIRTQ_CHAIN);
        /* Without merging a packet has to fit into one buffer chain. */
        if (n->nbufs == WINDOW || max == 0 || (n->nbufs && !merge)) {
            virtio_break(&n->v, "gave receive buffers too small for a packet");
            return false;
        }
        if (!virtio_pop(&n->v, RX, &c, n->iov + n->niov, max))
            return false; /* the guest rings when it has buffers again */
        if (c.n_out || (n->nbufs == 0 && c.in_len < HEADER)) {
            virtio_break(&n->v, "gave a receive buffer that cannot be written");
            return false;
        }
        n->bufs[n->nbufs++] = (struct net_buf){c.head, c.n_in, c.in_len};
        n->niov += c.n_in;
        n->room += c.in_len;
    }
    return true;
}

/* A packet of `len` bytes lies in the window: hands over the buffers it fills. */
static void deliver(struct net *n, uint64_t len)
{
    unsigned used = 0, iovs = 0;
    uint64_t left = len;
    do {
        const struct net_buf *b = &n->bufs[used++];
        uint32_t part = (uint32_t)MIN(left, b->len);
        virtq_push(&n->v.vq[RX], b->head, part);
        iovs += b->niov;
        n->room -= b->len;
        left -= part;
    } while (left > 0);
    uint8_t count[2];
    put_le16(count, (uint16_t)used);
    iov_write(n->iov, n->niov, HEADER_NBUFS, count, sizeof count);
    n->nbufs -= used;
    n->niov -= iovs;
    memmove(n->bufs, n->bufs + used, n->nbufs * sizeof n->bufs[0]);
    memmove(n->iov, n->iov + iovs, n->niov * sizeof n->iov[0]);
}

static void rx(struct net *n)
{
    struct ring *ring = n->v.dev.env.ring;
    if (n->gone || n->dir[RX].poll.op.armed || !virtio_begin(&n->v, RX))
        return;
    for (unsigned i = 0; within_limit(n, RX) && fill_window(n); i++) {
        if (virtio_enough(&n->v, i, BATCH))
            break;
        ssize_t got = readv(n->fd, n->iov, (int)n->niov);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            ring_poll(ring, &n->dir[RX].poll.op, n->fd, POLLIN);
            break;
        }
        if (got <= 0) {
            log_warn("virtio-net: the tap is gone, nothing more is received");
            n->gone = true;
            break;
        }
        if (got < (ssize_t)HEADER)
            continue;
        n->rx_bytes += (uint64_t)got;
        limit_take(&n->dir[RX].limit, (uint64_t)got);
        deliver(n, (uint64_t)got);
    }
    virtio_signal(&n->v, RX);
}

/* ---- guest to host --------------------------------------------------------------------- */

static void tx(struct net *n)
{
    struct ring *ring = n->v.dev.env.ring;
    struct virtq_chain c;
    if (n->dir[TX].poll.op.armed || !virtio_begin(&n->v, TX))
        return;
    for (unsigned i = 0; within_limit(n, TX); i++) {
        if (virtio_enough(&n->v, i, BATCH))
            break;
        if (!virtio_pop(&n->v, TX, &c, n->tx_iov, VIRTQ_CHAIN))
            break;
        /* Anything else is no packet: drop it. */
        if (c.n_in == 0 && c.out_len >= HEADER + FRAME_MIN && c.out_len <= PACKET_MAX) {
            ssize_t put = writev(n->fd, n->tx_iov, c.n_out);
            if (put < 0 && errno == EAGAIN) {
                virtq_unpop(&n->v.vq[TX], 1);
                ring_poll(ring, &n->dir[TX].poll.op, n->fd, POLLOUT);
                break;
            }
            if (put > 0)
                n->tx_bytes += (uint64_t)put;
            limit_take(&n->dir[TX].limit, c.out_len);
        }
        virtq_push(&n->v.vq[TX], c.head, 0);
    }
    virtio_signal(&n->v, TX);
}

/* A poll or a timer: both directions look whether they can go on. */
static void wake_done(struct ring_op *op, int res)
{
    struct net *n = container_of(op, struct net_wake, op)->n;
    (void)res;
    rx(n);
    tx(n);
}

static void queue(struct virtio *v, unsigned i)
{
    struct net *n = container_of(v, struct net, v);
    if (i == TX)
        tx(n);
    else
        rx(n);
}

static void stop(struct virtio *v)
{
    struct net *n = container_of(v, struct net, v);
    if (n->nbufs && v->vq[RX].size)
        virtq_unpop(&v->vq[RX], n->nbufs);
    n->nbufs = n->niov = 0;
    n->room = 0;
}

static void set_offload(struct net *n)
{
    unsigned f = 0;
    if (virtio_has(&n->v, F_GUEST_CSUM)) {
        f |= TUN_F_CSUM;
        f |= virtio_has(&n->v, F_GUEST_TSO4) ? TUN_F_TSO4 : 0;
        f |= virtio_has(&n->v, F_GUEST_TSO6) ? TUN_F_TSO6 : 0;
    }
    if (ioctl(n->fd, TUNSETOFFLOAD, (unsigned long)f) < 0 && f && log_allowed(&n->v.log, 3))
        log_warn("virtio-net: the tap refuses offloads 0x%x: packets may be dropped", f);
}

static void activate(struct virtio *v)
{
    set_offload(container_of(v, struct net, v));
}

static void stats(const struct dev *d, struct ctl_stats *s)
{
    const struct net *n = container_of(d, struct net, v.dev);
    s->net_rx_bytes += n->rx_bytes;
    s->net_tx_bytes += n->tx_bytes;
}

static void net_free(struct virtio *v)
{
    close(container_of(v, struct net, v)->fd);
}

static int make(struct virtio *v, struct dev_order *o, struct err *e)
{
    struct net *n = container_of(v, struct net, v);
    const struct ctl_machine *m = o->m;
    AUTO_CLOSE int fd = take_fd(&o->fds->tap);
    int size = HEADER;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
        err_sys(e, errno, "set the tap's header size");
        return err_hint(e, "the tap has to be made with IFF_VNET_HDR");
    }
    int r = fd_set_nonblock(fd, 1);
    if (r < 0)
        return err_sys(e, -r, "make the tap non-blocking");
    n->fd = take_fd(&fd);
    memcpy(v->config, m->mac, sizeof m->mac);
    put_le16(v->config + 6, 1); /* link is up */
    for (unsigned i = 0; i < 2; i++) {
        struct net_dir *d = &n->dir[i];
        limit_init(&d->limit, m->net_limit_bytes, m->net_limit_ops);
        d->poll = d->timer = (struct net_wake){{.done = wake_done}, n};
    }
    return 0;
}

const struct virtio_ops virtio_net_ops = {
    .dev = VIRTIO_DEV("virtio-net", 0x54454e56 /* "VNET" */, struct net, .stats = stats),
    .id = 1,
    .nqueues = 2,
    .ndoorbells = 2,
    .queue_size = {256, 256},
    .config_len = 8,
    .features = VIRTIO_F(F_CSUM) | VIRTIO_F(F_GUEST_CSUM) | VIRTIO_F(F_GUEST_TSO4) |
                VIRTIO_F(F_GUEST_TSO6) | VIRTIO_F(F_HOST_TSO4) | VIRTIO_F(F_HOST_TSO6) |
                VIRTIO_F(F_MRG_RXBUF) | VIRTIO_F(F_MAC) | VIRTIO_F(F_STATUS),
    .make = make,
    .activate = activate,
    .queue = queue,
    .stop = stop,
    .free = net_free,
};
