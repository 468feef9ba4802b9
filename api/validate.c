// SPDX-License-Identifier: Apache-2.0
/* The check of a value against its shape, and its writing; see validate.h. */
#include "validate.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "utf8.h"
#include "uuid.h"

#define FAULTS_SHOWN 20u /* a request with more is told of these */
#define PATH_CAP     256
#define DEPTH_MAX    32u

struct check {
    unsigned faults;
    struct buf text;
    char path[PATH_CAP];
};

static void fault(struct check *c, const char *null, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* `null` is "" or " null": the only value ever shown. */
static void fault(struct check *c, const char *null, const char *fmt, ...)
{
    if (c->faults >= FAULTS_SHOWN)
        return;
    char what[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    buf_printf(&c->text, "%sValue%s at '%s' failed to satisfy constraint: %s",
               c->faults ? "; " : "", null, c->path, what);
    c->faults++;
}

/* Characters, as clients count them. */
static int64_t length_of(const char *s)
{
    int64_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static const char *type_text(enum shape_type t)
{
    switch (t) {
    case SHAPE_STRING:
    case SHAPE_ENUM:
        return "Member must be a string";
    case SHAPE_INTEGER:
        return "Member must be an integer";
    case SHAPE_BOOLEAN:
        return "Member must be a boolean";
    case SHAPE_LIST:
        return "Member must be a list";
    default:
        return "Member must be an object";
    }
}

static bool type_fits(const struct shape *s, const json_t *v)
{
    switch (s->type) {
    case SHAPE_STRING:
    case SHAPE_ENUM:
        return json_is_string(v);
    case SHAPE_INTEGER:
        return json_is_integer(v);
    case SHAPE_BOOLEAN:
        return json_is_boolean(v);
    case SHAPE_LIST:
        return json_is_array(v);
    default:
        return json_is_object(v);
    }
}

static void enum_text(const struct shape *s, char *ret, size_t cap)
{
    size_t n = (size_t)snprintf(ret, cap, "Member must satisfy enum value set: [");
    for (size_t i = 0; s->values[i] && n < cap; i++)
        n += (size_t)snprintf(ret + n, cap - n, "%s%s", i ? ", " : "", s->values[i]);
    if (n < cap)
        snprintf(ret + n, cap - n, "]");
}

static bool enum_has(const struct shape *s, const char *text)
{
    for (size_t i = 0; s->values[i]; i++)
        if (strcmp(s->values[i], text) == 0)
            return true;
    return false;
}

/* True when a text or an enum holds. */
static bool text_ok(const struct shape *s, const char *text)
{
    if (s->type == SHAPE_ENUM)
        return enum_has(s, text);
    int64_t n = length_of(text);
    return n >= s->min && n <= s->max && (!s->match || s->match(text));
}

/* All that is asked of an item, for lists and maps of plain values. */
static void constraints_text(const struct shape *s, char *ret, size_t cap)
{
    if (s->type == SHAPE_ENUM) {
        enum_text(s, ret, cap);
        return;
    }
    size_t n = 0;
    ret[0] = '\0';
    if (s->max != INT64_MAX)
        n += (size_t)snprintf(ret, cap,
                              "Member must have length less than or equal to %" PRId64, s->max);
    n += (size_t)snprintf(ret + n, cap - n,
                          "%sMember must have length greater than or equal to %" PRId64,
                          n ? ", " : "", s->min);
    if (s->pattern && n < cap)
        snprintf(ret + n, cap - n, ", Member must satisfy regular expression pattern: %s",
                 s->pattern);
}

static void check_value(struct check *c, const struct shape *s, const json_t *v);

/* Goes into a member: the path grows by ".name" and shrinks again. */
static void check_at(struct check *c, const char *name, const struct shape *s, const json_t *v)
{
    size_t old = strlen(c->path);
    snprintf(c->path + old, sizeof c->path - old, "%s%s", old ? "." : "", name);
    check_value(c, s, v);
    c->path[old] = '\0';
}

static void check_length(struct check *c, const struct shape *s, int64_t n)
{
    if (n < s->min)
        fault(c, "", "Member must have length greater than or equal to %" PRId64, s->min);
    if (n > s->max)
        fault(c, "", "Member must have length less than or equal to %" PRId64, s->max);
}

static void check_string(struct check *c, const struct shape *s, const char *text)
{
    check_length(c, s, length_of(text));
    if (s->match && !s->match(text))
        fault(c, "", "Member must satisfy regular expression pattern: %s", s->pattern);
}

static void check_integer(struct check *c, const struct shape *s, int64_t n)
{
    if (n < s->min)
        fault(c, "", "Member must have value greater than or equal to %" PRId64, s->min);
    if (n > s->max)
        fault(c, "", "Member must have value less than or equal to %" PRId64, s->max);
}

static bool is_plain(const struct shape *s)
{
    return s->type == SHAPE_STRING || s->type == SHAPE_ENUM;
}

static void check_list(struct check *c, const struct shape *s, const json_t *v)
{
    check_length(c, s, (int64_t)json_array_size(v));
    char what[512];
    for (size_t i = 0; i < json_array_size(v) && c->faults < FAULTS_SHOWN; i++) {
        const json_t *item = json_array_get(v, i);
        if (!is_plain(s->item)) {
            char name[40];
            snprintf(name, sizeof name, "%zu.member", i + 1);
            check_at(c, name, s->item, item);
            continue;
        }
        if (json_is_string(item) && text_ok(s->item, json_string_value(item)))
            continue;
        if (json_is_null(item))
            snprintf(what, sizeof what, "Member must not be null");
        else if (!json_is_string(item))
            snprintf(what, sizeof what, "%s", type_text(s->item->type));
        else
            constraints_text(s->item, what, sizeof what);
        fault(c, "", "Member must satisfy constraint: [%s]", what);
        return; /* one for the list, as all items have the same */
    }
}

static void check_map(struct check *c, const struct shape *s, const json_t *v)
{
    check_length(c, s, (int64_t)json_object_size(v));
    bool keys = true, values = true;
    const char *key;
    json_t *item;
    /* The iteration interface wants a non-const object but does not change it. */
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        keys = keys && text_ok(s->key, key);
        values = values && json_is_string(item) && text_ok(s->item, json_string_value(item));
    }
    char what[512];
    if (!keys) {
        constraints_text(s->key, what, sizeof what);
        fault(c, "", "Map keys must satisfy constraint: [%s]", what);
    }
    if (!values) {
        constraints_text(s->item, what, sizeof what);
        fault(c, "", "Map values must satisfy constraint: [%s]", what);
    }
}

static void check_struct(struct check *c, const struct shape *s, const json_t *v)
{
    for (size_t i = 0; i < s->nmembers; i++) {
        const struct member *m = &s->members[i];
        const json_t *item = json_object_get(v, m->name);
        if (item && !json_is_null(item)) {
            check_at(c, m->name, m->shape, item);
        } else if (m->required) {
            size_t old = strlen(c->path);
            snprintf(c->path + old, sizeof c->path - old, "%s%s", old ? "." : "", m->name);
            fault(c, " null", "Member must not be null");
            c->path[old] = '\0';
        }
    }
}

static void check_union(struct check *c, const struct shape *s, const json_t *v)
{
    unsigned set = 0;
    char names[256] = "";
    for (size_t i = 0, n = 0; i < s->nmembers; i++) {
        const json_t *item = json_object_get(v, s->members[i].name);
        set += item && !json_is_null(item);
        if (n < sizeof names)
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "",
                                  s->members[i].name);
    }
    if (set == 1)
        check_struct(c, s, v);
    else
        fault(c, "", "Member must have exactly one of these members set: [%s]", names);
}

static void check_value(struct check *c, const struct shape *s, const json_t *v)
{
    if (json_is_null(v)) {
        fault(c, " null", "Member must not be null");
        return;
    }
    if (!type_fits(s, v)) {
        fault(c, "", "%s", type_text(s->type));
        return;
    }
    char what[512];
    switch (s->type) {
    case SHAPE_STRING:
        check_string(c, s, json_string_value(v));
        break;
    case SHAPE_ENUM:
        if (!enum_has(s, json_string_value(v))) {
            enum_text(s, what, sizeof what);
            fault(c, "", "%s", what);
        }
        break;
    case SHAPE_INTEGER:
        check_integer(c, s, json_integer_value(v));
        break;
    case SHAPE_BOOLEAN:
        break;
    case SHAPE_LIST:
        check_list(c, s, v);
        break;
    case SHAPE_MAP:
        check_map(c, s, v);
        break;
    case SHAPE_STRUCT:
        check_struct(c, s, v);
        break;
    case SHAPE_UNION:
        check_union(c, s, v);
        break;
    }
}

unsigned validate(const struct shape *s, const json_t *value, struct buf *text)
{
    struct check c = {.text = BUF_INIT};
    check_value(&c, s, value);
    if (c.faults > 0) {
        buf_printf(text, "%u validation error%s detected: ", c.faults, c.faults > 1 ? "s" : "");
        buf_add(text, c.text.data, c.text.len);
        text->bad |= c.text.bad;
    }
    buf_free(&c.text);
    return c.faults;
}

void shape_write(struct jsonw *w, const struct shape *s, const json_t *value)
{
    const char *key;
    json_t *item;
    size_t i;
    switch (s->type) {
    case SHAPE_STRING:
    case SHAPE_ENUM:
        jsonw_strn(w, json_string_value(value), json_string_length(value));
        break;
    case SHAPE_INTEGER:
        jsonw_u64(w, (uint64_t)json_integer_value(value)); /* no shape admits a negative */
        break;
    case SHAPE_BOOLEAN:
        jsonw_bool(w, json_is_true(value));
        break;
    case SHAPE_LIST:
        jsonw_open(w, '[');
        json_array_foreach(value, i, item) shape_write(w, s->item, item);
        jsonw_close(w, ']');
        break;
    case SHAPE_MAP:
        jsonw_open(w, '{');
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            jsonw_key(w, key);
            shape_write(w, s->item, item);
        }
        jsonw_close(w, '}');
        break;
    case SHAPE_STRUCT:
    case SHAPE_UNION:
        jsonw_open(w, '{');
        for (i = 0; i < s->nmembers; i++) {
            item = json_object_get(value, s->members[i].name);
            if (!item || json_is_null(item))
                continue;
            jsonw_key(w, s->members[i].name);
            shape_write(w, s->members[i].shape, item);
        }
        jsonw_close(w, '}');
        break;
    }
}

/* The parser recurses; a connection's thread has a small stack. */
static bool depth_ok(const char *p, size_t len)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (in_string) {
            if (p[i] == '\\')
                i++;
            else if (p[i] == '"')
                in_string = false;
        } else if (p[i] == '"') {
            in_string = true;
        } else if (p[i] == '{' || p[i] == '[') {
            if (++depth > DEPTH_MAX)
                return false;
        } else if ((p[i] == '}' || p[i] == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *json_read(const void *data, size_t len, struct buf *text)
{
    size_t seed;
    random_fill(&seed, sizeof seed);
    json_object_seed(seed); /* only the first call counts; its own source may be missing */
    if (len == 0)
        return json_object();
    if (!depth_ok(data, len)) {
        buf_printf(text, "Could not parse request body into json: nested too deeply");
        return NULL;
    }
    json_error_t je;
    json_t *v = json_loadb(data, len, JSON_REJECT_DUPLICATES, &je);
    if (v && json_is_object(v))
        return v;
    if (v)
        buf_printf(text, "Could not parse request body into json: it must be an object");
    else /* position only: the library's text may quote the body */
        buf_printf(text, "Could not parse request body into json: error at line %d, column %d",
                   je.line, je.column);
    json_decref(v);
    return NULL;
}
