// SPDX-License-Identifier: Apache-2.0
/*
 * docs/openapi.json against the tables the daemon works from: each route has its entry, with
 * its rights, status, parameters and members and their bounds; nothing else is described.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../../api/op.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

static json_t *doc;

static const struct {
    const char *operation, *method, *path;
    int status;
    enum rights rights;
    enum shape_id input;
} all[] = {
#define ROUTE(op, method, path, status, rights, style) \
    {#op, method, path, status, rights, SHAPE_in_##op},
#include "../../api/routes.def"
#undef ROUTE
};

/* Paths that the front answers before any route. */
static const char *const more[] = {"/healthz", "/readyz", "/metrics"};

static const char *text(const json_t *v, const char *name)
{
    const char *s = json_string_value(json_object_get(v, name));
    return s ? s : "";
}

static const json_t *entry(size_t i)
{
    char method[12];
    size_t n = 0;
    for (; all[i].method[n] && n < sizeof method - 1; n++)
        method[n] = (char)(all[i].method[n] | 0x20);
    method[n] = '\0';
    return json_object_get(json_object_get(json_object_get(doc, "paths"), all[i].path), method);
}

static bool bound_is(const json_t *v, const char *name, int64_t want, int64_t none)
{
    const json_t *n = json_object_get(v, name);
    return want == none ? !n : json_is_integer(n) && json_integer_value(n) == want;
}

/* The type, its bounds and what is inside. */
static bool same(const json_t *v, const struct shape *s)
{
    static const char *const types[] = {
        [SHAPE_STRING] = "string", [SHAPE_INTEGER] = "integer", [SHAPE_BOOLEAN] = "boolean",
        [SHAPE_ENUM] = "string",   [SHAPE_LIST] = "array",      [SHAPE_MAP] = "object",
        [SHAPE_STRUCT] = "object", [SHAPE_UNION] = "object"};
    if (strcmp(text(v, "type"), types[s->type]) != 0)
        return false;
    size_t n = 0;
    switch (s->type) {
    case SHAPE_STRING:
        return bound_is(v, "minLength", s->min, 0) &&
               bound_is(v, "maxLength", s->max, INT64_MAX);
    case SHAPE_INTEGER:
        return bound_is(v, "minimum", s->min, INT64_MIN) &&
               bound_is(v, "maximum", s->max, INT64_MAX);
    case SHAPE_BOOLEAN:
        return true;
    case SHAPE_ENUM:
        for (; s->values[n]; n++) {
            const char *word = json_string_value(json_array_get(json_object_get(v, "enum"), n));
            if (!word || strcmp(word, s->values[n]) != 0)
                return false;
        }
        return json_array_size(json_object_get(v, "enum")) == n;
    case SHAPE_LIST:
        return bound_is(v, "minItems", s->min, 0) &&
               bound_is(v, "maxItems", s->max, INT64_MAX) &&
               same(json_object_get(v, "items"), s->item);
    case SHAPE_MAP:
        return bound_is(v, "maxProperties", s->max, INT64_MAX) &&
               same(json_object_get(v, "additionalProperties"), s->item);
    case SHAPE_STRUCT:
    case SHAPE_UNION:
        for (size_t i = 0; i < s->nmembers; i++) {
            const json_t *m =
                json_object_get(json_object_get(v, "properties"), s->members[i].name);
            if (!m || !same(m, s->members[i].shape))
                return false;
        }
        return json_object_size(json_object_get(v, "properties")) == s->nmembers;
    }
    return false;
}

static bool is_required(const json_t *v, const char *name)
{
    const json_t *list = json_object_get(v, "required");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0)
            return true;
    return false;
}

static bool parameter_is(const json_t *e, const struct member *m)
{
    const json_t *list = json_object_get(e, "parameters");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        bool path = m->where == IN_PATH;
        if (strcmp(text(p, "name"), path ? m->name : m->wire) == 0)
            return strcmp(text(p, "in"), path ? "path" : "query") == 0 &&
                   json_is_true(json_object_get(p, "required")) == m->required &&
                   same(json_object_get(p, "schema"), m->shape);
    }
    return false;
}

static bool input_is(const json_t *e, const struct shape *s)
{
    const json_t *body = json_object_get(
        json_object_get(json_object_get(json_object_get(e, "requestBody"), "content"),
                        "application/json"),
        "schema");
    size_t nbody = 0, nparameters = 0;
    for (size_t i = 0; i < s->nmembers; i++) {
        const struct member *m = &s->members[i];
        const json_t *v = json_object_get(json_object_get(body, "properties"), m->name);
        bool ok = m->where == IN_BODY
                      ? v && same(v, m->shape) && is_required(body, m->name) == m->required
                      : parameter_is(e, m);
        nbody += m->where == IN_BODY;
        nparameters += m->where != IN_BODY;
        if (!ok) {
            printf("# member %s\n", m->name);
            return false;
        }
    }
    return json_object_size(json_object_get(body, "properties")) == nbody &&
           json_array_size(json_object_get(e, "parameters")) == nparameters;
}

TEST(every_route_is_described)
{
    static const char *const rights[] = {"read", "run", "admin"};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const json_t *e = entry(i);
        char status[8];
        snprintf(status, sizeof status, "%d", all[i].status);
        if (!e)
            printf("# %s %s: there is no entry\n", all[i].method, all[i].path);
        else if (strcmp(text(e, "operationId"), all[i].operation) != 0 ||
                 strcmp(text(e, "x-rights"), rights[all[i].rights]) != 0 ||
                 !json_object_get(json_object_get(e, "responses"), status) ||
                 !*text(e, "summary") || !input_is(e, shape_of(all[i].input)))
            printf("# %s: the entry is another's\n", all[i].operation);
        else
            continue;
        CHECK(false);
    }
}

TEST(nothing_else_is_described)
{
    const char *path, *method;
    json_t *methods, *e;
    size_t n = 0;
    json_object_foreach(json_object_get(doc, "paths"), path, methods)
    {
        bool front = false;
        for (size_t i = 0; i < ARRAY_LEN(more); i++)
            front = front || strcmp(path, more[i]) == 0;
        json_object_foreach(methods, method, e) n += !front;
    }
    CHECK(n == ARRAY_LEN(all));
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        CHECK(json_object_get(json_object_get(doc, "paths"), more[i]) != NULL);
}

/* What points somewhere points at something. */
static bool resolved(const json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;
    bool ok = true;
    json_array_foreach(v, i, item) ok = ok && resolved(item);
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        ok = ok && resolved(item);
        if (strcmp(key, "$ref") == 0) {
            char ref[128], kind[64], name[64];
            snprintf(ref, sizeof ref, "%s", json_string_value(item));
            ok = ok && sscanf(ref, "#/components/%63[^/]/%63s", kind, name) == 2 &&
                 json_object_get(json_object_get(json_object_get(doc, "components"), kind),
                                 name);
        }
    }
    return ok;
}

TEST(references)
{
    CHECK(resolved(doc));
    CHECK(strncmp(text(doc, "openapi"), "3.1", 3) == 0);
}

int main(void)
{
    json_error_t e;
    doc = json_load_file("docs/openapi.json", JSON_REJECT_DUPLICATES, &e);
    if (!doc) {
        printf("Bail out! docs/openapi.json line %d: %s\n", e.line, e.text);
        return 1;
    }
    RUN(every_route_is_described);
    RUN(nothing_else_is_described);
    RUN(references);
    json_decref(doc);
    return TAP_DONE();
}
