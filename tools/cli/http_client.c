// SPDX-License-Identifier: Apache-2.0
/* HTTPS requests; see http_client.h. */
#include "http_client.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "dial.h"
#include "settings.h"

#define CONNECT_MS 10000
#define STALL_MS   60000
#define CHUNK      65536u

int http_client_init(struct http_client *hc, struct tls_client *tls, const char *authority,
                     struct err *e)
{
    *hc = (struct http_client){.tls = tls, .port = 443, .wake_fd = -1};
    snprintf(hc->authority, sizeof hc->authority, "%s", authority);
    return authority_split(authority, hc->host, &hc->port, e);
}

void http_client_close(struct http_client *hc)
{
    http1_free(hc->h);
    if (hc->c)
        conn_finish(hc->c);
    conn_close(hc->c);
    hc->h = NULL;
    hc->c = NULL;
    hc->used = false;
}

int http_client_connect(struct http_client *hc, int limit_ms, struct err *e)
{
    int fd;
    int64_t deadline = clock_ms() + MIN(limit_ms, CONNECT_MS);
    if (hc->c)
        return 0;
    int r = dial(hc->host, hc->port, deadline, &fd, e);
    if (r == 0)
        r = tls_connect(hc->tls, fd, hc->host, deadline, &hc->c, e);
    if (r == 0 && (r = http1_new(&hc->h, hc->c, HTTP1_RESPONSES, e)) < 0)
        http_client_close(hc);
    return r;
}

static void head_text(const struct http_client *hc, const struct http_req *req,
                      const struct http_body *body, struct buf *b)
{
    bool any_body = body || strcmp(req->method, "POST") == 0 || strcmp(req->method, "PUT") == 0;
    buf_printf(b, "%s %s%s%s HTTP/1.1\r\n", req->method, req->path, req->query[0] ? "?" : "",
               req->query);
    if (!http_req_header(req, "host"))
        buf_printf(b, "Host: %s\r\n", hc->authority);
    for (size_t i = 0; i < req->nheaders; i++)
        buf_printf(b, "%s: %s\r\n", req->headers[i].name, req->headers[i].value);
    if (any_body)
        buf_printf(b, "Content-Length: %" PRIu64 "\r\n", body ? body->size : 0);
    buf_str(b, "\r\n");
}

static int send_file(struct conn *c, const struct http_body *body, struct err *e)
{
    AUTO_FREE uint8_t *data = malloc(CHUNK);
    if (!data)
        return err_sys(e, ENOMEM, "send a file");
    for (uint64_t at = 0; at < body->size;) {
        size_t n = (size_t)MIN(body->size - at, (uint64_t)CHUNK);
        int r = fd_pread_full(body->fd, data, n, at);
        if (r < 0)
            return err_sys(e, -r, "read the file to be sent");
        r = conn_write(c, data, n, STALL_MS);
        if (r < 0)
            return err_sys(e, -r, "send a file");
        at += n;
    }
    return 0;
}

/* 0, -EINTR, -ETIMEDOUT, -errno. */
static int wait_reply(const struct http_client *hc, int64_t deadline)
{
    struct pollfd p[2] = {{.fd = hc->c->fd, .events = hc->c->want},
                          {.fd = hc->wake_fd, .events = POLLIN}};
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        int n = poll(p, 2, (int)MIN(left, (int64_t)3600000));
        if (n > 0)
            return p[1].revents ? -EINTR : 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int send_once(struct http_client *hc, const struct buf *head,
                     const struct http_body *body, bool no_body, int limit_ms,
                     struct http_reply *ret, struct err *e)
{
    int r = conn_write(hc->c, head->data, head->len, STALL_MS);
    if (r < 0)
        return err_sys(e, -r, "send the request");
    if (body && body->fd >= 0)
        r = send_file(hc->c, body, e);
    else if (body && body->size &&
             (r = conn_write(hc->c, body->data, body->size, STALL_MS)) < 0)
        err_sys(e, -r, "send the request's body");
    struct err why = ERR_INIT;
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        return r; /* else the peer may have said why it wants no more */
    int64_t deadline = clock_ms() + limit_ms;
    for (;;) {
        int n = http1_try_reply(hc->h, ret, no_body, &why);
        if (n == 0)
            return 0;
        if (n == -EAGAIN)
            n = wait_reply(hc, deadline);
        if (n == -EINTR)
            return err_set(e, EINTR, "interrupted");
        if (n == -ETIMEDOUT)
            return err_set(e, ETIMEDOUT, "no answer within %d s", limit_ms / 1000);
        if (n == -ENODATA)
            return err_set(e, ENODATA, "'%.100s' closed the connection without an answer",
                           hc->host);
        if (n < 0) {
            if (r < 0)
                return r; /* the failure to send came first */
            return why.num ? err_set(e, -n, "%s", why.msg)
                           : err_sys(e, -n, "wait for an answer");
        }
    }
}

int http_client_send(struct http_client *hc, const struct http_req *req,
                     const struct http_body *body, int limit_ms, struct http_reply *ret,
                     struct err *e)
{
    AUTO(buf_free) struct buf head = BUF_INIT;
    bool no_body = strcmp(req->method, "HEAD") == 0;
    head_text(hc, req, body, &head);
    if (head.bad)
        return err_sys(e, ENOMEM, "make a request");
    for (;;) {
        int r = http_client_connect(hc, limit_ms, e);
        if (r < 0)
            return r;
        bool old = hc->used;
        r = send_once(hc, &head, body, no_body, limit_ms, ret, e);
        if (r == 0) {
            hc->used = true;
            return 0;
        }
        http_client_close(hc);
        /* The peer may close a connection it has kept for long at any time. */
        if (!old || (r != -ENODATA && r != -EPIPE && r != -ECONNRESET))
            return r;
        err_clear(e);
    }
}

void http_client_done(struct http_client *hc)
{
    if (hc->h && (!http1_body_done(hc->h) || http1_must_close(hc->h)))
        http_client_close(hc);
}
