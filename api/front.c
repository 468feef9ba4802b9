// SPDX-License-Identifier: Apache-2.0
/* Routing and the control API's entrance; see front.h. */
#include "front.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "../hypervisor/base/mem.h"
#include "auth.h"
#include "exchange.h"
#include "uuid.h"

#define IDLE_MS        75000 /* longer than clients keep unused connections */
#define HEAD_MS        20000
#define LINGER_MS      2000
#define LINGER_BYTES   ((size_t)4 << 20)
#define JSON_DEPTH_MAX 64u

bool front_host_label(const char *host, const char *region, const char *domain,
                      char ret_label[40])
{
    char want[300];
    size_t len = strcspn(host, ":");
    int n = snprintf(want, sizeof want, ".lambda-microvm.%s.%s", region, domain);
    if (n < 0 || (size_t)n >= sizeof want || len != (size_t)n + UUID_CAP - 1 ||
        strncasecmp(host + UUID_CAP - 1, want, (size_t)n) != 0)
        return false;
    for (size_t i = 0; i < UUID_CAP - 1; i++)
        ret_label[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + 32 : host[i]);
    ret_label[UUID_CAP - 1] = '\0';
    return uuid_is(ret_label, UUID_CAP - 1);
}

bool json_depth_ok(const char *text, size_t len, unsigned max)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

/* ---- control API --------------------------------------------------------------------- */

static void refuse(struct exchange *x, enum sigv4_fault f, const struct err *e)
{
    static const struct {
        int status;
        const char *name;
    } table[] = {
        [SIGV4_MISSING] = {403, "MissingAuthenticationTokenException"},
        [SIGV4_INCOMPLETE] = {400, "IncompleteSignatureException"},
        [SIGV4_SERVICE] = {403, "InvalidSignatureException"},
        [SIGV4_SKEWED] = {403, "InvalidSignatureException"},
        [SIGV4_MISMATCH] = {403, "InvalidSignatureException"},
        [SIGV4_UNSIGNED] = {403, "InvalidSignatureException"},
        [SIGV4_UNKNOWN] = {403, "UnrecognizedClientException"},
        [SIGV4_INTERNAL] = {500, "InternalServerException"},
    };
    exchange_error(x, table[f].status, table[f].name, "%s", e->msg);
}

/* Reads the body; answers and returns false when that fails. */
static bool read_body(struct exchange *x, struct buf *body)
{
    int r = http1_read_all(x->h, body, HTTP_JSON_MAX, HTTP1_STALL_MS);
    if (r == 0)
        return true;
    x->close = true;
    if (r == -E2BIG)
        exchange_error(x, 413, "RequestEntityTooLargeException",
                       "The request body is larger than %u bytes.", HTTP_JSON_MAX);
    else if (r == -ETIMEDOUT)
        exchange_error(x, 408, "RequestTimeoutException", "The request body did not arrive.");
    else if (r == -EBADMSG || r == -ENODATA)
        exchange_error(x, 400, "ValidationException", "The request body is malformed.");
    return false;
}

/* A body hash that was signed lets the signature be checked before the body is read. */
static bool authenticate(struct front *f, struct exchange *x, struct auth *auth,
                         struct buf *body)
{
    struct sigv4_rules rules = {.service = "lambda", .encode_twice = true, .now = time(NULL)};
    struct err e = ERR_INIT;
    char hash[65];
    enum sigv4_fault fault = auth_open(f->api->store, x->req, auth, &e);
    const char *claimed = http_req_header(x->req, "x-amz-content-sha256");
    if (fault == SIGV4_OK && auth->sig.presigned) {
        err_set(&e, EINVAL, "Presigned requests are not accepted here.");
        fault = SIGV4_INCOMPLETE;
    }
    if (fault == SIGV4_OK && claimed)
        fault = sigv4_check(&auth->sig, x->req, auth->key, claimed, &rules, &e);
    if (fault != SIGV4_OK) {
        refuse(x, fault, &e);
        return false;
    }
    if (!read_body(x, body))
        return false;
    if (claimed && strcmp(claimed, "UNSIGNED-PAYLOAD") == 0)
        return true;
    sha256_hex(body->data ? body->data : (const uint8_t *)"", body->len, hash);
    if (!claimed) {
        fault = sigv4_check(&auth->sig, x->req, auth->key, hash, &rules, &e);
    } else if (strcmp(claimed, hash) != 0) {
        err_set(&e, EACCES,
                "The provided 'x-amz-content-sha256' header does not match what "
                "was computed.");
        fault = SIGV4_MISMATCH;
    }
    if (fault != SIGV4_OK)
        refuse(x, fault, &e);
    return fault == SIGV4_OK;
}

/* What the request was, for the log. */
static const char *control(struct front *f, struct exchange *x)
{
    AUTO(buf_free) struct buf body = BUF_INIT;
    AUTO(http_res_free) struct http_res res = {.status = 500};
    struct auth auth;
    if (!authenticate(f, x, &auth, &body))
        return "api";
    const char *text = buf_cstr(&body);
    if (!text) {
        exchange_error(x, 500, "InternalServerException", "Out of memory.");
        return "api";
    }
    if (!api_takes_bytes(x->req) && !json_depth_ok(text, body.len, JSON_DEPTH_MAX)) {
        exchange_error(x, 400, "ValidationException",
                       "The request body is nested more than %u levels deep.", JSON_DEPTH_MAX);
        return "api";
    }
    api_handle(f->api, x->req, auth.rights, text, body.len, &res);
    if (!res.stream) {
        exchange_respond(x, &res);
        return "api";
    }
    res.stream(res.stream_ctx, x, &res);
    return "stream"; /* how long it was is no measure of anything */
}

