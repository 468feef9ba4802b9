// SPDX-License-Identifier: Apache-2.0
/*
 * From an HTTP request to an operation and its input object. Works on the raw
 * path: labels may hold encoded slashes and colons, and each is decoded once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "op.h"
#include "urlenc.h"
#include "utf8.h"

static const struct route routes[] = {
#define ROUTE(op, method, path, status, rights, style) \
    {#op, method, path, status, rights, style, SHAPE_in_##op, op_##op},
#include "routes.def"
#undef ROUTE
};

const char *const *api_operations(unsigned *ret_n)
{
    /* In the order of enum shape_id, which numbers the operations. */
    static const char *const names[] = {
#define ROUTE(op, method, path, status, rights, style) #op,
#include "routes.def"
#undef ROUTE
    };
    *ret_n = ARRAY_LEN(names);
    return names;
}

/* Calls label() for each {name} of the template with the raw text that stands there. */
typedef bool label_fn(void *ctx, struct slice name, struct slice text);

static bool path_match(const char *tmpl, const char *path, label_fn *label, void *ctx)
{
    while (*tmpl) {
        if (*tmpl != '{') {
            if (*tmpl++ != *path++)
                return false;
            continue;
        }
        size_t name = strcspn(tmpl, "}"), text = strcspn(path, "/");
        if (label &&
            !label(ctx, (struct slice){tmpl + 1, name - 1}, (struct slice){path, text}))
            return false;
        tmpl += name + 1;
        path += text;
    }
    return *path == '\0';
}

bool api_owns_path(const char *raw_path)
{
    static const char *const prefixes[] = {"/2025-09-09/", "/2026-04-04/network-connectors",
                                           "/2017-03-31/tags/", "/dormouse/v1/"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (strncmp(raw_path, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

const struct route *route_find(const char *method, const char *raw_path)
{
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (strcmp(routes[i].method, method) == 0 &&
            path_match(routes[i].path, raw_path, NULL, NULL))
            return &routes[i];
    return NULL;
}

/* ---- input --------------------------------------------------------------- */

/* Decoded, malloc'd; NULL when it is no percent-encoded UTF-8 text, or out of memory. */
static char *decode(struct slice s)
{
    char *text = malloc(s.n + 1);
    if (!text || !url_decode(s.p, s.n, text, s.n + 1) || !utf8_ok(text, strlen(text))) {
        free(text);
        return NULL;
    }
    return text;
}

/* A parameter's text as the JSON type its shape has; text that does not fit stays text, for
 * validation to complain about. */
static json_t *typed(const struct shape *s, const char *text)
{
    if (s->type == SHAPE_INTEGER) {
        uint64_t n;
        bool minus = text[0] == '-';
        if (parse_u64(text + minus, 0, INT64_MAX, &n))
            return json_integer(minus ? -(json_int_t)n : (json_int_t)n);
    }
    return json_string(text);
}

struct labels {
    json_t *in;
    bool bad;
};

static bool take_label(void *ctx, struct slice name, struct slice text)
{
    struct labels *l = ctx;
    char key[64];
    AUTO_FREE char *value = decode(text);
    if (!value || !slice_copy(name, key, sizeof key) ||
        json_object_set_new(l->in, key, json_string(value)) < 0)
        l->bad = true;
    return !l->bad;
}

static int take_parameter(json_t *in, const struct member *m, const char *value)
{
    if (m->shape->type != SHAPE_LIST)
        return json_object_get(in, m->name)
                   ? 0 /* the first one counts */
                   : json_object_set_new(in, m->name, typed(m->shape, value));
    json_t *list = json_object_get(in, m->name);
    if (!list) {
        list = json_array();
        if (json_object_set_new(in, m->name, list) < 0)
            return -1;
    }
    return json_array_append_new(list, typed(m->shape->item, value));
}

static int take_query(const struct shape *s, const char *query, json_t *in)
{
    struct query_iter it = {.rest = query};
    while (query_next(&it)) {
        AUTO_FREE char *name = decode((struct slice){it.name, it.name_len});
        AUTO_FREE char *value = decode((struct slice){it.value, it.value_len});
        if (!name || !value)
            return -1;
        for (size_t i = 0; i < s->nmembers; i++) {
            const struct member *m = &s->members[i];
            if (m->where == IN_QUERY && strcmp(m->wire, name) == 0 &&
                take_parameter(in, m, value) < 0)
                return -1;
        }
    }
    return 0;
}

static bool has_body(const struct shape *s)
{
    for (size_t i = 0; i < s->nmembers; i++)
        if (s->members[i].where == IN_BODY)
            return true;
    return false;
}

bool api_takes_bytes(const struct http_req *req)
{
    const struct route *r = route_find(req->method, req->path);
    return r && !has_body(shape_of(r->input));
}

/* Only members that belong into the body: a stranger cannot set a label that way. */
static int take_body(const struct shape *s, const void *body, size_t len, json_t *in,
                     struct buf *text)
{
    json_t *v = json_read(body, len, text);
    if (!v)
        return -EINVAL;
    int r = 0;
    for (size_t i = 0; i < s->nmembers && r == 0; i++) {
        json_t *value = json_object_get(v, s->members[i].name);
        if (s->members[i].where == IN_BODY && value)
            r = json_object_set(in, s->members[i].name, value);
    }
    json_decref(v);
    return r < 0 ? -ENOMEM : 0;
}

int route_input(const struct route *r, const struct http_req *req, const void *body, size_t len,
                json_t **ret, struct buf *text)
{
    const struct shape *s = shape_of(r->input);
    struct labels l = {.in = json_object()};
    if (!l.in)
        return -ENOMEM;
    int rc = 0;
    if (!path_match(r->path, req->path, take_label, &l) ||
        take_query(s, req->query ? req->query : "", l.in) < 0) {
        buf_str(text, "The path or query is not percent-encoded UTF-8 text");
        rc = -EINVAL;
    }
    if (rc == 0 && has_body(s))
        rc = take_body(s, body, len, l.in, text);
    if (rc < 0) {
        json_decref(l.in);
        return rc;
    }
    *ret = l.in;
    return 0;
}
