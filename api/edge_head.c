// SPDX-License-Identifier: Apache-2.0
/*
 * Heads on their way through the proxy: what is meant for the proxy is taken
 * out, hop-by-hop headers are dropped, framing is written anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "edge_priv.h"

#define PROTOCOL_AUTH EDGE_PROTOCOL ".authentication."
#define PROTOCOL_PORT EDGE_PROTOCOL ".port."
#define DEFAULT_PORT  8080

void edge_ask_free(struct edge_ask *a)
{
    explicit_bzero(a->token, sizeof a->token);
    buf_free(&a->protocols);
}

static bool has_prefix(const char *s, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);
    return len >= n && memcmp(s, prefix, n) == 0;
}

static int set_token(struct edge_ask *a, const char *text, size_t len, struct err *e)
{
    if (a->token[0])
        return err_set(e, EINVAL, "more than one token was given");
    if (len == 0 || len >= sizeof a->token)
        return err_set(e, EINVAL, "the token is empty or too long");
    memcpy(a->token, text, len);
    a->token[len] = '\0';
    return 0;
}

static int set_port(struct edge_ask *a, const char *text, size_t len, struct err *e)
{
    uint64_t port;
    if (!parse_u64n(text, len, 1, 65535, &port) || (a->port && a->port != port))
        return err_set(e, EINVAL, "the port must be one number from 1 to 65535");
    a->port = (uint16_t)port;
    return 0;
}

/* One item of Sec-WebSocket-Protocol. */
static int read_protocol(struct edge_ask *a, const char *item, size_t len, struct err *e)
{
    if (len == strlen(EDGE_PROTOCOL) && has_prefix(item, len, EDGE_PROTOCOL)) {
        a->offers_lambda = true;
    } else if (has_prefix(item, len, PROTOCOL_AUTH)) {
        size_t skip = strlen(PROTOCOL_AUTH);
        return set_token(a, item + skip, len - skip, e);
    } else if (has_prefix(item, len, PROTOCOL_PORT)) {
        size_t skip = strlen(PROTOCOL_PORT);
        return set_port(a, item + skip, len - skip, e);
    } else {
        buf_printf(&a->protocols, "%s%.*s", a->protocols.len ? ", " : "", (int)len, item);
    }
    return 0;
}

static int read_protocols(struct edge_ask *a, const char *value, struct err *e)
{
    for (const char *p = value; *p;) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, " \t,");
        int r = len > 0 ? read_protocol(a, p, len, e) : 0;
        if (r < 0)
            return r;
        p += len;
    }
    return 0;
}

int edge_ask_read(struct edge_ask *a, const struct http_req *r, struct err *e)
{
    bool marked = false;
    int n = 0;
    memset(a, 0, sizeof *a);
    a->upgrade = r->upgrade;
    for (size_t i = 0; i < r->nheaders && n == 0; i++) {
        const char *name = r->headers[i].name, *value = r->headers[i].value;
        if (strcasecmp(name, "x-aws-proxy-auth") == 0)
            n = set_token(a, value, strlen(value), e);
        else if (strcasecmp(name, "x-aws-proxy-port") == 0)
            n = set_port(a, value, strlen(value), e);
        else if (strcasecmp(name, "x-aws-proxy-force-h2") == 0)
            a->force_h2 = strcasecmp(value, "true") == 0;
        else if (strcasecmp(name, "sec-websocket-protocol") == 0)
            n = read_protocols(a, value, e);
        if (strcasecmp(name, "sec-websocket-protocol") == 0 &&
            strstr(value, EDGE_PROTOCOL ".") != NULL)
            marked = true;
    }
    if (n == 0 && marked && !a->offers_lambda)
        n = err_set(e, EINVAL, "the subprotocol '" EDGE_PROTOCOL "' must be offered as well");
    if (n == 0 && a->protocols.bad)
        n = err_sys(e, ENOMEM, "read the request");
    if (a->port == 0)
        a->port = DEFAULT_PORT;
    return n;
}

