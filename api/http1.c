// SPDX-License-Identifier: Apache-2.0
/* Reading of HTTP/1.1 messages; see http1.h. Responses are written in http1_write.c. */
#include "http1.h"

#include <errno.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../hypervisor/base/mem.h"
#include "uuid.h"

#define DRAIN_MAX ((size_t)1 << 20) /* of a body nobody wants */
#define DRAIN_MS  2000

struct http1 {
    struct conn *c;
    enum http1_kind kind;
    llhttp_t parser;
    llhttp_settings_t settings;
    uint8_t in[HTTP1_IN_CAP];
    size_t pos, len; /* unread part of in[] */
    /* the head: strings one after the other, each with its NUL */
    struct buf text;
    size_t url;
    size_t name[HTTP_HEADERS_MAX], value[HTTP_HEADERS_MAX], nheaders;
    unsigned seen;     /* how much of "\r\n\r\n" the head's end matches */
    size_t head_bytes; /* of this head, later of the trailers */
    bool no_body, expect;
    bool head_done, body_done, keep_alive, too_large, eof;
    /* where body bytes go during one step */
    uint8_t *out;
    size_t out_len, out_cap;
};

static int add_text(struct http1 *h, const char *at, size_t len)
{
    h->head_bytes += len;
    if (h->head_bytes > HTTP_HEAD_MAX) {
        h->too_large = true;
        return -1;
    }
    if (!h->head_done) /* trailers are counted and dropped */
        buf_add(&h->text, at, len);
    return h->text.bad ? -1 : 0;
}

static int end_text(struct http1 *h)
{
    if (!h->head_done)
        buf_add(&h->text, "", 1);
    return h->text.bad ? -1 : 0;
}

static int on_url(llhttp_t *p, const char *at, size_t len)
{
    return add_text(p->data, at, len);
}

static int on_url_complete(llhttp_t *p)
{
    struct http1 *h = p->data;
    int r = end_text(h);
    h->name[0] = h->text.len;
    return r;
}

static int on_name(llhttp_t *p, const char *at, size_t len)
{
    struct http1 *h = p->data;
    if (!h->head_done && h->nheaders == HTTP_HEADERS_MAX) {
        h->too_large = true;
        return -1;
    }
    return add_text(h, at, len);
}

static int on_name_complete(llhttp_t *p)
{
    struct http1 *h = p->data;
    if (end_text(h) < 0)
        return -1;
    if (!h->head_done)
        h->value[h->nheaders] = h->text.len;
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t len)
{
    return add_text(p->data, at, len);
}

static int on_value_complete(llhttp_t *p)
{
    struct http1 *h = p->data;
    if (h->head_done)
        return 0;
    while (h->text.len > h->value[h->nheaders] &&
           (h->text.data[h->text.len - 1] == ' ' || h->text.data[h->text.len - 1] == '\t'))
        h->text.len--;
    if (end_text(h) < 0)
        return -1;
    h->nheaders++;
    if (h->nheaders < HTTP_HEADERS_MAX)
        h->name[h->nheaders] = h->text.len;
    return 0;
}

static int on_headers_complete(llhttp_t *p)
{
    struct http1 *h = p->data;
    h->head_done = true;
    h->head_bytes = 0;
    h->keep_alive = llhttp_should_keep_alive(p) != 0;
    return h->no_body ? 1 : 0;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
    struct http1 *h = p->data;
    if (len > h->out_cap - h->out_len) /* cannot be: output is never longer than input */
        return -1;
    memcpy(h->out + h->out_len, at, len);
    h->out_len += len;
    return 0;
}

static int on_message_complete(llhttp_t *p)
{
    struct http1 *h = p->data;
    h->body_done = true;
    h->keep_alive = h->keep_alive && llhttp_should_keep_alive(p) != 0;
    return HPE_PAUSED;
}

int http1_new(struct http1 **ret, struct conn *c, enum http1_kind kind, struct err *e)
{
    struct http1 *h = calloc(1, sizeof *h);
    if (!h)
        return err_sys(e, ENOMEM, "open an HTTP connection");
    h->c = c;
    h->kind = kind;
    h->body_done = true;
    h->text.limit = HTTP_HEAD_MAX + 2 * HTTP_HEADERS_MAX + 64;
    llhttp_settings_init(&h->settings);
    h->settings.on_url = on_url;
    h->settings.on_url_complete = on_url_complete;
    h->settings.on_header_field = on_name;
    h->settings.on_header_field_complete = on_name_complete;
    h->settings.on_header_value = on_value;
    h->settings.on_header_value_complete = on_value_complete;
    h->settings.on_headers_complete = on_headers_complete;
    h->settings.on_body = on_body;
    h->settings.on_message_complete = on_message_complete;
    *ret = h;
    return 0;
}

