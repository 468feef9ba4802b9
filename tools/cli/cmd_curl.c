// SPDX-License-Identifier: Apache-2.0
/* dormouse curl and token: requests to a microVM's endpoint. The application may be hostile. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"
#include "cli.h"
#include "text.h"

#define MICROVMS     "/2025-09-09/microvms"
#define DATA_MAX     (256u << 20)
#define FIRST_MS     120000 /* a resume may come first */
#define TOKEN_HEADER "X-aws-proxy-auth"

const struct opt opts_curl[] = {
    {"request", 'X', "METHOD", "GET, or POST with --data"},
    {"data", 'd', "DATA", "body; @FILE: the file's contents, @-: standard input"},
    {"header", 'H', "LINE", "\"Name: value\"; may be repeated"},
    {"port", 'p', "PORT", "port of the application (8080)"},
    {"include", 'i', NULL, "print the answer's head, too"},
    {"fail", 'f', NULL, "status 400 or more: print no body, exit with 1"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_token[] = {
    {"ports", 'p', "LIST", "ports it opens, e.g. 8080,9000-9100, or all (8080)"},
    {"minutes", 'm', "N", "how long it is good for, 1 to 60 (30)"},
    {NULL, 0, NULL, NULL},
};

/* ---- tokens ------------------------------------------------------------------------ */

static json_t *one_range(const char *text, size_t len)
{
    uint64_t from, to;
    const char *dash = memchr(text, '-', len);
    size_t n = dash ? (size_t)(dash - text) : len;
    if (!parse_u64n(text, n, 1, 65535, &from))
        return NULL;
    if (!dash)
        return json_pack("{s:i}", "port", (int)from);
    if (!parse_u64n(dash + 1, len - n - 1, from, 65535, &to))
        return NULL;
    return json_pack("{s:{s:i, s:i}}", "range", "startPort", (int)from, "endPort", (int)to);
}

json_t *ports_list(struct cli *c, const char *text)
{
    if (strcmp(text, "all") == 0)
        return json_pack("[{s:{}}]", "allPorts");
    json_t *list = json_array();
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        json_t *v = one_range(p, len);
        if (!v) {
            json_decref(list);
            cli_fail(c, CLI_USAGE, "USAGE",
                     "'%.60s' is no list of ports; write e.g. 8080,9000-9100 or all", text);
            return NULL;
        }
        json_array_append_new(list, v);
        p += len;
        if (!*p)
            return list;
    }
}

int mint_token(struct cli *c, const char *id, json_t *allowed, unsigned minutes, char *ret,
               size_t cap)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *answer = NULL;
    json_t *in =
        json_pack("{s:i, s:O}", "expirationInMinutes", (int)minutes, "allowedPorts", allowed);
    cli_path(&path, MICROVMS "/%/auth-token", id);
    const char *p = buf_cstr(&path);
    int rc = p && in ? cli_call(c, "POST", p, NULL, in, &answer) : cli_no_memory(c);
    json_decref(in);
    const char *token =
        json_string_value(json_object_get(json_object_get(answer, "authToken"), TOKEN_HEADER));
    if (rc == CLI_OK && (!token || strlen(token) >= cap || strpbrk(token, "\r\n")))
        rc = cli_fail(c, CLI_FAILED, "BAD_ANSWER", "the host's answer has no usable token");
    if (rc == CLI_OK)
        snprintf(ret, cap, "%s", token);
    json_decref(answer);
    return rc;
}

