// SPDX-License-Identifier: Apache-2.0
/* Signed calls to the host's API; see cli.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../api/sigv4_sign.h"
#include "../../api/urlenc.h"
#include "../../api/uuid.h"
#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"
#include "cli.h"

#define ANSWER_MAX ((size_t)16 << 20)
#define ANSWER_MS  330000 /* a suspend may write gigabytes before it is answered */
#define PAGES_MAX  10000

int cli_open(struct cli *c)
{
    struct err e = ERR_INIT;
    if (c->tls)
        return CLI_OK;
    int r = settings_read(&c->set, c->url, c->ca, &e);
    if (r < 0)
        return cli_fail_err(c, CLI_USAGE, "NOT_CONFIGURED", &e);
    if (tls_client_open(&c->tls, c->set.ca, &e) < 0 ||
        (c->set.client_cert &&
         tls_client_identity(c->tls, c->set.client_cert, c->set.client_key, &e) < 0) ||
        http_client_init(&c->api, c->tls, c->set.authority, &e) < 0)
        return cli_fail_err(c, CLI_FAILED, "NOT_CONFIGURED", &e);
    return CLI_OK;
}

void cli_path(struct buf *b, const char *template, ...)
{
    va_list ap;
    va_start(ap, template);
    for (; *template; template ++) {
        if (*template == '%') {
            const char *arg = va_arg(ap, const char *);
            url_encode(b, arg, strlen(arg), false);
        } else {
            buf_add(b, template, 1);
        }
    }
    va_end(ap);
}

void api_answer_free(struct api_answer *a)
{
    buf_free(&a->body);
}

/* ---- failures ---------------------------------------------------------------------- */

static int exit_of(int status, const char *code)
{
    if (strcmp(code, "IncompleteSignatureException") == 0)
        return CLI_DENIED;
    switch (status) {
    case 401:
    case 403:
        return CLI_DENIED;
    case 404:
        return CLI_NOT_FOUND;
    case 409:
    case 412:
        return CLI_STATE;
    case 408:
    case 504:
        return CLI_TIMEOUT;
    default:
        return CLI_FAILED;
    }
}

static void add_hint(struct cli *c)
{
    static const struct {
        const char *code, *word, *hint;
    } table[] = {
        {"InvalidSignatureException", "expired", "set this machine's clock: dormouse doctor"},
        {"InvalidSignatureException", "not yet", "set this machine's clock: dormouse doctor"},
        {"InvalidSignatureException", "",
         "the secret is not this key's; load the host's own: "
         ". build/run/env"},
        {"SignatureDoesNotMatch", "",
         "the secret is not this key's; load the host's own: "
         ". build/run/env"},
        {"UnrecognizedClientException", "",
         "the key is not of this host; load its own: "
         ". build/run/env"},
        {"InvalidAccessKeyId", "",
         "the key is not of this host; load its own: "
         ". build/run/env"},
        {"AccessDeniedException", "", "use an access key with more rights"},
        {"InsufficientCapacityException", "",
         "make room: dormouse ps, then dormouse suspend VM"},
        {"ConflictException", "not terminated", "end them first: dormouse ps"},
        {"ResourceNotFoundException", "microvmIdentifier",
         "see which there are: dormouse ps -a"},
    };
    const struct cli_fail *f = &c->fail;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].code, f->code) == 0 && strstr(f->e.msg, table[i].word)) {
            cli_hint(c, 0, "%s", table[i].hint);
            return;
        }
    }
}

/* The text of an XML element, as S3 writes errors. */
static bool xml_text(const char *xml, const char *element, char *ret, size_t cap)
{
    char open[40];
    snprintf(open, sizeof open, "<%s>", element);
    const char *at = strstr(xml, open);
    if (!at)
        return false;
    at += strlen(open);
    snprintf(ret, cap, "%.*s", (int)MIN(strcspn(at, "<"), cap - 1), at);
    return true;
}

static int refused(struct cli *c, struct api_answer *a)
{
    char message[400] = "", code[64];
    const char *body = buf_cstr(&a->body);
    snprintf(code, sizeof code, "%s", a->error);
    json_t *v = body ? json_loads(body, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(v, "message"));
    if (text)
        snprintf(message, sizeof message, "%s", text);
    else if (body && body[0] == '<' && xml_text(body, "Code", code, sizeof code))
        xml_text(body, "Message", message, sizeof message);
    json_decref(v);
    if (!message[0])
        snprintf(message, sizeof message, "the host answered with status %d", a->status);
    cli_fail(c, 0, code, "%s", message);
    snprintf(c->fail.request, sizeof c->fail.request, "%s", a->request);
    add_hint(c);
    return exit_of(a->status, code);
}

