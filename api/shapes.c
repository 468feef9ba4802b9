// SPDX-License-Identifier: Apache-2.0
/* The tables that members.def makes, and its patterns; see validate.h. */
#include "validate.h"

#include <string.h>

#define ASCII_ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* Only characters of the set, at least one. */
static bool all_of(const char *s, const char *set)
{
    return *s && s[strspn(s, set)] == '\0';
}

static bool match_name(const char *s)
{
    return all_of(s, ASCII_ALNUM "-_");
}

/* \S+: in ASCII terms, as the service's engine has it. */
static bool match_no_space(const char *s)
{
    return *s && strpbrk(s, " \t\n\v\f\r") == NULL;
}

static bool match_absolute(const char *s)
{
    return s[0] == '/';
}

static bool match_role_arn(const char *s)
{
    if (strncmp(s, "arn:aws", 7) != 0)
        return false;
    s += 7;
    s += strspn(s, "abcdefghijklmnopqrstuvwxyz-");
    if (strncmp(s, ":iam::", 6) != 0)
        return false;
    s += 6;
    if (strspn(s, "0123456789") != 12 || strncmp(s + 12, ":role", 5) != 0)
        return false;
    return all_of(s + 17, ASCII_ALNUM "+=,.@-_/");
}

static bool match_log_group(const char *s)
{
    return all_of(s, ASCII_ALNUM "_-/.#");
}

static bool match_log_stream(const char *s)
{
    return strpbrk(s, ":*") == NULL;
}

/* Letters, separators and digits of any script, and some signs. Scripts beyond ASCII are let
 * through but for the control characters U+0080 to U+009F. */
static bool match_tag(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x80 && !strchr(ASCII_ALNUM " _.:/=+-@", c))
            return false;
        if (c == 0xc2 && (unsigned char)s[1] < 0xa0)
            return false;
    }
    return true;
}

#define REQ(n, s)          {#n, #n, IN_BODY, true, &shape_##s},
#define OPT(n, s)          {#n, #n, IN_BODY, false, &shape_##s},
#define PATH(n, s)         {#n, #n, IN_PATH, true, &shape_##s},
#define QUERY(n, s)        {#n, #n, IN_QUERY, false, &shape_##s},
#define QUERY_REQ(n, w, s) {#n, #w, IN_QUERY, true, &shape_##s},

#define STRING(id, lo, hi, pat, fn)          \
    static const struct shape shape_##id = { \
        .type = SHAPE_STRING, .min = lo, .max = hi, .pattern = pat, .match = fn};
#define INTEGER(id, lo, hi) \
    static const struct shape shape_##id = {.type = SHAPE_INTEGER, .min = lo, .max = hi};
#define BOOLEAN(id) static const struct shape shape_##id = {.type = SHAPE_BOOLEAN};
#define ENUM(id, ...)                                             \
    static const char *const values_##id[] = {__VA_ARGS__, NULL}; \
    static const struct shape shape_##id = {.type = SHAPE_ENUM, .values = values_##id};
#define LIST(id, lo, hi, of)                 \
    static const struct shape shape_##id = { \
        .type = SHAPE_LIST, .min = lo, .max = hi, .item = &shape_##of};
#define MAP(id, lo, hi, k, v)                \
    static const struct shape shape_##id = { \
        .type = SHAPE_MAP, .min = lo, .max = hi, .key = &shape_##k, .item = &shape_##v};
#define COMPOUND(kind, id, ...)                                      \
    static const struct member members_##id[] = {__VA_ARGS__};       \
    static const struct shape shape_##id = {.type = kind,            \
                                            .members = members_##id, \
                                            .nmembers =              \
                                                sizeof members_##id / sizeof members_##id[0]};
#define STRUCT(id, ...)  COMPOUND(SHAPE_STRUCT, id, __VA_ARGS__)
#define UNION(id, ...)   COMPOUND(SHAPE_UNION, id, __VA_ARGS__)
#define STRUCT_EMPTY(id) static const struct shape shape_##id = {.type = SHAPE_STRUCT};

#include "members.def"

static const struct shape *const shapes[SHAPE_COUNT] = {
#define ROUTE(op, method, path, status, rights, style) [SHAPE_in_##op] = &shape_in_##op,
#include "routes.def"
#undef ROUTE
    [SHAPE_config] = &shape_config,
    [SHAPE_terminal] = &shape_terminal,
    [SHAPE_resize] = &shape_resize,
};

const struct shape *shape_of(enum shape_id id)
{
    return shapes[id];
}
