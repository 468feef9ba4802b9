// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: packets (virtio 1.2, 5.10) between the queues and the
 * connections of vsock_conn.c. Each connection that has something for the
 * guest stands in a queue; a free receive buffer goes to the next one. Packets
 * that make no sense are answered with RST or ignored.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../guest/abi/proto.h"
#include "base/mem.h"
#include "vsock.h"

enum { RX, TX, EVENT };
enum {
    OP_REQUEST = 1,
    OP_RESPONSE,
    OP_RST,
    OP_SHUTDOWN,
    OP_RW,
    OP_CREDIT_UPDATE,
    OP_CREDIT_REQUEST
};

#define HEADER   44u
#define HOST_CID GP_HOST_CID
#define DATA_MAX (64u << 10)
#define BATCH    64u

/* As it lies in guest memory: little-endian, like this machine (virtq.c). */
struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct packet) == HEADER, "a header as virtio lays it out");
/* A little more, and musl takes it from among others and clears it: thirteen faults. */
_Static_assert(sizeof(struct vsock) <= 12 * 4096 - 20, "calloc() gives it pages of its own");

/* ---- host to guest --------------------------------------------------------------------- */

bool vsock_owe_reset(struct vsock *s, uint32_t guest_port, uint32_t host_port, uint16_t type)
{
    if (s->nresets == VSOCK_RESETS)
        return false;
    s->resets[(s->reset_first + s->nresets++) % VSOCK_RESETS] =
        (struct reset){guest_port, host_port, type};
    return true;
}

void vsock_lost(struct vsock_conn *c)
{
    /* A request the guest has not seen needs no end. */
    if (!(c->due & VSOCK_DUE_REQUEST))
        vsock_owe_reset(c->s, c->guest_port, c->host_port, VSOCK_TYPE_STREAM);
    vsock_conn_close(c);
}

static void put_packet(const struct vsock *s, unsigned niov, struct packet *p)
{
    p->src_cid = HOST_CID;
    p->dst_cid = CTL_CID;
    iov_write(s->iov, niov, 0, p, sizeof *p);
}

/* Reads data behind the header; returns how many bytes. */
static uint32_t fill_data(struct vsock *s, struct vsock_conn *c, unsigned niov)
{
    struct iovec data[VIRTQ_CHAIN];
    uint32_t max = MIN(vsock_conn_sendable(c), DATA_MAX);
    if (max == 0)
        return 0;
    memcpy(data, s->iov, niov * sizeof data[0]);
    unsigned skip = iov_skip(data, niov, HEADER);
    unsigned n = iov_clip(data + skip, niov - skip, max);
    return n ? vsock_conn_read(c, data + skip, n) : 0;
}

/* One packet from the connection into the buffer at hand; its length, 0: nothing to say. */
static uint32_t send_one(struct vsock *s, struct vsock_conn *c, unsigned niov)
{
    struct packet p = {.src_port = c->host_port,
                       .dst_port = c->guest_port,
                       .type = VSOCK_TYPE_STREAM,
                       .buf_alloc = VSOCK_BUF};
    if (c->due & VSOCK_DUE_REQUEST) {
        p.op = OP_REQUEST;
        c->due &= (uint8_t)~VSOCK_DUE_REQUEST;
    } else if (c->due & VSOCK_DUE_RESPONSE) {
        p.op = OP_RESPONSE;
        c->due &= (uint8_t)~VSOCK_DUE_RESPONSE;
    } else if ((p.len = fill_data(s, c, niov)) > 0) {
        p.op = OP_RW;
    } else if ((c->due & VSOCK_DUE_SHUTDOWN) && !c->back_len) {
        p.op = OP_SHUTDOWN;
        p.flags = c->hup ? VSOCK_SHUT_BOTH : VSOCK_SHUT_SEND;
        c->shut_sent |= (uint8_t)p.flags;
        c->due &= (uint8_t)~VSOCK_DUE_SHUTDOWN;
    } else if (c->due & VSOCK_DUE_CREDIT) {
        p.op = OP_CREDIT_UPDATE;
    } else {
        return 0;
    }
    c->due &= (uint8_t)~VSOCK_DUE_CREDIT; /* every packet tells it */
    p.fwd_cnt = c->fwd_told = c->fwd;
    put_packet(s, niov, &p);
    return HEADER + p.len;
}

