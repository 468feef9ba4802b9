// SPDX-License-Identifier: Apache-2.0
/*
 * One end of an HTTP/1.1 connection: reads requests (from clients) or
 * responses (from applications in guests), both hostile, and writes our
 * responses. Strict parsing by llhttp; on top of it exactly one Host, no other
 * transfer coding than chunked, bounded heads and trailers. Bodies are pulled.
 */
#ifndef DORMOUSE_API_HTTP1_H
#define DORMOUSE_API_HTTP1_H

#include "../hypervisor/base/err.h"
#include "conn.h"
#include "http.h"

#define HTTP1_IN_CAP 16384u /* most that one read takes in */

enum http1_kind { HTTP1_REQUESTS, HTTP1_RESPONSES };

struct http1;
/* The conn stays the caller's. */
int http1_new(struct http1 **ret, struct conn *c, enum http1_kind kind, struct err *e);
void http1_free(struct http1 *h);
struct conn *http1_conn(struct http1 *h);

/* Reads one request head; strings live until the next call. Waits idle_ms for the first byte,
 * then head_ms for the whole head. -ENODATA: ended or idle before a request; -ETIMEDOUT;
 * -EBADMSG malformed; -E2BIG head too large; -ENOTSUP something we do not do; -errno. */
int http1_read_request(struct http1 *h, struct http_req *ret, int idle_ms, int head_ms,
                       struct err *e);

struct http_reply {
    int status;
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t nheaders;
};
/* One step towards a response head. 0 when it is there, -EAGAIN, -ENODATA: the peer ended
 * before the first byte, -EBADMSG, -E2BIG, -errno. Interim responses but 101 are skipped.
 * no_body: the request was HEAD. */
int http1_try_reply(struct http1 *h, struct http_reply *ret, bool no_body, struct err *e);
const char *http_reply_header(const struct http_reply *r, const char *name);

/* Body bytes, decoded: n > 0, 0 at the end, -EAGAIN (conn's `want` says for what), -EBADMSG
 * malformed, -ENODATA cut short, -errno. The first call sends "100 Continue" if asked for. */
ssize_t http1_try_body(struct http1 *h, void *data, size_t cap);
/* The same, but waits up to stall_ms: -ETIMEDOUT. */
ssize_t http1_body(struct http1 *h, void *data, size_t cap, int stall_ms);
/* The rest of the body into ret: 0, -E2BIG over the limit, or as above. */
int http1_read_all(struct http1 *h, struct buf *ret, size_t limit, int stall_ms);
bool http1_body_done(const struct http1 *h);
/* The body's length when the head says it: -1 for chunked or until the end. */
int64_t http1_body_length(const struct http1 *h);
/* The connection must end after this exchange: the peer said so, or too much of an unread body
 * is still to come. */
bool http1_must_close(const struct http1 *h);
/* Reads a little of an unwanted body away. True when another request may follow. */
bool http1_reusable(struct http1 *h);
/* Bytes that followed the head of an upgraded connection. */
size_t http1_take_rest(struct http1 *h, void *data, size_t cap);
bool http1_has_rest(const struct http1 *h);

/* Writes a whole response. close: say that the connection ends. */
int http1_respond(struct http1 *h, const struct http_req *req, struct http_res *res,
                  bool close);
/* Writes a response head for `length` bytes that the caller then writes to the conn. */
int http1_respond_head(struct http1 *h, const struct http_req *req, struct http_res *res,
                       uint64_t length, bool close);
/* The head's text alone. length < 0: no content-length line. */
void http1_head_text(struct buf *b, const struct http_req *req, const struct http_res *res,
                     int64_t length, bool close);

#define HTTP1_STALL_MS 60000

#endif
