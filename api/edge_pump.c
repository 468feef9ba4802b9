// SPDX-License-Identifier: Apache-2.0
/*
 * Moves one exchange between client and application: both directions at once,
 * one piece of at most 16 KiB in flight in each, nothing held back. A side that
 * does not read stops the other side's sender, and nothing else.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "edge_priv.h"

/* Bytes waiting to be written to one side. */
struct queue {
    struct buf b;
    size_t pos;
};

struct pump {
    struct exchange *x;
    const struct edge_ask *ask;
    struct conn *client, *app;
    struct http1 *app_http;
    struct http_reply reply;
    struct queue up, down; /* to the application, to the client */
    bool up_chunked, up_done, up_broken;
    bool down_chunked, have_head, down_done, raw;
    uint64_t resumed_us;
    short client_want, app_want; /* poll events each side waits for */
};

static void pump_free(struct pump *p)
{
    http1_free(p->app_http);
    buf_free(&p->up.b);
    buf_free(&p->down.b);
    free(p);
}

static void pump_free_auto(struct pump **p)
{
    if (*p)
        pump_free(*p);
}

static bool queue_empty(const struct queue *q)
{
    return q->pos == q->b.len;
}

/* Adds a piece of body, n == 0 being its end. */
static void queue_body(struct queue *q, const void *data, size_t n, bool chunked)
{
    if (chunked)
        buf_printf(&q->b, "%zx\r\n", n);
    buf_add(&q->b, data, n);
    if (chunked)
        buf_str(&q->b, "\r\n");
}

/* Writes what the peer takes now. 1: some, 0: none, negative: the peer is gone. */
static int queue_write(struct queue *q, struct conn *c, short *want)
{
    if (queue_empty(q))
        return 0;
    if (q->b.bad)
        return -ENOMEM;
    ssize_t n = conn_try_write(c, q->b.data + q->pos, q->b.len - q->pos);
    if (n == -EAGAIN) {
        *want |= c->want;
        return 0;
    }
    if (n < 0)
        return (int)n;
    q->pos += (size_t)n;
    if (queue_empty(q)) {
        buf_reset(&q->b);
        q->pos = 0;
    }
    return 1;
}

/* ---- client to application --------------------------------------------------------- */

static int fill_up(struct pump *p)
{
    uint8_t data[HTTP1_IN_CAP];
    ssize_t n;
    if (p->up_done || !queue_empty(&p->up))
        return 0;
    n = p->raw ? conn_try_read(p->client, data, sizeof data)
               : http1_try_body(p->x->h, data, sizeof data);
    if (n == -EAGAIN) {
        p->client_want |= p->client->want;
        return 0;
    }
    if (n < 0 || (n == 0 && p->raw))
        return -ECONNABORTED;
    if (n == 0)
        p->up_done = true;
    if (n > 0 || p->up_chunked)
        queue_body(&p->up, data, (size_t)n, p->up_chunked);
    return 1;
}

static int move_up(struct pump *p)
{
    int filled = fill_up(p);
    if (filled < 0)
        return filled;
    int r = queue_write(&p->up, p->app, &p->app_want);
    if (r < 0) {
        /* An application may answer without reading the body: its answer still counts. */
        p->up_broken = p->up_done = true;
        buf_reset(&p->up.b);
        p->up.pos = 0;
        return p->raw ? -EPIPE : 0;
    }
    return r | filled;
}

/* ---- application to client --------------------------------------------------------- */

static void begin_reply(struct pump *p)
{
    struct edge_reply_how how = {.resumed_us = p->resumed_us};
    const struct http_req *req = p->x->req;
    bool bodiless =
        strcmp(req->method, "HEAD") == 0 || p->reply.status == 204 || p->reply.status == 304;
    how.upgraded = p->reply.status == 101;
    bool unknown = !bodiless && !how.upgraded && http1_body_length(p->app_http) < 0;
    how.chunked = p->down_chunked = unknown && req->minor >= 1;
    /* Without chunks only the end of the connection says where the body ends. */
    p->x->close =
        p->x->close || http1_must_close(p->x->h) || (unknown && !how.chunked) || how.upgraded;
    how.close = p->x->close;
    edge_reply_text(&p->down.b, req, p->ask, &p->reply, &how);
    p->have_head = true;
    p->x->status = p->reply.status;
    if (bodiless)
        p->down_done = true;
    if (!how.upgraded)
        return;
    p->raw = true;
    p->up_done = p->up_chunked = false;
    while (http1_has_rest(p->app_http)) {
        uint8_t *at = buf_reserve(&p->down.b, HTTP1_IN_CAP);
        if (!at)
            return;
        p->down.b.len += http1_take_rest(p->app_http, at, HTTP1_IN_CAP);
    }
    while (http1_has_rest(p->x->h)) {
        uint8_t *at = buf_reserve(&p->up.b, HTTP1_IN_CAP);
        if (!at)
            return;
        p->up.b.len += http1_take_rest(p->x->h, at, HTTP1_IN_CAP);
    }
}