int cmd_token(struct cli *c, struct args *a)
{
    struct err e = ERR_INIT;
    uint64_t minutes = 30;
    char id[72], token[4096];
    const char *ports = args_get(a, "ports");
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "token needs one microVM");
    if (args_number(a, "minutes", 1, 60, &minutes, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    json_t *allowed = ports_list(c, ports ? ports : "8080");
    if (!allowed)
        return CLI_USAGE;
    int rc = find_vm(c, a->pos[0], id);
    if (rc == CLI_OK)
        rc = mint_token(c, id, allowed, (unsigned)minutes, token, sizeof token);
    json_decref(allowed);
    if (rc)
        return rc;
    if (c->json)
        return cli_print_new_json(c, json_pack("{s:{s:s}}", "authToken", TOKEN_HEADER, token));
    puts(token);
    return CLI_OK;
}

/* ---- curl -------------------------------------------------------------------------- */

struct curl {
    struct http_req req;
    struct http_body body;
    bool has_body;
    char port[8], token[4096], endpoint[400];
    struct buf data;
    char **lines; /* copies of --header */
    size_t nlines;
};

static void add(struct http_req *r, const char *name, const char *value)
{
    r->headers[r->nheaders].name = (char *)(uintptr_t)name;
    r->headers[r->nheaders++].value = (char *)(uintptr_t)value;
}

static bool is_token(const char *s)
{
    for (; *s; s++) {
        if (*s <= ' ' || *s >= 127 || strchr("\"(),/:;<=>?@[\\]{}", *s))
            return false;
    }
    return true;
}

static int user_headers(struct cli *c, struct args *a, struct curl *q)
{
    static const char *const ours[] = {"content-length", "transfer-encoding", "connection"};
    const char *given;
    q->lines = calloc(REPEAT_MAX, sizeof *q->lines);
    for (size_t i = 0; q->lines && (given = args_nth(a, "header", i)); i++) {
        char *line = q->lines[q->nlines] = strdup(given);
        char *colon = line ? strchr(line, ':') : NULL;
        q->nlines += line != NULL;
        if (!colon || colon == line || strpbrk(given, "\r\n"))
            return cli_fail(c, CLI_USAGE, "USAGE",
                            "--header needs \"Name: value\", not '%.60s'", given);
        *colon = '\0';
        if (!is_token(line))
            return cli_fail(c, CLI_USAGE, "USAGE", "'%.60s' is not the name of a header", line);
        for (size_t k = 0; k < ARRAY_LEN(ours); k++) {
            if (strcasecmp(line, ours[k]) == 0)
                return cli_fail(c, CLI_USAGE, "USAGE", "the header %s is set by dormouse curl",
                                line);
        }
        add(&q->req, line, colon + 1 + strspn(colon + 1, " \t"));
    }
    return q->lines ? CLI_OK : cli_no_memory(c);
}

static int read_data(struct cli *c, const char *text, struct curl *q)
{
    q->has_body = true;
    q->data.limit = DATA_MAX;
    if (text[0] != '@') {
        buf_str(&q->data, text);
    } else {
        const char *path = text + 1;
        bool in = strcmp(path, "-") == 0;
        AUTO_CLOSE int own = in ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        int fd = in ? 0 : own;
        ssize_t n = fd < 0 ? -1 : 1;
        while (n > 0) {
            uint8_t *at = buf_reserve(&q->data, 65536);
            n = at ? read(fd, at, 65536) : 0;
            q->data.len += n > 0 ? (size_t)n : 0;
        }
        if (n < 0)
            return cli_fail(c, CLI_NOT_FOUND, "NO_SUCH_FILE", "'%s': %s", path,
                            strerror(errno));
    }
    if (q->data.bad)
        return cli_fail(c, CLI_FAILED, "TOO_LARGE", "the body is larger than %u MiB",
                        DATA_MAX >> 20);
    q->body = (struct http_body){.data = q->data.data, .fd = -1, .size = q->data.len};
    if (!http_req_header(&q->req, "content-type")) {
        const char *all = buf_cstr(&q->data);
        json_t *v = all ? json_loads(all, 0, NULL) : NULL;
        add(&q->req, "Content-Type", v ? "application/json" : "text/plain; charset=utf-8");
        json_decref(v);
    }
    return CLI_OK;
}

/* The path as given: only what cannot stand in a request is refused. */
static int set_target(struct cli *c, const char *path, struct curl *q)
{
    for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
        if (*p <= ' ' || *p == 127 || *p == '#')
            return cli_fail(c, CLI_USAGE, "USAGE",
                            "the path must not have blanks, control characters or '#'; write "
                            "them as %%20, %%23 …");
    }
    if (path[0] != '/') {
        cli_fail(c, 0, "USAGE", "the path must begin with '/', not '%.60s'", path);
        return cli_hint(c, CLI_USAGE, "dormouse curl VM /%.60s", path);
    }
    q->req.path = (char *)(uintptr_t)path;
    q->req.query = (char *)(uintptr_t) "";
    return CLI_OK;
}

static int prepare(struct cli *c, struct args *a, struct curl *q)
{
    struct err e = ERR_INIT;
    uint64_t port = 8080;
    const char *method = args_get(a, "request"), *data = args_get(a, "data");
    if (args_number(a, "port", 1, 65535, &port, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    method = method ? method : data ? "POST" : "GET";
    if (!*method || !is_token(method) || strlen(method) >= sizeof q->req.method)
        return cli_fail(c, CLI_USAGE, "USAGE", "'%.20s' is not a method", method);
    snprintf(q->req.method, sizeof q->req.method, "%s", method);
    snprintf(q->port, sizeof q->port, "%u", (unsigned)port);
    int rc = set_target(c, a->npos > 1 ? a->pos[1] : "/", q);
    if (rc == CLI_OK)
        rc = user_headers(c, a, q);
    if (rc == CLI_OK && data)
        rc = read_data(c, data, q);
    if (rc)
        return rc;
    add(&q->req, "X-aws-proxy-port", q->port);
    if (!http_req_header(&q->req, "user-agent"))
        add(&q->req, "User-Agent", "dormouse/" DORMOUSE_VERSION);
    if (!http_req_header(&q->req, "accept"))
        add(&q->req, "Accept", "*/*");
    return CLI_OK;
}

/* The endpoint's name, and a token for just this port. */
static int get_access(struct cli *c, const char *text, struct curl *q)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    char id[72];
    json_t *v = NULL;
    int rc = find_vm(c, text, id);
    if (rc)
        return rc;
    cli_path(&path, MICROVMS "/%", id);
    const char *p = buf_cstr(&path);
    rc = p ? cli_call(c, "GET", p, NULL, NULL, &v) : CLI_FAILED;
    if (rc)
        return rc;
    const char *endpoint = json_string_value(json_object_get(v, "endpoint"));
    const char *state = json_string_value(json_object_get(v, "state"));
    snprintf(q->endpoint, sizeof q->endpoint, "%s", endpoint ? endpoint : "");
    bool over = state && strncmp(state, "TERMINAT", 8) == 0;
    json_decref(v);
    if (over) {
        cli_fail(c, 0, "WRONG_STATE", "microVM %s has ended", id);
        return cli_hint(c, CLI_STATE, "dormouse logs %s", id);
    }
    json_t *allowed = ports_list(c, q->port);
    rc = mint_token(c, id, allowed, 5, q->token, sizeof q->token);
    json_decref(allowed);
    if (rc == CLI_OK)
        add(&q->req, TOKEN_HEADER, q->token);
    return rc;
}

static void print_head(struct cli *c, const struct http_reply *r)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_printf(&b, "HTTP/1.1 %d\n", r->status);
    for (size_t i = 0; i < r->nheaders; i++)
        buf_printf(&b, "%s: %s\n", r->headers[i].name, r->headers[i].value);
    buf_str(&b, "\n");
    text_print(stdout, (const char *)b.data, b.len, c->safe_out);
}

