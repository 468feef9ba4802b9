// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/1.1 over a socket pair: heads and bodies in every cut, what smuggles
 * requests past a proxy, limits, responses of hostile applications, and the
 * heads that the endpoint proxy writes.
 */
#include "../../api/edge_priv.h"
#include "../../api/front.h"
#include "../../api/http1.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct link {
    int peer;
    struct conn *c;
    struct http1 *h;
};

static struct link link_open(enum http1_kind kind)
{
    struct link l = {.peer = -1};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || conn_plain(&l.c, pair[0], NULL) < 0 ||
        http1_new(&l.h, l.c, kind, NULL) < 0)
        abort();
    l.peer = pair[1];
    return l;
}

static void link_close(struct link *l)
{
    http1_free(l->h);
    conn_close(l->c);
    if (l->peer >= 0)
        close(l->peer);
}

static void say(struct link *l, const char *text, size_t len)
{
    if (fd_write_full(l->peer, text, len) < 0)
        abort();
}

static void say_end(struct link *l)
{
    close(l->peer);
    l->peer = -1;
}

static int request(struct link *l, struct http_req *ret)
{
    struct err e = ERR_INIT;
    int r = http1_read_request(l->h, ret, 1000, 1000, &e);
    return r < 0 && r != -ENODATA && e.num == 0 ? -EINVAL : r;
}

/* The result of reading one request from this text. */
static int request_of(const char *text)
{
    struct link l = link_open(HTTP1_REQUESTS);
    struct http_req r;
    say(&l, text, strlen(text));
    say_end(&l);
    int n = request(&l, &r);
    link_close(&l);
    return n;
}

static const char two[] =
    "POST /a%20b?q=1&r HTTP/1.1\r\nHost: h\r\nX-Y:  v w \t\r\n"
    "Content-Length: 5\r\n\r\nhello"
    "PUT /second HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n"
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

struct trickle {
    struct link *l;
    size_t step;
};

static void *trickle(void *arg)
{
    struct trickle *t = arg;
    for (size_t at = 0; at < sizeof two - 1; at += t->step)
        say(t->l, two + at, MIN(t->step, sizeof two - 1 - at));
    say_end(t->l);
    return NULL;
}

TEST(pipelined)
{
    static const size_t steps[] = {1, 2, 7, 50, 1000};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct link l = link_open(HTTP1_REQUESTS);
        struct trickle t = {&l, steps[i]};
        struct http_req r;
        struct buf body = BUF_INIT;
        pthread_t thread;
        pthread_create(&thread, NULL, trickle, &t);
        CHECK(request(&l, &r) == 0);
        CHECK_STR(r.method, "POST");
        CHECK_STR(r.path, "/a%20b");
        CHECK_STR(r.query, "q=1&r");
        CHECK_STR(http_req_header(&r, "x-y") ? http_req_header(&r, "x-y") : "", "v w");
        CHECK(r.minor == 1 && !r.upgrade && strlen(r.id) == 36);
        CHECK(http1_body_length(l.h) == 5 && !http1_must_close(l.h));
        CHECK(http1_read_all(l.h, &body, 100, 1000) == 0);
        CHECK_STR(buf_cstr(&body), "hello");
        CHECK(http1_reusable(l.h));
        buf_reset(&body);
        CHECK(request(&l, &r) == 0 && http1_body_length(l.h) == -1);
        CHECK_STR(r.path, "/second");
        CHECK(http1_read_all(l.h, &body, 100, 1000) == 0);
        CHECK_STR(buf_cstr(&body), "abcdefg");
        CHECK(http1_reusable(l.h));
        CHECK(request(&l, &r) == 0 && r.nheaders == 1 && http1_body_done(l.h));
        CHECK(request(&l, &r) == -ENODATA);
        pthread_join(thread, NULL);
        buf_free(&body);
        link_close(&l);
    }
}

#define H "Host: h\r\n"