/* For collectors that cannot sign: an access key's id and secret as user and password. */
static void metrics(struct front *f, struct exchange *x)
{
    AUTO(http_res_free) struct http_res res = {.status = 200};
    enum basic_result r = auth_basic(f->api->store, x->req);
    if (r == BASIC_OK) {
        api_metrics(f->api, &res);
    } else {
        res.status = r == BASIC_BROKEN ? 500 : 401;
        http_res_header(&res, "WWW-Authenticate", "Basic realm=\"dormouse\"");
    }
    exchange_respond(x, &res);
}

/* ---- routing ------------------------------------------------------------------------- */

static void health(struct exchange *x, bool good)
{
    AUTO(http_res_free) struct http_res res = {.status = good ? 200 : 503};
    buf_str(&res.body, good ? "{\"status\":\"ok\"}" : "{\"status\":\"not ready\"}");
    exchange_respond(x, &res);
}

static const char *route(struct front *f, struct exchange *x, const bool *stopping)
{
    char label[40], sni_label[40];
    const char *host = http_req_header(x->req, "host"), *path = x->req->path;
    bool edge = host && front_host_label(host, f->region, f->domain, label);
    bool sni_edge = front_host_label(x->c->sni, f->region, f->domain, sni_label);
    /* A connection made for one microVM carries requests for no other host. */
    if (sni_edge && (!edge || strcmp(label, sni_label) != 0)) {
        exchange_error(x, 421, "MisdirectedRequestException",
                       "The Host header is not the host this TLS connection was made for.");
        return "misdirected";
    }
    if (edge) {
        edge_handle(f->edge, x, label);
        return "edge";
    }
    if (!strcmp(path, "/healthz") || !strcmp(path, "/readyz")) {
        bool ready = __atomic_load_n(&f->ready, __ATOMIC_RELAXED) &&
                     !__atomic_load_n(stopping, __ATOMIC_RELAXED);
        health(x, path[1] == 'h' || ready);
        return "health";
    }
    if (!strcmp(path, "/metrics") && !strcmp(x->req->method, "GET")) {
        metrics(f, x);
        return "health";
    }
    if (api_owns_path(path)) {
        return control(f, x);
    }
    if (s3_owns(x->req)) {
        s3_handle(&f->s3, x);
        return "s3";
    }
    exchange_error(x, 404, "UnknownOperationException",
                   "There is no operation at this address.");
    return "unknown";
}

static void head_failed(struct http1 *h, int r, const struct err *e)
{
    struct http_req none = {.nheaders = 0};
    struct exchange x = {.h = h, .c = http1_conn(h), .req = &none, .close = true};
    uuid_make(none.id);
    switch (r) {
    case -EBADMSG:
        exchange_error(&x, 400, "MalformedHttpRequestException", "%s", e->msg);
        break;
    case -E2BIG:
        exchange_error(&x, 431, "RequestHeaderTooLargeException", "%s", e->msg);
        break;
    case -ENOTSUP:
        exchange_error(&x, 501, "NotImplementedException", "%s", e->msg);
        break;
    case -ETIMEDOUT:
        exchange_error(&x, 408, "RequestTimeoutException",
                       "The request head did not arrive in time.");
        break;
    default:
        break;
    }
}

/* Closing with unread input would make the kernel reset the connection, and the peer lose the
 * answer: say that no more comes, then let the peer finish for a moment. */
static void linger(struct conn *c)
{
    uint8_t scrap[4096];
    size_t total = 0;
    int64_t deadline = clock_ms() + LINGER_MS;
    conn_finish(c);
    while (total < LINGER_BYTES) {
        ssize_t n = conn_read(c, scrap, sizeof scrap, deadline);
        if (n <= 0)
            return;
        total += (size_t)n;
    }
}

/* One request. False: the connection is over. */
static bool serve_one(struct front *f, struct http1 *h, const bool *stopping)
{
    struct http_req req;
    struct err e = ERR_INIT;
    int r = http1_read_request(h, &req, IDLE_MS, HEAD_MS, &e);
    if (r == -ENODATA)
        return false;
    if (r < 0) {
        head_failed(h, r, &e);
        linger(http1_conn(h));
        return false;
    }
    int64_t begin = clock_ms();
    req.peer = http1_conn(h);
    struct exchange x = {.h = h,
                         .c = http1_conn(h),
                         .req = &req,
                         .close = __atomic_load_n(stopping, __ATOMIC_RELAXED)};
    const char *kind = route(f, &x, stopping);
    struct front_event ev = {.id = req.id,
                             .method = req.method,
                             .path = req.path,
                             .kind = kind,
                             .status = x.status,
                             .took_ms = clock_ms() - begin};
    if (f->done)
        f->done(f->ctx, &ev);
    if (!x.close && http1_reusable(h))
        return true;
    linger(http1_conn(h));
    return false;
}

void front_serve(void *ctx, struct conn *c, const bool *stopping)
{
    struct http1 *h;
    if (http1_new(&h, c, HTTP1_REQUESTS, NULL) < 0)
        return;
    while (serve_one(ctx, h, stopping) && !__atomic_load_n(stopping, __ATOMIC_RELAXED))
        ;
    http1_free(h);
}
