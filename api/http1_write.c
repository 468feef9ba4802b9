// SPDX-License-Identifier: Apache-2.0
/* Writing of responses; see http1.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../hypervisor/base/mem.h"
#include "http1.h"

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {416, "Range Not Satisfiable"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].status == status)
            return known[i].text;
    }
    return "Status";
}

void http_res_free(struct http_res *res)
{
    buf_free(&res->body);
    buf_free(&res->headers);
}

void http_res_header(struct http_res *res, const char *name, const char *value)
{
    buf_str(&res->headers, name);
    buf_str(&res->headers, ": ");
    for (; *value; value++) {
        char c = *value == '\r' || *value == '\n' ? ' ' : *value;
        buf_add(&res->headers, &c, 1);
    }
    buf_str(&res->headers, "\r\n");
}

static void add_date(struct buf *b)
{
    char date[40];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    buf_printf(b, "Date: %s\r\n", date);
}

void http1_head_text(struct buf *b, const struct http_req *req, const struct http_res *res,
                     int64_t length, bool close)
{
    buf_printf(b, "HTTP/1.1 %d %s\r\n", res->status, http_reason(res->status));
    add_date(b);
    if (req->id[0])
        buf_printf(b, "x-amzn-requestid: %s\r\n", req->id);
    if (res->error_type[0])
        buf_printf(b, "x-amzn-errortype: %s\r\n", res->error_type);
    if (res->retry_after)
        buf_printf(b, "Retry-After: %u\r\n", res->retry_after);
    if (res->content_type || length > 0)
        buf_printf(b, "Content-Type: %s\r\n",
                   res->content_type ? res->content_type : "application/json");
    if (length >= 0 && res->status >= 200 && res->status != 204 && res->status != 304)
        buf_printf(b, "Content-Length: %" PRId64 "\r\n", length);
    buf_add(b, res->headers.data, res->headers.len);
    buf_printf(b, "Connection: %s\r\n\r\n", close ? "close" : "keep-alive");
    b->bad = b->bad || res->headers.bad;
}

int http1_respond_head(struct http1 *h, const struct http_req *req, struct http_res *res,
                       uint64_t length, bool close)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    http1_head_text(&b, req, res, (int64_t)length, close);
    if (b.bad)
        return -ENOMEM;
    return conn_write(http1_conn(h), b.data, b.len, HTTP1_STALL_MS);
}

int http1_respond(struct http1 *h, const struct http_req *req, struct http_res *res, bool close)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    http1_head_text(&b, req, res, (int64_t)res->body.len, close);
    if (strcmp(req->method, "HEAD") != 0 && res->status != 204 && res->status != 304)
        buf_add(&b, res->body.data, res->body.len);
    if (b.bad || res->body.bad)
        return -ENOMEM;
    return conn_write(http1_conn(h), b.data, b.len, HTTP1_STALL_MS);
}