static uint32_t send_next(struct vsock *s, unsigned niov)
{
    if (s->nresets) {
        const struct reset *r = &s->resets[s->reset_first];
        struct packet p = {
            .src_port = r->host_port, .dst_port = r->guest_port, .type = r->type, .op = OP_RST};
        s->reset_first = (s->reset_first + 1) % VSOCK_RESETS;
        s->nresets--;
        put_packet(s, niov, &p);
        return HEADER;
    }
    struct vsock_conn *c;
    while ((c = vsock_conn_next(s)) != NULL) {
        uint32_t len = send_one(s, c, niov);
        if (len) {
            vsock_conn_queue(c); /* at the end: others first */
            return len;
        }
    }
    return 0;
}

void vsock_rx(struct vsock *s)
{
    struct virtq_chain c;
    if ((!s->nresets && !s->head) || !virtio_begin(&s->v, RX))
        return;
    for (unsigned i = 0; s->nresets || s->head; i++) {
        if (virtio_enough(&s->v, i, BATCH))
            break;
        if (!virtio_pop(&s->v, RX, &c, s->iov, VIRTQ_CHAIN))
            break; /* the guest rings when it has buffers again */
        if (c.n_out || c.in_len < HEADER) {
            virtio_break(&s->v, "gave a receive buffer too small for a packet");
            break;
        }
        uint32_t len = send_next(s, c.n_in);
        if (len == 0) {
            virtq_unpop(&s->v.vq[RX], 1);
            break;
        }
        virtq_push(&s->v.vq[RX], c.head, len);
    }
    virtio_signal(&s->v, RX);
    if (s->tx_waits && s->nresets < VSOCK_RESETS / 2)
        virtio_after(&s->v, 0);
}

/* ---- guest to host --------------------------------------------------------------------- */

/* A socket pair: one end stays with the connection, the other goes out. */
static bool announce(struct vsock *s, struct vsock_conn *c)
{
    int sp[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) < 0)
        return false;
    if (s->hooks.vsock_connect(s->hooks.ctx, c->guest_port, c->host_port, sp[1]) < 0) {
        close(sp[0]);
        return false;
    }
    vsock_conn_attach(c, sp[0]);
    return true;
}

static void request(struct vsock *s, const struct packet *p)
{
    struct vsock_conn *c = vsock_conn_new(s, p->src_port, p->dst_port, -1);
    if (!c) {
        vsock_owe_reset(s, p->src_port, p->dst_port, p->type);
        return;
    }
    c->state = VSOCK_OPEN;
    c->guest_alloc = p->buf_alloc;
    c->guest_fwd = p->fwd_cnt;
    c->due = VSOCK_DUE_RESPONSE;
    if (announce(s, c))
        vsock_conn_queue(c);
    else
        vsock_lost(c);
}

static void response(struct vsock *s, struct vsock_conn *c)
{
    if (c->state != VSOCK_CONNECTING || (c->due & VSOCK_DUE_REQUEST)) {
        vsock_lost(c);
        return;
    }
    c->state = VSOCK_OPEN;
    c->readable = true;
    ring_cancel(s->v.dev.env.ring, &c->in); /* it only listens for the peer's end */
    vsock_conn_queue(c);
}

static void handle(struct vsock *s, const struct packet *p, struct iovec *data, unsigned n)
{
    struct vsock_conn *c = vsock_conn_find(s, p->src_port, p->dst_port);
    bool ok = true;
    if (p->type != VSOCK_TYPE_STREAM || (!c && p->op != OP_REQUEST)) {
        if (p->op != OP_RST)
            vsock_owe_reset(s, p->src_port, p->dst_port, p->type);
        return;
    }
    if (!c) {
        request(s, p);
        return;
    }
    c->guest_alloc = p->buf_alloc;
    c->guest_fwd = p->fwd_cnt;
    if (c->state == VSOCK_CONNECTING && p->op != OP_RESPONSE && p->op != OP_RST) {
        vsock_lost(c);
        return;
    }
    switch (p->op) {
    case OP_RESPONSE:
        response(s, c);
        return;
    case OP_RST:
        vsock_conn_close(c);
        return;
    case OP_RW:
        ok = vsock_conn_write(c, data, n, p->len);
        break;
    case OP_SHUTDOWN:
        ok = vsock_conn_shutdown(c, p->flags);
        break;
    case OP_CREDIT_REQUEST:
        c->due |= VSOCK_DUE_CREDIT;
        break;
    case OP_CREDIT_UPDATE:
        break;
    default: /* a second REQUEST, or no operation at all */
        ok = false;
        break;
    }
    if (ok)
        vsock_conn_queue(c);
    else
        vsock_lost(c);
}