TEST(refused_heads)
{
    static const char *const bad[] = {
        /* two answers to where the body ends */
        "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Content-Length: 5\n\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n",
        /* line ends and header names */
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "X Y: a\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "X\r\n\r\n",
        "GET / HTTP/1.1\r\n" H ": a\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n",
        /* host and target */
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" H H "\r\n",
        "GET http://h/ HTTP/1.1\r\n" H "\r\n",
        "GET /#x HTTP/1.1\r\n" H "\r\n",
        "GET x HTTP/1.1\r\n" H "\r\n",
        "CONNECT h:1 HTTP/1.1\r\n" H "\r\n",
        "GET /a b HTTP/1.1\r\n" H "\r\n",
        "GET / HTTP/1.1 \r\n" H "\r\n",
        "GET /\r\n\r\n",
        "NOPE / HTTP/1.1\r\n" H "\r\n",
        "get / HTTP/1.1\r\n" H "\r\n",
        "GET / HTTP/2.0\r\n" H "\r\n",
        "GET / HTTP/1.2\r\n" H "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "Expect: miracles\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int r = request_of(bad[i]);
        if (r != -EBADMSG && r != -ENOTSUP)
            printf("# case %zu: %d\n", i, r);
        CHECK(r == -EBADMSG || r == -ENOTSUP);
    }
    CHECK(request_of("GET / HTTP/1.1\r\nHost:") == -ECONNRESET);
    CHECK(request_of("GET / HTTP/1.0\r\n\r\n") == 0);
    CHECK(request_of("OPTIONS * HTTP/1.1\r\n" H "\r\n") == 0);
    CHECK(request_of("") == -ENODATA);
}

TEST(limits)
{
    struct buf b = BUF_INIT;
    buf_str(&b, "GET / HTTP/1.1\r\n" H);
    for (unsigned i = 0; i < HTTP_HEADERS_MAX - 1; i++)
        buf_printf(&b, "X%u: y\r\n", i);
    size_t most = b.len;
    buf_str(&b, "\r\n");
    CHECK(request_of(buf_cstr(&b)) == 0);
    b.len = most;
    buf_str(&b, "One: more\r\n\r\n");
    CHECK(request_of(buf_cstr(&b)) == -E2BIG);
    b.len = 0;
    buf_str(&b, "GET /");
    for (unsigned i = 0; i < 7000; i++)
        buf_str(&b, "0123456789");
    CHECK(request_of(buf_cstr(&b)) == -E2BIG); /* before its end is there */
    buf_free(&b);
}

static void *long_trailer(void *arg)
{
    struct link *l = arg;
    char line[300];
    memset(line, 'x', sizeof line);
    memcpy(line, "T: ", 3);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    /* The reader gives up before the end: a failing write is expected then. */
    for (int i = 0; i < 1000; i++) {
        if (send(l->peer, line, sizeof line, MSG_NOSIGNAL) < 0)
            break;
    }
    return NULL;
}