void http1_free(struct http1 *h)
{
    if (!h)
        return;
    buf_free(&h->text);
    free(h);
}

struct conn *http1_conn(struct http1 *h)
{
    return h->c;
}

static void message_begin(struct http1 *h, bool no_body)
{
    llhttp_init(&h->parser, h->kind == HTTP1_REQUESTS ? HTTP_REQUEST : HTTP_RESPONSE,
                &h->settings);
    h->parser.data = h;
    buf_reset(&h->text);
    h->nheaders = h->head_bytes = h->out_len = h->out_cap = 0;
    h->url = h->name[0] = 0;
    h->seen = 0;
    h->no_body = no_body;
    h->head_done = h->body_done = h->too_large = h->expect = false;
}

/* Reads more into the empty input buffer: as conn_try_read(). */
static ssize_t fill(struct http1 *h)
{
    ssize_t n = conn_try_read(h->c, h->in, sizeof h->in);
    h->pos = 0;
    h->len = n > 0 ? (size_t)n : 0;
    if (n == 0)
        h->eof = true;
    return n;
}

/* Feeds up to `len` bytes to the parser. Bytes used, or -EBADMSG, -E2BIG. */
static ssize_t feed(struct http1 *h, size_t len, struct err *e)
{
    const char *data = (const char *)h->in + h->pos;
    enum llhttp_errno r = llhttp_execute(&h->parser, data, len);
    size_t used = len;
    if (r == HPE_PAUSED || r == HPE_PAUSED_UPGRADE) {
        const char *at = llhttp_get_error_pos(&h->parser);
        used = at >= data && at <= data + len ? (size_t)(at - data) : len;
    } else if (h->too_large) {
        return err_set(e, E2BIG, "the message head is larger than %u bytes or %u lines",
                       HTTP_HEAD_MAX, HTTP_HEADERS_MAX);
    } else if (r != HPE_OK) {
        const char *why = llhttp_get_error_reason(&h->parser);
        return err_set(e, EBADMSG, "malformed HTTP: %s", why && *why ? why : "syntax error");
    }
    h->pos += used;
    return (ssize_t)used;
}

/* How many buffered bytes belong to the head: up to and including its empty line. */
static size_t head_extent(struct http1 *h)
{
    static const char end[4] = {'\r', '\n', '\r', '\n'};
    for (size_t i = h->pos; i < h->len; i++) {
        if (h->in[i] == (uint8_t)end[h->seen])
            h->seen++;
        else
            h->seen = h->in[i] == '\r';
        if (h->seen == sizeof end)
            return i + 1 - h->pos;
    }
    return h->len - h->pos;
}

/* Feeds buffered bytes of the head. 0: head complete, -EAGAIN: more needed, else an error.
 * The parser sees no byte behind the head, so a body never arrives during this. */
static int head_step(struct http1 *h, struct err *e)
{
    size_t extent = head_extent(h);
    ssize_t used = feed(h, extent, e);
    if (used < 0)
        return (int)used;
    if (h->seen == 4 && h->head_done && (size_t)used == extent)
        return 0;
    /* An end of the head that the parser sees and we do not, or the other way round. */
    if (h->seen == 4 || h->head_done)
        return err_set(e, EBADMSG, "malformed HTTP: the head does not end with an empty line");
    return -EAGAIN;
}

static int collect_headers(struct http1 *h, struct http_header *ret, size_t *ret_n)
{
    if (!buf_cstr(&h->text))
        return -ENOMEM;
    char *base = (char *)h->text.data;
    for (size_t i = 0; i < h->nheaders; i++) {
        ret[i].name = base + h->name[i];
        ret[i].value = base + h->value[i];
    }
    *ret_n = h->nheaders;
    return 0;
}

static const char *find_header(const struct http_header *headers, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(headers[i].name, name) == 0)
            return headers[i].value;
    }
    return NULL;
}

const char *http_req_header(const struct http_req *r, const char *name)
{
    return find_header(r->headers, r->nheaders, name);
}

const char *http_reply_header(const struct http_reply *r, const char *name)
{
    return find_header(r->headers, r->nheaders, name);
}