/* Is name an item of a comma-separated header value? */
static bool listed(const char *list, const char *name)
{
    size_t want = strlen(name);
    for (const char *p = list; p && *p;) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, " \t,");
        if (len == want && strncasecmp(p, name, len) == 0)
            return true;
        p += len;
    }
    return false;
}

/* Headers that concern one connection only, or that the proxy writes itself. */
static bool is_hop(const char *name)
{
    static const char *const names[] = {"connection",
                                        "keep-alive",
                                        "proxy-connection",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "te",
                                        "trailer",
                                        "transfer-encoding",
                                        "upgrade",
                                        "content-length"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return strncasecmp(name, "x-aws-proxy-", 12) == 0 ||
           strcasecmp(name, "x-amzn-requestid") == 0;
}

static void copy_header(struct buf *b, const struct http_header *h)
{
    buf_str(b, h->name);
    buf_str(b, ": ");
    buf_str(b, h->value);
    buf_str(b, "\r\n");
}

void edge_request_text(struct buf *b, const struct http_req *r, const struct edge_ask *a,
                       int64_t length)
{
    const char *connection = http_req_header(r, "connection");
    buf_str(b, r->method);
    buf_str(b, " ");
    buf_str(b, r->path);
    if (*r->query) {
        buf_str(b, "?");
        buf_str(b, r->query);
    }
    buf_str(b, " HTTP/1.1\r\n");
    for (size_t i = 0; i < r->nheaders; i++) {
        const struct http_header *h = &r->headers[i];
        bool host = strcasecmp(h->name, "host") == 0;
        if (is_hop(h->name) || strcasecmp(h->name, "expect") == 0 ||
            strcasecmp(h->name, "sec-websocket-protocol") == 0 ||
            (!host && listed(connection, h->name)))
            continue;
        copy_header(b, h);
    }
    if (a->protocols.len > 0) {
        buf_str(b, "Sec-WebSocket-Protocol: ");
        buf_add(b, a->protocols.data, a->protocols.len);
        buf_str(b, "\r\n");
    }
    buf_printf(b, "x-amzn-requestid: %s\r\n", r->id);
    if (length < 0)
        buf_str(b, "Transfer-Encoding: chunked\r\n");
    else if (length > 0 || http_req_header(r, "content-length"))
        buf_printf(b, "Content-Length: %" PRId64 "\r\n", length);
    if (a->upgrade)
        buf_printf(b, "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n",
                   http_req_header(r, "upgrade"));
    else
        buf_str(b, "Connection: close\r\n\r\n");
}

void edge_reply_text(struct buf *b, const struct http_req *r, const struct edge_ask *a,
                     const struct http_reply *reply, const struct edge_reply_how *how)
{
    const char *connection = http_reply_header(reply, "connection");
    const char *length = http_reply_header(reply, "content-length");
    const char *upgrade = http_reply_header(reply, "upgrade");
    bool picked = false;
    buf_printf(b, "HTTP/1.1 %d %s\r\n", reply->status, http_reason(reply->status));
    for (size_t i = 0; i < reply->nheaders; i++) {
        const struct http_header *h = &reply->headers[i];
        if (is_hop(h->name) || strcasecmp(h->name, "x-dormouse-resumed") == 0 ||
            listed(connection, h->name))
            continue;
        picked = picked || strcasecmp(h->name, "sec-websocket-protocol") == 0;
        copy_header(b, h);
    }
    if (how->upgraded && a->offers_lambda && !picked)
        buf_str(b, "Sec-WebSocket-Protocol: " EDGE_PROTOCOL "\r\n");
    buf_printf(b, "x-amzn-requestid: %s\r\n", r->id);
    if (how->resumed_us > 0)
        buf_printf(b, "x-dormouse-resumed: %" PRIu64 "\r\n", (how->resumed_us + 999) / 1000);
    if (how->upgraded) {
        buf_printf(b, "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgrade ? upgrade : "");
        return;
    }
    if (how->chunked)
        buf_str(b, "Transfer-Encoding: chunked\r\n");
    else if (length && reply->status != 204)
        buf_printf(b, "Content-Length: %s\r\n", length);
    buf_printf(b, "Connection: %s\r\n\r\n", how->close ? "close" : "keep-alive");
}