static int unreachable(struct cli *c, int num, const struct err *e)
{
    switch (num) {
    case -EINTR:
        return cli_fail_err(c, CLI_INTERRUPTED, "INTERRUPTED", e);
    case -ETIMEDOUT:
        return cli_fail_err(c, CLI_TIMEOUT, "TIMEOUT", e);
    case -EKEYREJECTED:
        return cli_fail_err(c, CLI_UNREACHABLE, "CERTIFICATE_NOT_TRUSTED", e);
    case -ENOMEM:
        return cli_fail_err(c, CLI_FAILED, "OUT_OF_MEMORY", e);
    default:
        cli_fail_err(c, CLI_UNREACHABLE, "UNREACHABLE", e);
        if (!c->fail.e.hint[0])
            cli_hint(c, 0, "see what is wrong: dormouse doctor");
        return CLI_UNREACHABLE;
    }
}

/* ---- requests ---------------------------------------------------------------------- */

struct signed_request {
    struct http_req req;
    char date[17];
    struct buf authorization;
};

static void add(struct http_req *r, const char *name, const char *value)
{
    r->headers[r->nheaders].name = (char *)(uintptr_t)name;
    r->headers[r->nheaders++].value = (char *)(uintptr_t)value;
}

static int sign(struct cli *c, const struct api_request *r, struct signed_request *s)
{
    struct err e = ERR_INIT;
    const struct settings *set = &c->set;
    if (!set->key_id || !set->secret) {
        cli_fail(c, 0, "NO_CREDENTIALS",
                 "no access key: AWS_ACCESS_KEY_ID and "
                 "AWS_SECRET_ACCESS_KEY are not both set");
        return cli_hint(c, CLI_DENIED, "make up && . build/run/env");
    }
    const struct sigv4_signer k = {.key_id = set->key_id,
                                   .secret = set->secret,
                                   .region = set->region,
                                   .service = r->service,
                                   .encode_twice = strcmp(r->service, "s3") != 0};
    sigv4_date(time(NULL), s->date);
    add(&s->req, "x-amz-date", s->date);
    add(&s->req, "x-amz-content-sha256", r->payload_hash);
    if (set->session)
        add(&s->req, "x-amz-security-token", set->session);
    if (sigv4_sign(&k, &s->req, r->payload_hash, &s->authorization, &e) < 0)
        return cli_fail_err(c, CLI_FAILED, "CANNOT_SIGN", &e);
    const char *text = buf_cstr(&s->authorization);
    if (!text)
        return cli_no_memory(c);
    add(&s->req, "Authorization", text);
    return CLI_OK;
}

