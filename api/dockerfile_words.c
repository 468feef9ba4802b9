// SPDX-License-Identifier: Apache-2.0
/* Words, variables, JSON arrays and paths of a Dockerfile; see dockerfile_words.h. */
#include "dockerfile_words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"

#define DF_DEPTH_MAX 8u /* ${A:-${B:-…}} */

struct df_chunk {
    struct df_chunk *next;
    size_t used, cap;
    max_align_t data[];
};

struct df_arena {
    struct df_chunk *head;
    size_t total;
};

struct df_arena *df_arena_new(void)
{
    return calloc(1, sizeof(struct df_arena));
}

void df_arena_free(struct df_arena *a)
{
    if (!a)
        return;
    for (struct df_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

void *df_alloc(struct df_arena *a, size_t len)
{
    len = (len + 15) & ~(size_t)15;
    struct df_chunk *c = a->head;
    if (!c || c->cap - c->used < len) {
        size_t cap = len > 65536 ? len : 65536;
        if (a->total + cap > DF_ARENA_MAX)
            return NULL;
        c = calloc(1, sizeof *c + cap);
        if (!c)
            return NULL;
        c->cap = cap;
        c->next = a->head;
        a->head = c;
        a->total += cap;
    }
    void *p = (char *)c->data + c->used;
    c->used += len;
    return p;
}

char *df_strn(struct df_arena *a, const char *s, size_t len)
{
    char *p = df_alloc(a, len + 1);
    if (p) {
        memcpy(p, s, len);
        p[len] = '\0';
    }
    return p;
}

/* `s` is in the arena already. */
static bool push(struct df_arena *a, struct df_list *l, char *s)
{
    /* Capacity doubles at powers of two; n + 1 slots are always there for the NULL. */
    if (!l->v || (l->n >= 3 && ((l->n + 1) & l->n) == 0)) {
        char **v = df_alloc(a, sizeof *v * (l->v ? 2 * (l->n + 1) : 4));
        if (!v)
            return false;
        if (l->n)
            memcpy(v, l->v, sizeof *v * l->n);
        l->v = v;
    }
    l->v[l->n++] = s;
    l->v[l->n] = NULL;
    return true;
}

bool df_push(struct df_arena *a, struct df_list *l, const char *s)
{
    char *copy = df_strn(a, s, strlen(s));
    return copy && push(a, l, copy);
}

bool df_copy_list(struct df_arena *a, struct df_list *to, const struct df_list *from)
{
    for (size_t i = 0; i < from->n; i++) {
        if (!df_push(a, to, from->v[i]))
            return false;
    }
    return true;
}

/* ---- variables ---- */

const char *df_get(const struct df_vars *vars, const char *name, size_t len)
{
    for (size_t i = 0; i < vars->n; i++) {
        if (strncmp(vars->v[i].name, name, len) == 0 && vars->v[i].name[len] == '\0')
            return vars->v[i].value;
    }
    return NULL;
}

int df_set(struct df_vars *vars, const char *name, const char *value, bool env)
{
    size_t at = vars->n, bytes = strlen(name) + strlen(value) + 2;
    for (size_t i = 0; i < vars->n; i++) {
        if (strcmp(vars->v[i].name, name) == 0)
            at = i;
        else
            bytes += strlen(vars->v[i].name) + strlen(vars->v[i].value) + 2;
    }
    if (at < vars->n && vars->v[at].env && !env)
        return 0; /* an ARG does not change an ENV */
    if (bytes > DF_ENV_BYTES || at == DF_VARS_MAX)
        return -E2BIG;
    vars->v[at] = (struct df_var){name, value, env};
    if (at == vars->n)
        vars->n++;
    return 0;
}

bool df_name_ok(const char *s, size_t len)
{
    if (len == 0 || len > 256 || (*s >= '0' && *s <= '9'))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == '-'))
            return false;
    }
    return true;
}

bool df_env_list(struct df_arena *a, const struct df_vars *vars, bool with_args,
                 struct df_list *ret)
{
    for (size_t i = 0; i < vars->n; i++) {
        const struct df_var *v = &vars->v[i];
        if (!v->env && !with_args)
            continue;
        size_t nlen = strlen(v->name), vlen = strlen(v->value);
        char *s = df_alloc(a, nlen + vlen + 2);
        if (!s)
            return false;
        memcpy(s, v->name, nlen);
        s[nlen] = '=';
        memcpy(s + nlen + 1, v->value, vlen + 1);
        if (!push(a, ret, s))
            return false;
    }
    return true;
}

