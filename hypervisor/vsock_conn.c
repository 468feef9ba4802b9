// SPDX-License-Identifier: Apache-2.0
/* Connections of the vsock device; see vsock.h. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "vsock.h"

#define CREDIT_STEP (VSOCK_BUF / 4) /* tell the guest of room in steps of this */

static void unqueue(struct vsock_conn *c)
{
    struct vsock *s = c->s;
    struct vsock_conn *prev = NULL, *i = s->head;
    if (!c->queued)
        return;
    while (i != c) {
        prev = i;
        i = i->next;
    }
    if (prev)
        prev->next = c->next;
    else
        s->head = c->next;
    if (s->tail == c)
        s->tail = prev;
    c->queued = false;
}

/* The kernel may hold on to the ring_ops a little longer than we want the connection. */
static void release(struct vsock_conn *c)
{
    if (c->state != VSOCK_CLOSING || c->in.armed || c->out.armed)
        return;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = VSOCK_FREE;
}

void vsock_conn_close(struct vsock_conn *c)
{
    if (c->state == VSOCK_FREE || c->state == VSOCK_CLOSING)
        return;
    unqueue(c);
    c->state = VSOCK_CLOSING;
    free(c->buf);
    free(c->back);
    c->buf = c->back = NULL;
    c->buf_len = c->back_len = 0;
    /* The peer learns of it now, even if the descriptor lives on for a moment. */
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_RDWR);
    ring_cancel(c->s->v.dev.env.ring, &c->in);
    ring_cancel(c->s->v.dev.env.ring, &c->out);
    release(c);
}

/* ---- the socket ------------------------------------------------------------------------ */

static void consumed(struct vsock_conn *c, uint32_t n)
{
    c->fwd += n;
    if (c->fwd - c->fwd_told >= CREDIT_STEP)
        c->due |= VSOCK_DUE_CREDIT;
}

/* False: the host will never take them. */
static bool send_some(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t *ret)
{
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (uint16_t)n};
    *ret = 0;
    if (c->fd < 0)
        return true;
    ssize_t r = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r < 0)
        return errno == EAGAIN || errno == EINTR || errno == ENOBUFS;
    *ret = (uint32_t)r;
    consumed(c, *ret);
    return true;
}

/* Passes on what is buffered, then the guest's end of stream. False: over. */
static bool flush(struct vsock_conn *c)
{
    while (c->buf_len) {
        struct iovec iov = {c->buf + c->buf_off, MIN(c->buf_len, VSOCK_BUF - c->buf_off)};
        uint32_t n;
        if (!send_some(c, &iov, 1, &n))
            return false;
        if (n == 0)
            break;
        c->buf_off = (c->buf_off + n) % VSOCK_BUF;
        c->buf_len -= n;
    }
    if (c->buf_len == 0 && (c->shut_guest & VSOCK_SHUT_SEND)) {
        if (c->shut_guest == VSOCK_SHUT_BOTH)
            return false;
        shutdown(c->fd, SHUT_WR);
    }
    return true;
}

void vsock_conn_poll(struct vsock_conn *c)
{
    struct ring *ring = c->s->v.dev.env.ring;
    if (c->fd < 0 || c->state == VSOCK_CLOSING || c->state == VSOCK_FREE)
        return;
    /* With no event asked for, a poll still reports that the peer is gone. */
    bool wants = c->state == VSOCK_OPEN && !c->eof;
    if (!c->in.armed && !c->hup && !(wants && c->readable))
        ring_poll(ring, &c->in, c->fd, wants ? POLLIN | POLLRDHUP : 0);
    if (!c->out.armed && c->buf_len)
        ring_poll(ring, &c->out, c->fd, POLLOUT);
}

static void in_done(struct ring_op *op, int res)
{
    struct vsock_conn *c = container_of(op, struct vsock_conn, in);
    if (c->state == VSOCK_CLOSING) {
        release(c);
        return;
    }
    if (res == -ECANCELED) { /* to listen for something else */
        vsock_conn_poll(c);
        return;
    }
    c->readable = true;
    if (res < 0 || (res & (POLLHUP | POLLERR)))
        c->hup = true;
    if (c->hup && c->state == VSOCK_CONNECTING) {
        vsock_lost(c);
    } else if (c->hup && c->eof) {
        c->due |= VSOCK_DUE_SHUTDOWN;
        vsock_conn_queue(c);
    } else {
        vsock_conn_queue(c);
        vsock_conn_poll(c);
    }
    vsock_rx(c->s);
}

static void out_done(struct ring_op *op, int res)
{
    struct vsock_conn *c = container_of(op, struct vsock_conn, out);
    (void)res; /* sending tells what is wrong */
    if (c->state == VSOCK_CLOSING) {
        release(c);
        return;
    }
    if (flush(c)) {
        vsock_conn_queue(c);
        vsock_conn_poll(c);
    } else {
        vsock_lost(c);
    }
    vsock_rx(c->s);
}

