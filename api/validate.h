// SPDX-License-Identifier: Apache-2.0
/*
 * Shapes of requests (members.def) and the check of a parsed JSON value
 * against one. The clients check nothing, so everything a stranger may have
 * sent is checked here, before an operation looks at it. Values are never
 * repeated in error texts: some of them are secrets.
 */
#ifndef DORMOUSE_API_VALIDATE_H
#define DORMOUSE_API_VALIDATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "jsonw.h"

enum shape_type {
    SHAPE_STRING,
    SHAPE_INTEGER,
    SHAPE_BOOLEAN,
    SHAPE_ENUM,
    SHAPE_LIST,
    SHAPE_MAP,
    SHAPE_STRUCT,
    SHAPE_UNION
};

struct shape {
    enum shape_type type;
    int64_t min, max;
    const char *pattern;
    bool (*match)(const char *s);
    const char *const *values; /* enum; NULL at the end */
    const struct shape *item, *key;
    const struct member *members;
    size_t nmembers;
};

enum member_where { IN_BODY, IN_PATH, IN_QUERY };

struct member {
    const char *name; /* in the input object and in error texts */
    const char *wire; /* in the query string */
    enum member_where where;
    bool required;
    const struct shape *shape;
};

/* Inputs of operations, by their name in routes.def. */
enum shape_id {
#define ROUTE(op, method, path, status, rights, style) SHAPE_in_##op,
#include "routes.def"
#undef ROUTE
    SHAPE_config,   /* what a version keeps */
    SHAPE_terminal, /* first message of a terminal */
    SHAPE_resize,
    SHAPE_COUNT
};
const struct shape *shape_of(enum shape_id id);

/* Number of faults; their text in AWS's words is appended to `text` when there are any. */
unsigned validate(const struct shape *s, const json_t *value, struct buf *text);

/* Writes the members of a valid value that the shape knows, nothing else. */
void shape_write(struct jsonw *w, const struct shape *s, const json_t *value);

/* Parses a request body: an object, no duplicate members, bounded nesting. NULL: *text has a
 * sentence. An empty body is an empty object. */
json_t *json_read(const void *data, size_t len, struct buf *text);

#endif