/* What llhttp lets pass and a proxy must not. */
static int check_framing(struct http1 *h, const struct http_header *headers, size_t n,
                         struct err *e)
{
    unsigned codings = 0, lengths = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(headers[i].name, "transfer-encoding") == 0) {
            if (++codings > 1 || strcasecmp(headers[i].value, "chunked") != 0)
                return err_set(e, ENOTSUP, "the only transfer coding here is 'chunked'");
        } else if (strcasecmp(headers[i].name, "content-length") == 0) {
            lengths++;
        }
    }
    if (codings + lengths > 1)
        return err_set(e, EBADMSG, "more than one header says how long the body is");
    if (codings && llhttp_get_http_minor(&h->parser) == 0)
        return err_set(e, EBADMSG, "HTTP/1.0 has no transfer coding");
    return 0;
}

static int finish_request(struct http1 *h, struct http_req *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    uuid_make(ret->id);
    int r = collect_headers(h, ret->headers, &ret->nheaders);
    if (r < 0)
        return err_sys(e, -r, "read a request");
    snprintf(ret->method, sizeof ret->method, "%s",
             llhttp_method_name((llhttp_method_t)llhttp_get_method(&h->parser)));
    if (llhttp_get_http_major(&h->parser) != 1 || llhttp_get_http_minor(&h->parser) > 1)
        return err_set(e, ENOTSUP, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    unsigned hosts = 0;
    for (size_t i = 0; i < ret->nheaders; i++)
        hosts += strcasecmp(ret->headers[i].name, "host") == 0;
    if (hosts > 1 || (hosts == 0 && llhttp_get_http_minor(&h->parser) == 1))
        return err_set(e, EBADMSG, "a request needs exactly one Host header");
    r = check_framing(h, ret->headers, ret->nheaders, e);
    if (r < 0)
        return r;
    char *url = (char *)h->text.data + h->url;
    if (url[0] != '/' && strcmp(url, "*") != 0)
        return err_set(e, EBADMSG, "the request target must begin with '/'");
    for (const unsigned char *p = (unsigned char *)url; *p; p++) {
        if (*p <= ' ' || *p == 127 || *p == '#')
            return err_set(e, EBADMSG, "the request target has a byte that must be encoded");
    }
    char *question = strchr(url, '?');
    ret->minor = llhttp_get_http_minor(&h->parser);
    ret->path = url;
    ret->query = question ? question + 1 : url + strlen(url);
    if (question)
        *question = '\0';
    const char *upgrade = find_header(ret->headers, ret->nheaders, "upgrade");
    ret->upgrade = upgrade && llhttp_get_upgrade(&h->parser);
    const char *expect = find_header(ret->headers, ret->nheaders, "expect");
    if (expect && strcasecmp(expect, "100-continue") != 0)
        return err_set(e, ENOTSUP, "the only expectation met here is '100-continue'");
    h->expect = expect && !h->body_done;
    return 0;
}

int http1_read_request(struct http1 *h, struct http_req *ret, int idle_ms, int head_ms,
                       struct err *e)
{
    message_begin(h, false);
    if (h->pos == h->len) {
        __atomic_store_n(&h->c->idle_since, clock_ms(), __ATOMIC_RELAXED);
        ssize_t n = conn_read(h->c, h->in, sizeof h->in, clock_ms() + idle_ms);
        __atomic_store_n(&h->c->idle_since, 0, __ATOMIC_RELAXED);
        h->pos = 0;
        h->len = n > 0 ? (size_t)n : 0;
        if (n <= 0)
            return n == 0 || n == -ETIMEDOUT ? -ENODATA : (int)n;
    }
    int64_t deadline = clock_ms() + head_ms;
    for (;;) {
        int r = head_step(h, e);
        if (r == 0)
            return finish_request(h, ret, e);
        if (r != -EAGAIN)
            return r;
        ssize_t n = conn_read(h->c, h->in, sizeof h->in, deadline);
        h->pos = 0;
        h->len = n > 0 ? (size_t)n : 0;
        if (n == 0)
            return err_set(e, ECONNRESET, "the peer left in the middle of a request");
        if (n < 0)
            return err_sys(e, (int)-n, "read a request");
    }
}

int http1_try_reply(struct http1 *h, struct http_reply *ret, bool no_body, struct err *e)
{
    if (h->body_done)
        message_begin(h, no_body);
    for (unsigned interim = 0;;) {
        if (h->pos == h->len) {
            ssize_t n = fill(h);
            if (n < 0)
                return n == -EAGAIN ? -EAGAIN : err_sys(e, (int)-n, "read a response");
            if (n == 0 && h->text.len == 0)
                return err_set(e, ENODATA, "the application closed the connection");
            if (n == 0)
                return err_set(e, EBADMSG, "the application's response head is cut short");
        }
        int r = head_step(h, e);
        if (r == -EAGAIN)
            continue;
        if (r < 0)
            return r;
        memset(ret, 0, sizeof *ret);
        ret->status = llhttp_get_status_code(&h->parser);
        if (ret->status >= 200 || ret->status == 101)
            break;
        if (ret->status < 100 || ++interim > 16)
            return err_set(e, EBADMSG, "the application sent a meaningless status %d",
                           ret->status);
        message_begin(h, no_body);
    }
    if (ret->status > 599)
        return err_set(e, EBADMSG, "the application sent a meaningless status %d", ret->status);
    int r = collect_headers(h, ret->headers, &ret->nheaders);
    if (r < 0)
        return err_sys(e, -r, "read a response");
    return check_framing(h, ret->headers, ret->nheaders, e);
}

ssize_t http1_try_body(struct http1 *h, void *data, size_t cap)
{
    if (h->expect) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        h->expect = false;
        int r = conn_write(h->c, go_on, sizeof go_on - 1, HTTP1_STALL_MS);
        if (r < 0)
            return r;
    }
    h->out = data;
    h->out_len = 0;
    h->out_cap = cap;
    while (!h->body_done && h->out_len == 0) {
        if (h->pos == h->len) {
            ssize_t n = fill(h);
            if (n < 0)
                return n;
            if (n == 0 && (llhttp_finish(&h->parser) != HPE_OK || !h->body_done))
                return h->body_done ? 0 : -ENODATA;
            if (n == 0)
                break;
        }
        ssize_t used = feed(h, MIN(h->len - h->pos, cap), NULL);
        if (used < 0)
            return used;
    }
    return (ssize_t)h->out_len;
}