uint32_t vsock_conn_read(struct vsock_conn *c, struct iovec *iov, unsigned n)
{
    if (c->back_len) {
        uint32_t got = (uint32_t)iov_write(iov, n, 0, c->back + c->back_off, c->back_len);
        c->back_off += got;
        c->back_len -= got;
        if (c->back_len == 0) {
            free(c->back);
            c->back = NULL;
            c->back_off = 0;
        }
        c->sent += got;
        return got;
    }
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (uint16_t)n};
    ssize_t r = recvmsg(c->fd, &m, MSG_DONTWAIT);
    if (r > 0) {
        c->sent += (uint32_t)r;
        return (uint32_t)r;
    }
    c->readable = false;
    if (r == 0 || (errno != EAGAIN && errno != EINTR)) {
        c->eof = true;
        c->hup |= r < 0;
        c->due |= VSOCK_DUE_SHUTDOWN;
    }
    vsock_conn_poll(c);
    return 0;
}

bool vsock_conn_write(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t len)
{
    uint32_t done = 0;
    if (len > VSOCK_BUF - (c->received - c->fwd) || (c->shut_guest & VSOCK_SHUT_SEND))
        return false;
    c->received += len;
    if (c->buf_len == 0 && !send_some(c, iov, n, &done))
        return false;
    while (done < len) {
        uint32_t at = (c->buf_off + c->buf_len) % VSOCK_BUF;
        uint32_t part = MIN(len - done, VSOCK_BUF - at);
        iov_read(iov, n, done, c->buf + at, part);
        c->buf_len += part;
        done += part;
    }
    vsock_conn_poll(c);
    return true;
}

bool vsock_conn_shutdown(struct vsock_conn *c, uint32_t flags)
{
    c->shut_guest |= (uint8_t)(flags & VSOCK_SHUT_BOTH);
    return flush(c);
}

static ssize_t receive(int fd, void *p, size_t len, int flags)
{
    struct iovec iov = {p, len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    return recvmsg(fd, &m, flags | MSG_DONTWAIT);
}

int vsock_conn_drain(struct vsock_conn *c)
{
    for (;;) {
        char probe;
        uint32_t used = c->back_off + c->back_len, room = 64u << 10;
        if (c->eof || c->fd < 0)
            return c->fd < 0 ? 0 : -ENOTCONN;
        ssize_t r = receive(c->fd, &probe, 1, MSG_PEEK);
        if (r < 0)
            return errno == EAGAIN ? 0 : -ENOTCONN;
        if (r == 0)
            return -ENOTCONN;
        if (used + room > VSOCK_BACK_MAX)
            return -ENOBUFS;
        uint8_t *p = realloc(c->back, used + room);
        if (!p)
            return -ENOBUFS;
        c->back = p;
        r = receive(c->fd, p + used, room, 0);
        if (r > 0)
            c->back_len += (uint32_t)r;
    }
}

/* ---- the table ------------------------------------------------------------------------- */

struct vsock_conn *vsock_conn_new(struct vsock *s, uint32_t guest_port, uint32_t host_port,
                                  int fd)
{
    unsigned i = 0;
    while (i < s->used && s->conns[i].state != VSOCK_FREE)
        i++;
    if (i == VSOCK_CONNS)
        return NULL;
    uint8_t *buf = malloc(VSOCK_BUF);
    if (!buf)
        return NULL;
    if (i == s->used)
        s->used++;
    struct vsock_conn *c = &s->conns[i];
    *c = (struct vsock_conn){.s = s,
                             .guest_port = guest_port,
                             .host_port = host_port,
                             .fd = fd,
                             .buf = buf,
                             .in = {.done = in_done},
                             .out = {.done = out_done}};
    return c;
}

struct vsock_conn *vsock_conn_find(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
    for (unsigned i = 0; i < s->used; i++) {
        struct vsock_conn *c = &s->conns[i];
        if ((c->state == VSOCK_OPEN || c->state == VSOCK_CONNECTING) &&
            c->guest_port == guest_port && c->host_port == host_port)
            return c;
    }
    return NULL;
}

void vsock_conn_attach(struct vsock_conn *c, int fd)
{
    c->fd = fd;
    if (flush(c))
        vsock_conn_poll(c);
    else
        vsock_lost(c);
}

uint32_t vsock_conn_sendable(const struct vsock_conn *c)
{
    uint32_t flying = c->sent - c->guest_fwd;
    if (c->state != VSOCK_OPEN || (c->shut_guest & VSOCK_SHUT_RCV) || flying >= c->guest_alloc)
        return 0;
    bool any = c->back_len || (c->fd >= 0 && c->readable && !c->eof);
    return any ? c->guest_alloc - flying : 0;
}

void vsock_conn_queue(struct vsock_conn *c)
{
    struct vsock *s = c->s;
    if (c->queued || (c->state != VSOCK_OPEN && c->state != VSOCK_CONNECTING) ||
        (c->due == 0 && vsock_conn_sendable(c) == 0))
        return;
    c->next = NULL;
    c->queued = true;
    if (s->tail)
        s->tail->next = c;
    else
        s->head = c;
    s->tail = c;
}

struct vsock_conn *vsock_conn_next(struct vsock *s)
{
    struct vsock_conn *c = s->head;
    if (c) {
        s->head = c->next;
        if (!s->head)
            s->tail = NULL;
        c->queued = false;
    }
    return c;
}