static int fill_head(struct pump *p, struct err *e)
{
    bool head = strcmp(p->x->req->method, "HEAD") == 0;
    int r = http1_try_reply(p->app_http, &p->reply, head, e);
    if (r == -EAGAIN) {
        p->app_want |= p->app->want;
        return 0;
    }
    if (r == 0 && p->reply.status == 101 &&
        (!p->ask->upgrade || !http_reply_header(&p->reply, "upgrade")))
        r = err_set(e, EBADMSG, "the application switched protocols without being asked");
    if (r < 0)
        return r;
    begin_reply(p);
    return 1;
}

static int fill_down(struct pump *p, struct err *e)
{
    uint8_t data[HTTP1_IN_CAP];
    ssize_t n;
    if (p->down_done || !queue_empty(&p->down))
        return 0;
    if (!p->have_head)
        return fill_head(p, e);
    n = p->raw ? conn_try_read(p->app, data, sizeof data)
               : http1_try_body(p->app_http, data, sizeof data);
    if (n == -EAGAIN) {
        p->app_want |= p->app->want;
        return 0;
    }
    if (n < 0)
        return (int)n;
    if (n == 0)
        p->down_done = true;
    if (n > 0 || p->down_chunked)
        queue_body(&p->down, data, (size_t)n, p->down_chunked && !p->raw);
    return 1;
}

static int move_down(struct pump *p, struct err *e)
{
    int filled = fill_down(p, e);
    if (filled < 0)
        return filled;
    int r = queue_write(&p->down, p->client, &p->client_want);
    return r < 0 ? -ECONNABORTED : r | filled;
}

/* Waits until a side can go on. -ECONNABORTED: the client has left. */
static int pump_wait(struct pump *p, int64_t deadline)
{
    struct pollfd fds[2] = {
        {.fd = p->client->fd, .events = (short)(p->client_want | POLLRDHUP)},
        {.fd = p->app->fd, .events = p->app_want},
    };
    int64_t left = deadline - clock_ms();
    if (left <= 0)
        return -ETIMEDOUT;
    int n = poll(fds, p->app_want ? 2 : 1, left > 3600000 ? 3600000 : (int)left);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    bool reading = (p->client_want & POLLIN) != 0;
    if ((fds[0].revents & (POLLHUP | POLLERR)) || ((fds[0].revents & POLLRDHUP) && !reading))
        return -ECONNABORTED;
    return 0;
}

static int pump_run(struct pump *p, int silence_ms, int upgrade_silence_ms, struct err *e)
{
    int64_t deadline = clock_ms() + silence_ms;
    for (;;) {
        p->client_want = p->app_want = 0;
        int up = move_up(p);
        if (up < 0)
            return up;
        int down = move_down(p, e);
        if (down < 0)
            return down;
        if (p->down_done && queue_empty(&p->down))
            return 0;
        if (up + down > 0) {
            deadline = clock_ms() + (p->raw ? upgrade_silence_ms : silence_ms);
            continue;
        }
        int r = pump_wait(p, deadline);
        if (r < 0)
            return r;
    }
}

int edge_pump(struct exchange *x, const struct edge_ask *a, struct conn *app,
              uint64_t resumed_us, int silence_ms, int upgrade_silence_ms, struct err *e)
{
    AUTO(pump_free_auto) struct pump *p = calloc(1, sizeof *p);
    if (!p)
        return err_sys(e, ENOMEM, "pass the request on");
    int r = http1_new(&p->app_http, app, HTTP1_RESPONSES, e);
    if (r < 0)
        return r;
    int64_t length = http1_body_done(x->h) ? 0 : http1_body_length(x->h);
    p->x = x;
    p->ask = a;
    p->client = x->c;
    p->app = app;
    p->resumed_us = resumed_us;
    p->up_chunked = length < 0;
    p->up_done = http1_body_done(x->h);
    edge_request_text(&p->up.b, x->req, a, length);
    r = pump_run(p, silence_ms, upgrade_silence_ms, e);
    if (r == -ECONNABORTED || (r < 0 && p->have_head)) {
        x->close = true; /* nobody to tell, or too late */
        return 0;
    }
    if (r == -ETIMEDOUT)
        return err_set(e, ETIMEDOUT, "the application did not answer within %d s",
                       silence_ms / 1000);
    if (r < 0 && e->num == 0)
        return err_sys(e, -r, "pass the request on");
    if (r < 0)
        return r;
    if (!p->up_done || p->raw)
        x->close = true;
    return 0;
}