ssize_t http1_body(struct http1 *h, void *data, size_t cap, int stall_ms)
{
    for (;;) {
        ssize_t n = http1_try_body(h, data, cap);
        if (n != -EAGAIN)
            return n;
        int r = conn_wait(h->c, h->c->want, clock_ms() + stall_ms);
        if (r < 0)
            return r;
    }
}

int http1_read_all(struct http1 *h, struct buf *ret, size_t limit, int stall_ms)
{
    int64_t length = http1_body_length(h);
    if (length > 0 && (uint64_t)length > limit)
        return -E2BIG;
    for (;;) {
        uint8_t *p = buf_reserve(ret, 4096);
        if (!p)
            return -ENOMEM;
        ssize_t n = http1_body(h, p, 4096, stall_ms);
        if (n <= 0)
            return (int)n;
        ret->len += (size_t)n;
        if (ret->len > limit)
            return -E2BIG;
    }
}

bool http1_body_done(const struct http1 *h)
{
    return h->body_done;
}

int64_t http1_body_length(const struct http1 *h)
{
    const char *base = (const char *)h->text.data;
    for (size_t i = 0; i < h->nheaders; i++) {
        if (strcasecmp(base + h->name[i], "content-length") == 0)
            return (int64_t)strtoull(base + h->value[i], NULL, 10);
    }
    return h->body_done ? 0 : -1;
}

bool http1_must_close(const struct http1 *h)
{
    if (!h->keep_alive)
        return true;
    if (h->body_done)
        return false;
    /* A body that was never asked for may or may not come. */
    int64_t length = http1_body_length(h);
    return h->expect || length < 0 || length > (int64_t)DRAIN_MAX;
}

bool http1_reusable(struct http1 *h)
{
    uint8_t scrap[4096];
    int64_t deadline = clock_ms() + DRAIN_MS;
    if (http1_must_close(h))
        return false;
    for (size_t total = 0; !h->body_done && total < DRAIN_MAX;) {
        ssize_t n = http1_try_body(h, scrap, sizeof scrap);
        if (n > 0)
            total += (size_t)n;
        else if (n != -EAGAIN || conn_wait(h->c, h->c->want, deadline) < 0)
            break;
    }
    return h->body_done && h->keep_alive;
}

bool http1_has_rest(const struct http1 *h)
{
    return h->pos < h->len;
}

size_t http1_take_rest(struct http1 *h, void *data, size_t cap)
{
    size_t n = MIN(h->len - h->pos, cap);
    memcpy(data, h->in + h->pos, n);
    h->pos += n;
    return n;
}