TEST(trailers)
{
    static const char head[] =
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n";
    struct link l = link_open(HTTP1_REQUESTS);
    struct http_req r;
    struct buf body = BUF_INIT;
    pthread_t thread;
    say(&l, head, sizeof head - 1);
    pthread_create(&thread, NULL, long_trailer, &l);
    CHECK(request(&l, &r) == 0);
    CHECK(http1_read_all(l.h, &body, 100, 1000) == -E2BIG && body.len == 1);
    shutdown(l.c->fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    buf_free(&body);
    link_close(&l);
}

static int body_of(const char *text, struct buf *ret)
{
    struct link l = link_open(HTTP1_REQUESTS);
    struct http_req r;
    say(&l, text, strlen(text));
    say_end(&l);
    int n = request(&l, &r);
    if (n == 0)
        n = http1_read_all(l.h, ret, 10, 1000);
    link_close(&l);
    return n;
}

TEST(bodies)
{
    static const char *const bad[] = {"g\r\n",
                                      "-1\r\n",
                                      "1 \r\na\r\n0\r\n\r\n",
                                      "1\nab\r\n0\r\n\r\n",
                                      "1\r\nab\r\n0\r\n\r\n",
                                      "1\r\na0\r\n\r\n",
                                      "fffffffffffffffff\r\n",
                                      "0\r\nx\r\n\r\n",
                                      "1;a=\"\x01\"\r\na\r\n0\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf b = BUF_INIT;
        char text[300];
        snprintf(text, sizeof text,
                 "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n%s", bad[i]);
        int r = body_of(text, &b);
        if (r != -EBADMSG)
            printf("# case %zu: %d\n", i, r);
        CHECK(r == -EBADMSG);
        buf_free(&b);
    }
    struct buf b = BUF_INIT;
    CHECK(body_of("POST / HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\nabc", &b) == -ENODATA);
    buf_reset(&b);
    CHECK(body_of("POST / HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\n", &b) == -E2BIG);
    buf_reset(&b);
    CHECK(body_of("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
                  "b\r\nhello world\r\n0\r\n\r\n",
                  &b) == -E2BIG);
    buf_free(&b);
}

TEST(continue_100)
{
    struct link l = link_open(HTTP1_REQUESTS);
    struct http_req r;
    struct buf body = BUF_INIT;
    char got[64] = "";
    const char *head =
        "PUT / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    say(&l, head, strlen(head));
    CHECK(request(&l, &r) == 0);
    /* Nothing was said yet, and a refusal now must close. */
    CHECK(recv(l.peer, got, sizeof got, MSG_DONTWAIT) < 0 && http1_must_close(l.h));
    CHECK(!http1_reusable(l.h));
    uint8_t data[8];
    CHECK(http1_try_body(l.h, data, sizeof data) == -EAGAIN);
    CHECK(recv(l.peer, got, sizeof got - 1, MSG_DONTWAIT) > 0);
    CHECK_STR(got, "HTTP/1.1 100 Continue\r\n\r\n");
    say(&l, "ok", 2);
    CHECK(http1_read_all(l.h, &body, 10, 1000) == 0 && body.len == 2);
    CHECK(http1_reusable(l.h));
    buf_free(&body);
    link_close(&l);
}

TEST(responding)
{
    struct link l = link_open(HTTP1_REQUESTS);
    struct http_req r;
    struct http_res res = {.status = 404, .retry_after = 7};
    char got[1000];
    say(&l, "GET / HTTP/1.1\r\n" H "\r\n", 27);
    CHECK(request(&l, &r) == 0);
    snprintf(res.error_type, sizeof res.error_type, "NoException");
    http_res_header(&res, "X-A", "b\r\nInjected: c");
    buf_str(&res.body, "{}");
    CHECK(http1_respond(l.h, &r, &res, false) == 0);
    ssize_t n = recv(l.peer, got, sizeof got - 1, MSG_DONTWAIT);
    got[n > 0 ? n : 0] = '\0';
    CHECK(strncmp(got, "HTTP/1.1 404 Not Found\r\nDate: ", 30) == 0);
    CHECK(strstr(got, r.id) && strstr(got, "\r\nx-amzn-errortype: NoException\r\n"));
    CHECK(strstr(got, "\r\nRetry-After: 7\r\n") && strstr(got, "\r\nContent-Length: 2\r\n"));
    CHECK(strstr(got, "\r\nX-A: b  Injected: c\r\n") && !strstr(got, "\nInjected"));
    CHECK(strstr(got, "\r\nConnection: keep-alive\r\n\r\n{}") != NULL);
    http_res_free(&res);
    link_close(&l);
}

/* ---- responses -------------------------------------------------------------------- */

static int reply_of(const char *text, bool no_body, struct buf *body)
{
    struct link l = link_open(HTTP1_RESPONSES);
    struct http_reply reply;
    struct err e = ERR_INIT;
    say(&l, text, strlen(text));
    say_end(&l);
    int r = http1_try_reply(l.h, &reply, no_body, &e);
    if (r == 0) {
        int n = http1_read_all(l.h, body, 1000, 1000);
        r = n < 0 ? n : reply.status;
    }
    link_close(&l);
    return r;
}

TEST(replies)
{
    struct buf b = BUF_INIT;
    CHECK(reply_of("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEXTRA", false, &b) == 200);
    CHECK(b.len == 2);
    buf_reset(&b);
    CHECK(reply_of("HTTP/1.0 200 OK\r\n\r\nuntil the end", false, &b) == 200 && b.len == 13);
    buf_reset(&b);
    CHECK(reply_of(
              "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
              "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
              false, &b) == 201);
    CHECK(b.len == 1);
    buf_reset(&b);
    CHECK(reply_of("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", true, &b) == 200);
    CHECK(reply_of("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, &b) == 304);
    CHECK(reply_of("HTTP/1.1 204 No Content\r\n\r\n", false, &b) == 204 && b.len == 0);
    CHECK(reply_of("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false, &b) == -ENODATA);
    static const char *const bad[] = {
        "hello\r\n\r\n",
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 600 x\r\n\r\n",
        "HTTP/1.1 20 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA",
        "HTTP/2 200 OK\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int r = reply_of(bad[i], false, &b);
        if (r != -EBADMSG)
            printf("# case %zu: %d\n", i, r);
        CHECK(r == -EBADMSG);
    }
    CHECK(reply_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, &b) < 0);
    CHECK(reply_of("", false, &b) == -ENODATA);
    struct buf many = BUF_INIT;
    for (int i = 0; i < 20; i++)
        buf_str(&many, "HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(reply_of(buf_cstr(&many), false, &b) == -EBADMSG);
    buf_free(&many);
    buf_free(&b);
}

/* ---- what the proxy writes ---------------------------------------------------------- */

static int ask_of(const char *text, struct http_req *r, struct edge_ask *a, struct link *l)
{
    struct err e = ERR_INIT;
    *l = link_open(HTTP1_REQUESTS);
    say(l, text, strlen(text));
    if (request(l, r) != 0)
        return -1;
    return edge_ask_read(a, r, &e);
}

TEST(edge_request)
{
    struct http_req r;
    struct edge_ask a;
    struct link l;
    struct buf b = BUF_INIT;
    CHECK(ask_of("POST /x?y HTTP/1.1\r\n" H "X-AWS-Proxy-Auth: tok\r\nx-aws-proxy-port: 81\r\n"
                 "X-Aws-Proxy-Other: z\r\nConnection: keep-alive, X-Hop, Host\r\nX-Hop: 1\r\n"
                 "TE: trailers\r\nKeep-Alive: 3\r\nUpgrade: h2c\r\nx-amzn-requestid: forged\r\n"
                 "Expect: 100-continue\r\nContent-Length: 3\r\nA: b\r\n\r\n",
                 &r, &a, &l) == 0);
    CHECK_STR(a.token, "tok");
    CHECK(a.port == 81 && !a.upgrade && !a.force_h2);
    edge_request_text(&b, &r, &a, 3);
    char want[300];
    snprintf(want, sizeof want,
             "POST /x?y HTTP/1.1\r\nHost: h\r\nA: b\r\nx-amzn-requestid: %s\r\n"
             "Content-Length: 3\r\nConnection: close\r\n\r\n",
             r.id);
    CHECK_STR(buf_cstr(&b), want);
    buf_free(&b);
    edge_ask_free(&a);
    link_close(&l);
}

TEST(edge_websocket)
{
    struct http_req r;
    struct edge_ask a;
    struct link l;
    struct buf b = BUF_INIT;
    CHECK(ask_of("GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                 "Sec-WebSocket-Protocol: chat, lambda-microvms.port.9000 ,lambda-microvms\r\n"
                 "Sec-WebSocket-Protocol: lambda-microvms.authentication.T.o-k,other\r\n\r\n",
                 &r, &a, &l) == 0);
    CHECK_STR(a.token, "T.o-k");
    CHECK(a.port == 9000 && a.upgrade && a.offers_lambda);
    edge_request_text(&b, &r, &a, 0);
    CHECK(strstr(buf_cstr(&b), "\r\nSec-WebSocket-Protocol: chat, other\r\n") != NULL);
    CHECK(strstr(buf_cstr(&b), "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    CHECK(!strstr(buf_cstr(&b), "lambda-microvms"));
    struct http_reply reply = {.status = 101, .nheaders = 1};
    struct edge_reply_how how = {.upgraded = true, .close = true};
    reply.headers[0] = (struct http_header){(char *)"Upgrade", (char *)"websocket"};
    buf_reset(&b);
    edge_reply_text(&b, &r, &a, &reply, &how);
    CHECK(strstr(buf_cstr(&b), "\r\nSec-WebSocket-Protocol: lambda-microvms\r\n") != NULL);
    reply.headers[1] = (struct http_header){(char *)"sec-websocket-protocol", (char *)"chat"};
    reply.nheaders = 2;
    buf_reset(&b);
    edge_reply_text(&b, &r, &a, &reply, &how);
    CHECK(strstr(buf_cstr(&b), "chat\r\n") && !strstr(buf_cstr(&b), "lambda-microvms"));
    buf_free(&b);
    edge_ask_free(&a);
    link_close(&l);
    static const char *const bad[] = {
        "Sec-WebSocket-Protocol: lambda-microvms.authentication.x\r\n",
        "Sec-WebSocket-Protocol: lambda-microvms, lambda-microvms.port.0\r\n",
        "Sec-WebSocket-Protocol: lambda-microvms, lambda-microvms.port.1x\r\n",
        "Sec-WebSocket-Protocol: lambda-microvms, lambda-microvms.port.1, "
        "lambda-microvms.port.2\r\n",
        "X-aws-proxy-auth: a\r\nX-aws-proxy-auth: a\r\n",
        "X-aws-proxy-auth: a\r\n"
        "Sec-WebSocket-Protocol: lambda-microvms, lambda-microvms.authentication.x\r\n",
        "X-aws-proxy-port: 65536\r\n",
        "X-aws-proxy-port: \r\n",
        "X-aws-proxy-port: 80,81\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[400];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" H "%s\r\n", bad[i]);
        CHECK(ask_of(text, &r, &a, &l) == -EINVAL);
        edge_ask_free(&a);
        link_close(&l);
    }
}

TEST(hosts)
{
    char label[40];
    static const char good[] =
        "1C9E0C1E-0000-4000-8000-00000000000a.Lambda-MicroVM.r-1.x.org:8";
    CHECK(front_host_label(good, "r-1", "x.org", label));
    CHECK_STR(label, "1c9e0c1e-0000-4000-8000-00000000000a");
    CHECK(!front_host_label(good, "r-2", "x.org", label));
    CHECK(!front_host_label(good + 1, "r-1", "x.org", label));
    CHECK(!front_host_label("", "r-1", "x.org", label));
    CHECK(!front_host_label("x.lambda-microvm.r-1.x.org", "r-1", "x.org", label));
    CHECK(!front_host_label("1c9e0c1e-0000-4000-8000-00000000000a.lambda-microvm.r-1.x.org.",
                            "r-1", "x.org", label));
    CHECK(!front_host_label("1c9e0c1e-0000-4000-8000-00000000000g.lambda-microvm.r-1.x.org",
                            "r-1", "x.org", label));
}

TEST(json_depth)
{
    CHECK(json_depth_ok("[[{\"a\":[]}]]", 13, 4) && !json_depth_ok("[[{\"a\":[]}]]", 13, 3));
    CHECK(json_depth_ok("\"[[[[\\\"[[[\"", 11, 0) && json_depth_ok("]]]]", 4, 0));
    CHECK(json_depth_ok("[][][][]", 8, 1) && json_depth_ok("\"\\", 2, 0));
}

int main(void)
{
    RUN(pipelined);
    RUN(refused_heads);
    RUN(limits);
    RUN(trailers);
    RUN(bodies);
    RUN(continue_100);
    RUN(responding);
    RUN(replies);
    RUN(edge_request);
    RUN(edge_websocket);
    RUN(hosts);
    RUN(json_depth);
    return TAP_DONE();
}
