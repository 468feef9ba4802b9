// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/1.1 server side: one thread per connection, blocking reads with
 * deadlines. Parsing by llhttp in strict mode. Sizes of everything a stranger
 * sends are bounded (HTTP_*_MAX).
 */
#ifndef DORMOUSE_API_HTTP_H
#define DORMOUSE_API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/err.h"

#define HTTP_HEAD_MAX    65536u
#define HTTP_HEADERS_MAX 100u
#define HTTP_JSON_MAX    (6u << 20)

struct conn;
struct exchange;

struct http_header {
    char *name, *value;
};

struct http_req {
    char method[12];
    char *path;  /* raw, still percent-encoded, without query */
    char *query; /* raw after '?', or "" */
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t nheaders;
    char id[40];             /* x-amzn-requestid, a uuid made by the server */
    bool upgrade;            /* Connection: upgrade */
    uint8_t minor;           /* of HTTP/1.x */
    const struct conn *peer; /* who asks, to see whether they wait; NULL: not known */
};
/* Case-insensitive; NULL when absent. */
const char *http_req_header(const struct http_req *r, const char *name);

/* What an operation answers. The server adds content-length, date, x-amzn-requestid. */
struct http_res {
    int status;
    const char *content_type; /* NULL: application/json when there is a body */
    char error_type[48];      /* x-amzn-errortype, or "" */
    uint32_t retry_after;     /* seconds, 0 = absent */
    struct buf body;
    struct buf headers; /* more header lines, each "Name: value\r\n" */
    /* Answers in its own time instead of with the body: head and all. */
    void (*stream)(void *ctx, struct exchange *x, struct http_res *res);
    void *stream_ctx;
};
void http_res_free(struct http_res *res);
/* Adds a header line; line breaks in the value become blanks. */
void http_res_header(struct http_res *res, const char *name, const char *value);
const char *http_reason(int status);

#endif