/* ---- expansion ---- */

struct out {
    char *p;
    size_t len;
    const char *why;
};

static void put(struct out *o, const char *s, size_t len)
{
    if (o->why)
        return;
    if (len > DF_WORD_MAX - o->len) {
        o->why = "a word grows beyond 32 KiB";
        return;
    }
    memcpy(o->p + o->len, s, len);
    o->len += len;
}

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

/* Index of the brace that closes "${" whose content begins at i, or len. */
static size_t closing(const char *s, size_t i, size_t len)
{
    unsigned depth = 1;
    for (; i < len; i++) {
        if (s[i] == '\\' && i + 1 < len)
            i++;
        else if (s[i] == '$' && i + 1 < len && s[i + 1] == '{')
            depth++;
        else if (s[i] == '}' && --depth == 0)
            return i;
    }
    return len;
}

static void expand_into(struct out *o, const char *s, size_t len, char escape,
                        const struct df_vars *vars, unsigned depth);

/* s[i] is the character after '$'; returns the index after the reference. */
static size_t variable(struct out *o, const char *s, size_t i, size_t len, char escape,
                       const struct df_vars *vars, unsigned depth)
{
    bool brace = i < len && s[i] == '{';
    size_t start = brace ? i + 1 : i, end = start;
    while (end < len && name_char(s[end], end == start))
        end++;
    if (end == start) {
        if (brace)
            o->why = "'${' is not followed by a variable's name";
        put(o, "$", 1);
        return i;
    }
    const char *value = df_get(vars, s + start, end - start);
    if (!brace) {
        if (value)
            put(o, value, strlen(value));
        return end;
    }
    size_t close = closing(s, end, len);
    if (close == len) {
        o->why = "'${' without '}'";
        return len;
    }
    size_t op = end;
    bool colon = op < close && s[op] == ':';
    op += colon;
    bool set = value && (!colon || *value);
    if (op == close && !colon) {
        if (value)
            put(o, value, strlen(value));
    } else if (op < close && s[op] == '-') {
        if (set)
            put(o, value, strlen(value));
        else
            expand_into(o, s + op + 1, close - op - 1, escape, vars, depth + 1);
    } else if (op < close && s[op] == '+') {
        if (set)
            expand_into(o, s + op + 1, close - op - 1, escape, vars, depth + 1);
    } else {
        o->why = "only ${NAME}, ${NAME:-word} and ${NAME:+word} are known";
    }
    return close + 1;
}

static void expand_into(struct out *o, const char *s, size_t len, char escape,
                        const struct df_vars *vars, unsigned depth)
{
    char quote = 0;
    if (depth > DF_DEPTH_MAX) {
        o->why = "variables are nested too deeply";
        return;
    }
    for (size_t i = 0; i < len && !o->why;) {
        char c = s[i];
        if (quote == '\'') {
            if (c == '\'')
                quote = 0;
            else
                put(o, &c, 1);
            i++;
        } else if (c == escape && i + 1 < len) {
            /* Inside double quotes only what is special there can be escaped. */
            if (quote && s[i + 1] != '"' && s[i + 1] != '$' && s[i + 1] != escape)
                put(o, &c, 1);
            put(o, &s[i + 1], 1);
            i += 2;
        } else if (c == '"' || (c == '\'' && !quote)) {
            quote = quote ? 0 : c;
            i++;
        } else if (c == '$') {
            i = variable(o, s, i + 1, len, escape, vars, depth);
        } else {
            put(o, &c, 1);
            i++;
        }
    }
    if (quote && !o->why)
        o->why = "a quote is not closed";
}

char *df_expand(struct df_arena *a, const char *s, size_t len, char escape,
                const struct df_vars *vars, const char **why)
{
    AUTO_FREE char *tmp = malloc(DF_WORD_MAX);
    struct out o = {.p = tmp, .why = tmp ? NULL : "out of memory"};
    if (tmp)
        expand_into(&o, s, len, escape, vars, 0);
    char *r = o.why ? NULL : df_strn(a, tmp, o.len);
    if (!r)
        *why = o.why ? o.why : "the file needs too much memory";
    return r;
}

