// SPDX-License-Identifier: Apache-2.0
/* See chan.h. */
#include "chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_MIN   4096u
#define KEEP_MAX 65536u

static void down(struct chan *c)
{
    chan_close(c);
    if (c->on_down)
        c->on_down(c);
}

/* False when the stream broke. */
static bool flush(struct chan *c)
{
    while (c->out_off < c->out_len) {
        ssize_t n = write(c->ev.fd, c->out + c->out_off, c->out_len - c->out_off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            c->blocked = true;
            loop_events(c->loop, &c->ev, EPOLLIN | EPOLLOUT);
            return true;
        }
        if (n <= 0)
            return false;
        c->out_off += (size_t)n;
    }
    c->out_off = c->out_len = 0;
    if (c->out_cap > KEEP_MAX) {
        free(c->out);
        c->out = NULL;
        c->out_cap = 0;
    }
    return true;
}

static bool grow(uint8_t **p, size_t *cap, size_t want)
{
    if (want <= *cap)
        return true;
    size_t n = *cap ? *cap : IN_MIN;
    while (n < want)
        n *= 2;
    uint8_t *q = realloc(*p, n);
    if (!q)
        return false;
    *p = q;
    *cap = n;
    return true;
}

/* Handles every whole message in the buffer. False on nonsense. */
static bool take_messages(struct chan *c)
{
    size_t off = 0;
    while (chan_up(c) && c->in_len - off >= GP_HEADER_SIZE) {
        struct gp_header h;
        if (!gp_header_get(c->in + off, &h))
            return false;
        if (c->in_len - off - GP_HEADER_SIZE < h.len)
            break;
        const uint8_t *body = c->in + off + GP_HEADER_SIZE;
        if (!tlv_valid(body, h.len))
            return false;
        off += GP_HEADER_SIZE + h.len;
        c->on_msg(c, &h, body);
    }
    if (!chan_up(c))
        return true; /* the handler closed it */
    c->in_len -= off;
    if (off > 0 && c->in_len > 0)
        memmove(c->in, c->in + off, c->in_len);
    if (c->in_len == 0 && c->in_cap > KEEP_MAX) {
        free(c->in);
        c->in = NULL;
        c->in_cap = 0;
    }
    return true;
}

/* How many bytes the buffer must hold for the message that has begun. */
static size_t wanted(const struct chan *c)
{
    struct gp_header h;
    if (c->in_len < GP_HEADER_SIZE || !gp_header_get(c->in, &h))
        return IN_MIN;
    return GP_HEADER_SIZE + (size_t)h.len;
}

static void on_event(struct ev *ev, uint32_t events)
{
    struct chan *c = (struct chan *)(void *)ev; /* ev is the first member */
    if (events & EPOLLOUT) {
        c->blocked = false;
        loop_events(c->loop, &c->ev, EPOLLIN);
        if (!flush(c)) {
            down(c);
            return;
        }
        if (chan_queued(c) == 0 && c->on_sent)
            c->on_sent(c);
        if (!chan_up(c))
            return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    if (!grow(&c->in, &c->in_cap, wanted(c))) {
        down(c);
        return;
    }
    ssize_t n = read(c->ev.fd, c->in + c->in_len, c->in_cap - c->in_len);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        down(c);
        return;
    }
    c->in_len += (size_t)n;
    if (!take_messages(c))
        down(c);
}

int chan_open(struct chan *c, struct loop *l, int fd)
{
    c->loop = l;
    c->ev.fn = on_event;
    c->blocked = false;
    fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
    return loop_add(l, &c->ev, fd, EPOLLIN);
}

void chan_close(struct chan *c)
{
    int fd = c->ev.fd;
    if (fd >= 0) {
        loop_del(c->loop, &c->ev);
        close(fd);
    }
    free(c->in);
    free(c->out);
    c->in = c->out = NULL;
    c->in_len = c->in_cap = c->out_off = c->out_len = c->out_cap = 0;
}

uint8_t *chan_begin(struct chan *c, size_t cap)
{
    if (!chan_up(c) || chan_queued(c) + GP_HEADER_SIZE + cap > CHAN_OUT_MAX)
        return NULL;
    if (c->out_off > 0) {
        memmove(c->out, c->out + c->out_off, chan_queued(c));
        c->out_len -= c->out_off;
        c->out_off = 0;
    }
    if (!grow(&c->out, &c->out_cap, c->out_len + GP_HEADER_SIZE + cap))
        return NULL;
    return c->out + c->out_len + GP_HEADER_SIZE;
}

void chan_commit(struct chan *c, uint16_t type, uint32_t id, size_t len)
{
    gp_header_put(c->out + c->out_len, type, id, (uint32_t)len);
    c->out_len += GP_HEADER_SIZE + len;
}

void chan_flush(struct chan *c)
{
    /* A broken stream is noticed by the next read event, not inside a caller. */
    if (chan_up(c) && !c->blocked && !flush(c))
        c->out_off = c->out_len = 0;
}

int chan_send(struct chan *c, uint16_t type, uint32_t id, const void *body, size_t len)
{
    if (!chan_up(c))
        return -ENOTCONN;
    uint8_t *at = chan_begin(c, len);
    if (!at)
        return -ENOBUFS;
    if (len > 0)
        memcpy(at, body, len);
    chan_commit(c, type, id, len);
    chan_flush(c);
    return 0;
}
