// SPDX-License-Identifier: Apache-2.0
/*
 * A stranger's connection: the first byte chooses a client's requests or an
 * application's response, the rest is what arrives. What is accepted must come
 * out of the proxy's rewriting as one message again, with the same meaning.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../api/edge_priv.h"
#include "../../api/http1.h"

#define INPUT_MAX 60000u /* fits a socket's buffer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct http1 *open_with(const void *data, size_t len, enum http1_kind kind)
{
    int pair[2];
    struct conn *c;
    struct http1 *h;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || conn_plain(&c, pair[0], NULL) < 0 ||
        http1_new(&h, c, kind, NULL) < 0)
        abort();
    if (len > 0 && send(pair[1], data, len, MSG_DONTWAIT) != (ssize_t)len)
        abort();
    close(pair[1]);
    return h;
}

static void close_all(struct http1 *h)
{
    struct conn *c = http1_conn(h);
    http1_free(h);
    conn_close(c);
}

static void check_headers(const struct http_header *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strpbrk(h[i].name, "\r\n: ") || strpbrk(h[i].value, "\r\n") || !*h[i].name)
            abort();
    }
}

/* The rewritten head must parse, to the same method, path, query and framing. */
static void check_rewritten(const struct http_req *r, int64_t length)
{
    struct edge_ask ask;
    struct err e = ERR_INIT;
    struct http_req again;
    if (edge_ask_read(&ask, r, &e) == 0) {
        struct buf b = BUF_INIT;
        ask.upgrade = ask.upgrade && length == 0;
        edge_request_text(&b, r, &ask, length);
        if (b.len < INPUT_MAX) {
            struct http1 *h = open_with(b.data, b.len, HTTP1_REQUESTS);
            int n = http1_read_request(h, &again, 1000, 1000, &e);
            /* Our own lines may be the ones too many. */
            if (n == 0 && (strcmp(again.method, r->method) || strcmp(again.path, r->path) ||
                           strcmp(again.query, r->query) ||
                           (http1_body_done(h) ? 0 : http1_body_length(h)) != length))
                abort();
            if (n != 0 && n != -E2BIG)
                abort();
            if (n == 0 && http_req_header(&again, "x-aws-proxy-auth"))
                abort();
            close_all(h);
        }
        buf_free(&b);
    }
    edge_ask_free(&ask);
}

static void requests(const uint8_t *data, size_t len)
{
    struct http1 *h = open_with(data, len, HTTP1_REQUESTS);
    struct http_req r;
    struct err e = ERR_INIT;
    while (http1_read_request(h, &r, 1000, 1000, &e) == 0) {
        struct buf body = BUF_INIT;
        check_headers(r.headers, r.nheaders);
        if ((r.path[0] != '/' && strcmp(r.path, "*") != 0) || strpbrk(r.path, "\r\n ?#"))
            abort();
        int64_t length = http1_body_done(h) ? 0 : http1_body_length(h);
        if (r.minor == 1)
            check_rewritten(&r, length);
        int n = http1_read_all(h, &body, 100000, 1000);
        if (n == 0 && length >= 0 && body.len != (size_t)length)
            abort();
        buf_free(&body);
        if (n < 0 || !http1_reusable(h))
            break;
    }
    close_all(h);
}

static void response(const uint8_t *data, size_t len, bool head)
{
    struct http1 *h = open_with(data, len, HTTP1_RESPONSES);
    struct http_reply reply;
    struct err e = ERR_INIT;
    if (http1_try_reply(h, &reply, head, &e) == 0) {
        struct http_req r = {.method = "GET"};
        struct edge_ask ask = {.offers_lambda = true};
        struct edge_reply_how how = {.upgraded = reply.status == 101, .close = true};
        struct buf b = BUF_INIT, body = BUF_INIT;
        check_headers(reply.headers, reply.nheaders);
        if (reply.status != 101 && reply.status < 200)
            abort();
        edge_reply_text(&b, &r, &ask, &reply, &how);
        if (memmem(b.data, b.len, "\r\n\r\n", 4) != (char *)b.data + b.len - 4)
            abort();
        http1_read_all(h, &body, 100000, 1000);
        if (head && body.len > 0)
            abort();
        buf_free(&b);
        buf_free(&body);
    } else if (e.num == 0) {
        abort(); /* everything was there: never -EAGAIN */
    }
    close_all(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1 || len > INPUT_MAX)
        return 0;
    if (data[0] == 'R')
        response(data + 1, len - 1, false);
    else if (data[0] == 'H')
        response(data + 1, len - 1, true);
    else
        requests(data + 1, len - 1);
    return 0;
}