static int print_body(struct cli *c, struct http_client *hc)
{
    char data[16384];
    ssize_t n;
    while ((n = http1_body(hc->h, data, sizeof data, FIRST_MS)) > 0) {
        text_print(stdout, data, (size_t)n, c->safe_out);
        fflush(stdout);
        if (ferror(stdout))
            return cli_flush(c);
    }
    if (n < 0)
        return cli_fail(c, n == -ETIMEDOUT ? CLI_TIMEOUT : CLI_FAILED, "CUT_SHORT",
                        "the answer is cut short: %s", strerror((int)-n));
    return CLI_OK;
}

/* An answer of the endpoint itself, not of the application. */
static int proxy_error(struct cli *c, const char *code, const char *request,
                       struct http_client *hc)
{
    AUTO(buf_free) struct buf body = BUF_INIT;
    char name[64], id[48];
    snprintf(name, sizeof name, "%s", code);
    snprintf(id, sizeof id, "%.47s", request ? request : "");
    http1_read_all(hc->h, &body, 65536, 10000);
    const char *text = buf_cstr(&body);
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    const char *message = json_string_value(json_object_get(v, "message"));
    cli_fail(c, 0, name, "%s",
             message         ? message
             : text && *text ? text
                             : "the endpoint refused");
    snprintf(c->fail.request, sizeof c->fail.request, "%s", id);
    json_decref(v);
    if (strcmp(name, "APP_CONNECT_FAILED") == 0)
        cli_hint(c, 0, "does the application listen on that port? dormouse logs VM; --port N");
    return strcmp(name, "UNAUTHORIZED") == 0 ? CLI_DENIED : CLI_FAILED;
}

static int perform(struct cli *c, struct args *a, struct curl *q)
{
    struct http_client hc;
    struct http_reply reply;
    struct err e = ERR_INIT;
    if (http_client_init(&hc, c->tls, q->endpoint, &e) < 0)
        return cli_fail_err(c, CLI_FAILED, "BAD_ANSWER", &e);
    int n = http_client_send(&hc, &q->req, q->has_body ? &q->body : NULL, FIRST_MS, &reply, &e);
    if (n < 0) {
        http_client_close(&hc);
        return cli_fail_err(c, n == -ETIMEDOUT ? CLI_TIMEOUT : CLI_UNREACHABLE,
                            n == -ETIMEDOUT ? "TIMEOUT" : "UNREACHABLE", &e);
    }
    const char *woken = http_reply_header(&reply, "x-dormouse-resumed");
    const char *own = http_reply_header(&reply, "x-aws-proxy-error");
    int status = reply.status, rc;
    if (woken && c->color_err)
        cli_step(c, "woken", "in %.10s ms", woken);
    if (own && !args_has(a, "include")) {
        rc = proxy_error(c, own, http_reply_header(&reply, "x-amzn-requestid"), &hc);
    } else {
        if (args_has(a, "include"))
            print_head(c, &reply);
        bool failed = status >= 400 && args_has(a, "fail");
        rc = failed
                 ? cli_fail(c, CLI_FAILED, "HTTP_STATUS", "the application answered %d", status)
                 : print_body(c, &hc);
    }
    http_client_close(&hc);
    return rc;
}

int cmd_curl(struct cli *c, struct args *a)
{
    AUTO_FREE struct curl *q = calloc(1, sizeof *q);
    if (!q)
        return cli_no_memory(c);
    if (a->npos < 1 || a->npos > 2)
        return cli_fail(c, CLI_USAGE, "USAGE", "curl needs a microVM and a path");
    int rc = prepare(c, a, q);
    if (rc == CLI_OK)
        rc = get_access(c, a->pos[0], q);
    if (rc == CLI_OK)
        rc = perform(c, a, q);
    for (size_t i = 0; i < q->nlines; i++)
        free(q->lines[i]);
    free(q->lines);
    buf_free(&q->data);
    explicit_bzero(q->token, sizeof q->token);
    return rc;
}