size_t df_word_len(const char *s, char escape)
{
    size_t i = 0;
    char quote = 0;
    for (; s[i]; i++) {
        if (quote != '\'' && s[i] == escape && s[i + 1])
            i++;
        else if (quote)
            quote = s[i] == quote ? 0 : quote;
        else if (s[i] == '"' || s[i] == '\'')
            quote = s[i];
        else if (s[i] == ' ' || s[i] == '\t')
            break;
    }
    return i;
}

/* ---- JSON ---- */

static int hex4(const char *s)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int d = s[i] >= '0' && s[i] <= '9'   ? s[i] - '0'
                : s[i] >= 'a' && s[i] <= 'f' ? s[i] - 'a' + 10
                : s[i] >= 'A' && s[i] <= 'F' ? s[i] - 'A' + 10
                                             : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static size_t utf8(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0u : n == 3 ? 0xe0u : 0xf0u) | cp);
    return n;
}

/* s is behind the opening quote. Returns behind the closing one, or NULL. */
static const char *json_string(const char *s, char *out, size_t *len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t n = 0;
    for (; *s != '"'; s++) {
        if ((unsigned char)*s < 0x20)
            return NULL;
        if (*s != '\\') {
            out[n++] = *s;
            continue;
        }
        s++;
        const char *at = *s ? strchr(from, *s) : NULL;
        if (at) {
            out[n++] = to[at - from];
            continue;
        }
        int hi = *s == 'u' ? hex4(s + 1) : -1;
        if (hi <= 0)
            return NULL; /* a NUL cannot be an argument */
        s += 4;
        uint32_t cp = (uint32_t)hi;
        if (cp >= 0xd800 && cp < 0xdc00 && s[1] == '\\' && s[2] == 'u') {
            int lo = hex4(s + 3);
            if (lo < 0xdc00 || lo > 0xdfff)
                return NULL;
            cp = 0x10000 + ((cp - 0xd800) << 10) + ((uint32_t)lo - 0xdc00);
            s += 6;
        } else if (cp >= 0xd800 && cp < 0xe000) {
            return NULL;
        }
        n += utf8(cp, out + n); /* never longer than its escape */
    }
    *len = n;
    return s + 1;
}

int df_json_array(struct df_arena *a, const char *s, struct df_list *ret)
{
    struct df_list l = {0};
    s = df_skip(s);
    if (*s++ != '[')
        return 0;
    AUTO_FREE char *tmp = malloc(strlen(s) + 1);
    if (!tmp)
        return -1;
    s = df_skip(s);
    if (*s == ']') {
        s++;
    } else {
        for (;;) {
            size_t len;
            if (*s != '"' || !(s = json_string(s + 1, tmp, &len)))
                return 0;
            tmp[len] = '\0';
            if (!df_push(a, &l, tmp))
                return -1;
            s = df_skip(s);
            if (*s == ']') {
                s++;
                break;
            }
            if (*s++ != ',')
                return 0;
            s = df_skip(s);
        }
    }
    if (*df_skip(s))
        return 0;
    *ret = l;
    return 1;
}

/* ---- paths ---- */

char *df_path(struct df_arena *a, const char *dir, const char *path)
{
    size_t dlen = path[0] == '/' ? 0 : strlen(dir), plen = strlen(path);
    char *p = df_alloc(a, dlen + plen + 3);
    if (!p)
        return NULL;
    const char *parts[2] = {dlen ? dir : "", path};
    size_t n = 0;
    bool slash = plen == 0 || path[plen - 1] == '/' || strcmp(path, ".") == 0 ||
                 (plen > 1 && strcmp(path + plen - 2, "/.") == 0);
    for (int i = 0; i < 2; i++) {
        const char *s = parts[i];
        while (*s) {
            size_t len = strcspn(s, "/");
            if (len == 2 && s[0] == '.' && s[1] == '.') {
                while (n > 0 && p[--n] != '/')
                    ;
            } else if (len > 0 && !(len == 1 && s[0] == '.')) {
                p[n++] = '/';
                memmove(p + n, s, len);
                n += len;
            }
            s += len + (s[len] == '/');
        }
    }
    if (n == 0 || slash)
        p[n++] = '/';
    p[n] = '\0';
    return p;
}