static void take_headers(const struct http_reply *reply, struct api_answer *ret)
{
    const char *next = http_reply_header(reply, "x-dormouse-next-offset");
    const char *size = http_reply_header(reply, "x-dormouse-log-size");
    const char *date = http_reply_header(reply, "date");
    struct tm tm = {.tm_mday = 1};
    const char *type = http_reply_header(reply, "x-amzn-errortype");
    const char *id = http_reply_header(reply, "x-amzn-requestid");
    ret->status = reply->status;
    if (type)
        snprintf(ret->error, sizeof ret->error, "%.*s",
                 (int)MIN(strcspn(type, ":"), sizeof ret->error - 1), type);
    snprintf(ret->request, sizeof ret->request, "%.47s", id ? id : "");
    if (next && !parse_u64(next, 0, INT64_MAX, &ret->next_offset))
        ret->next_offset = 0;
    const char *end = http_reply_header(reply, "x-dormouse-end-of-file");
    ret->end_of_file = end && strcmp(end, "true") == 0;
    if (size && !parse_u64(size, 0, INT64_MAX, &ret->log_size))
        ret->log_size = 0;
    if (date && strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        ret->date = timegm(&tm);
}

int cli_request(struct cli *c, const struct api_request *r, struct api_answer *ret)
{
    struct signed_request s = {.req = {.nheaders = 0}};
    struct err e = ERR_INIT;
    struct http_reply reply;
    *ret = (struct api_answer){.status = 0};
    int rc = cli_open(c);
    if (rc)
        return rc;
    snprintf(s.req.method, sizeof s.req.method, "%s", r->method);
    s.req.path = (char *)(uintptr_t)r->path;
    s.req.query = (char *)(uintptr_t)(r->query ? r->query : "");
    add(&s.req, "Host", c->set.authority);
    if (r->last_event)
        add(&s.req, "Last-Event-ID", r->last_event);
    if (r->content_type)
        add(&s.req, "Content-Type", r->content_type);
    c->api.wake_fd = c->sigfd;
    rc = r->plain ? CLI_OK : sign(c, r, &s);
    if (rc == CLI_OK) {
        add(&s.req, "User-Agent", "dormouse/" DORMOUSE_VERSION);
        if (r->websocket) {
            add(&s.req, "Connection", "Upgrade");
            add(&s.req, "Upgrade", "websocket");
            add(&s.req, "Sec-WebSocket-Version", "13");
            add(&s.req, "Sec-WebSocket-Key", r->websocket);
        }
        int n = http_client_send(&c->api, &s.req, r->body,
                                 r->limit_ms ? r->limit_ms : ANSWER_MS, &reply, &e);
        bool taken = false;
        if (n == 0) {
            take_headers(&reply, ret);
            if ((taken = r->take && ret->status < 400 && (!r->websocket || ret->status == 101)))
                rc = r->take(c, r->ctx);
        }
        if (n == 0 && !taken) {
            n = http1_read_all(c->api.h, &ret->body, ANSWER_MAX, HTTP1_STALL_MS);
            if (n < 0)
                err_sys(&e, -n, "read the host's answer");
        }
        if (n < 0)
            rc = unreachable(c, n, &e);
        else if (ret->status >= 400)
            rc = refused(c, ret);
        http_client_done(&c->api);
    }
    buf_free(&s.authorization);
    if (rc)
        api_answer_free(ret);
    return rc;
}

static int call(struct cli *c, int limit_ms, const char *method, const char *path,
                const char *query, const json_t *in, json_t **ret)
{
    AUTO(api_answer_free) struct api_answer a;
    AUTO_FREE char *text = in ? json_dumps(in, JSON_COMPACT) : NULL;
    char hash[65];
    const struct http_body body = {.data = text, .fd = -1, .size = text ? strlen(text) : 0};
    if (in && !text) {
        a.body = (struct buf)BUF_INIT;
        return cli_no_memory(c);
    }
    sha256_hex(text ? text : "", body.size, hash);
    const struct api_request r = {.service = "lambda",
                                  .method = method,
                                  .path = path,
                                  .query = query,
                                  .body = in ? &body : NULL,
                                  .content_type = in ? "application/json" : NULL,
                                  .payload_hash = hash,
                                  .limit_ms = limit_ms};
    int rc = cli_request(c, &r, &a);
    if (rc || !ret)
        return rc;
    const char *answer = buf_cstr(&a.body);
    *ret = answer ? json_loads(answer, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!*ret && a.body.len == 0)
        *ret = json_object();
    if (!*ret)
        return cli_fail(c, CLI_FAILED, "BAD_ANSWER", "the host's answer is not JSON");
    return CLI_OK;
}

int cli_call(struct cli *c, const char *method, const char *path, const char *query,
             const json_t *in, json_t **ret)
{
    return call(c, 0, method, path, query, in, ret);
}

int cli_call_for(struct cli *c, int limit_ms, const char *method, const char *path,
                 const json_t *in, json_t **ret)
{
    return call(c, limit_ms, method, path, NULL, in, ret);
}

int cli_list(struct cli *c, const char *path, const char *query, json_t **ret)
{
    json_t *all = json_array();
    AUTO(buf_free) struct buf q = BUF_INIT;
    buf_str(&q, query ? query : "");
    for (unsigned page = 0; page < PAGES_MAX; page++) {
        json_t *v = NULL;
        const char *text = buf_cstr(&q);
        int rc = text ? cli_call(c, "GET", path, text, NULL, &v) : cli_no_memory(c);
        if (rc) {
            json_decref(all);
            return rc;
        }
        json_array_extend(all, json_object_get(v, "items"));
        const char *next = json_string_value(json_object_get(v, "nextToken"));
        if (!next) {
            json_decref(v);
            break;
        }
        buf_reset(&q);
        buf_printf(&q, "%s%snextToken=", query ? query : "", query && *query ? "&" : "");
        url_encode(&q, next, strlen(next), false);
        json_decref(v);
    }
    *ret = all;
    return CLI_OK;
}

static void copy_member(const json_t *v, const char *name, char *ret, size_t cap)
{
    const char *text = json_string_value(json_object_get(v, name));
    snprintf(ret, cap, "%s", text ? text : "");
}

int cli_facts(struct cli *c)
{
    json_t *v;
    struct host_facts *f = &c->facts;
    if (f->known)
        return CLI_OK;
    int rc = cli_call(c, "GET", "/dormouse/v1/host", NULL, NULL, &v);
    if (rc)
        return rc;
    copy_member(v, "region", f->region, sizeof f->region);
    copy_member(v, "account", f->account, sizeof f->account);
    copy_member(v, "domain", f->domain, sizeof f->domain);
    copy_member(v, "version", f->version, sizeof f->version);
    json_decref(v);
    f->known = true;
    return CLI_OK;
}