static void tx(struct vsock *s)
{
    struct virtq_chain c;
    if (!virtio_begin(&s->v, TX))
        return;
    s->tx_waits = false;
    for (unsigned i = 0;; i++) {
        /* Each packet may cost two resets at most. */
        if (s->nresets > VSOCK_RESETS - 2) {
            s->tx_waits = true;
            break;
        }
        if (virtio_enough(&s->v, i, BATCH))
            break;
        if (!virtio_pop(&s->v, TX, &c, s->iov, VIRTQ_CHAIN))
            break;
        if (c.out_len >= HEADER) {
            struct packet p;
            iov_read(s->iov, c.n_out, 0, &p, sizeof p);
            unsigned skip = iov_skip(s->iov, c.n_out, HEADER);
            bool ours = p.src_cid == CTL_CID && p.dst_cid == HOST_CID;
            if (ours && (p.len > c.out_len - HEADER || p.len > DATA_MAX))
                vsock_owe_reset(s, p.src_port, p.dst_port, p.type);
            else if (ours)
                handle(s, &p, s->iov + skip, iov_clip(s->iov + skip, c.n_out - skip, p.len));
        }
        virtq_push(&s->v.vq[TX], c.head, 0);
    }
    virtio_signal(&s->v, TX);
    vsock_rx(s);
}

static void queue(struct virtio *v, unsigned i)
{
    struct vsock *s = container_of(v, struct vsock, v);
    if (i == RX)
        vsock_rx(s);
    else if (i == TX)
        tx(s);
}

static void reset(struct virtio *v)
{
    struct vsock *s = container_of(v, struct vsock, v);
    for (unsigned i = 0; i < s->used; i++)
        vsock_conn_close(&s->conns[i]);
    s->nresets = 0;
    s->tx_waits = false;
}

int virtio_vsock_open(struct dev *d, uint32_t guest_port, int fd, struct err *e)
{
    struct vsock *s = container_of(d, struct vsock, v.dev);
    if (!s->v.active || s->v.broken) {
        close(fd);
        return err_set(e, ENOTCONN, "the guest has no vsock driver running");
    }
    do {
        if (s->next_port++ == UINT32_MAX - 1)
            s->next_port = VSOCK_FIRST_PORT;
    } while (vsock_conn_find(s, guest_port, s->next_port));
    struct vsock_conn *c = vsock_conn_new(s, guest_port, s->next_port, fd);
    if (!c) {
        close(fd);
        return err_set(e, EMFILE, "all %u vsock connections are in use", VSOCK_CONNS);
    }
    c->state = VSOCK_CONNECTING;
    c->due = VSOCK_DUE_REQUEST;
    vsock_conn_poll(c);
    vsock_conn_queue(c);
    vsock_rx(s);
    return 0;
}

/* Loaded connections get their sockets. */
static int start(struct virtio *v, struct err *e)
{
    struct vsock *s = container_of(v, struct vsock, v);
    (void)e;
    for (unsigned i = 0; i < s->used; i++) {
        struct vsock_conn *c = &s->conns[i];
        if (c->state != VSOCK_OPEN || c->fd >= 0)
            continue;
        if (announce(s, c))
            vsock_conn_queue(c);
        else
            vsock_lost(c);
    }
    return 0;
}

/* ---- making ---------------------------------------------------------------------------- */

static void vsock_free(struct virtio *v)
{
    struct vsock *s = container_of(v, struct vsock, v);
    for (unsigned i = 0; i < s->used; i++) {
        struct vsock_conn *c = &s->conns[i];
        if (c->state != VSOCK_FREE && c->fd >= 0)
            close(c->fd);
        free(c->buf);
        free(c->back);
    }
}

static int make(struct virtio *v, struct dev_order *o, struct err *e)
{
    struct vsock *s = container_of(v, struct vsock, v);
    (void)e;
    s->hooks = *o->hooks;
    s->next_port = VSOCK_FIRST_PORT;
    put_le64(v->config, CTL_CID);
    return 0;
}

const struct virtio_ops virtio_vsock_ops = {
    .dev = VIRTIO_DEV("virtio-vsock", 0x4b4f5356 /* "VSOK" */, struct vsock),
    .id = 19,
    .nqueues = 3,
    .ndoorbells = 2,
    .queue_size = {128, 128, 16},
    .config_len = 8,
    .make = make,
    .queue = queue,
    .reset = reset,
    .start = start,
    .save = vsock_save,
    .load = vsock_load,
    .free = vsock_free,
};
