// SPDX-License-Identifier: Apache-2.0
/* .dockerignore; see ignore.h. */
#include "ignore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"

#define STEPS_MAX 200000u /* a pattern of many stars must not take for ever */

/* Is the character one of "[a-z]"? *end: behind the ']'. False also when there is none. */
static bool in_class(const char *p, char c, const char **end)
{
    bool negated = *p == '^' || *p == '!', found = false, first = true;
    if (negated)
        p++;
    for (; *p && (*p != ']' || first); first = false) {
        char from = *p == '\\' && p[1] ? *++p : *p;
        char to = from;
        p++;
        if (*p == '-' && p[1] && p[1] != ']') {
            to = p[1];
            p += 2;
        }
        found = found || (c >= from && c <= to);
    }
    if (*p != ']')
        return false;
    *end = p + 1;
    return found != negated;
}

/* Does the pattern match the path, or a folder it is in? */
static bool match(const char *p, const char *s, unsigned *steps)
{
    for (;;) {
        if (++*steps > STEPS_MAX)
            return false;
        if (*p == '\0')
            return *s == '\0' || *s == '/';
        if (p[0] == '*' && p[1] == '*') {
            bool folder = p[2] == '/';
            p += folder ? 3 : 2;
            for (const char *at = s;; at++) {
                /* double star and slash: whole folders, or none at all */
                if ((!folder || at == s || at[-1] == '/') && match(p, at, steps))
                    return true;
                if (*at == '\0')
                    return false;
            }
        }
        if (*p == '*') {
            for (p++;; s++) {
                if (match(p, s, steps))
                    return true;
                if (*s == '\0' || *s == '/')
                    return false;
            }
        }
        const char *next = p + 1;
        bool same;
        if (*p == '?') {
            same = *s && *s != '/';
        } else if (*p == '[') {
            same = *s && *s != '/' && in_class(p + 1, *s, &next);
        } else {
            if (*p == '\\' && p[1])
                next = ++p + 1;
            same = *p == *s;
        }
        if (!same)
            return false;
        p = next;
        s++;
    }
}

bool ignore_match(const struct ignore *ig, const char *path)
{
    bool out = false;
    for (size_t i = 0; i < ig->n; i++) {
        unsigned steps = 0;
        if (out == ig->rules[i].take_back && match(ig->rules[i].pattern, path, &steps))
            out = !ig->rules[i].take_back;
    }
    return out;
}

void ignore_free(struct ignore *ig)
{
    for (size_t i = 0; i < ig->n; i++)
        free(ig->rules[i].pattern);
    free(ig->rules);
    *ig = (struct ignore){.n = 0};
}

static int add(struct ignore *ig, const char *line, size_t len)
{
    bool back = len > 0 && line[0] == '!';
    line += back;
    len -= back;
    while (len > 0 && line[0] == '/') {
        line++;
        len--;
    }
    if (len >= 2 && line[0] == '.' && line[1] == '/') {
        line += 2;
        len -= 2;
    }
    while (len > 0 && line[len - 1] == '/')
        len--;
    if (len == 0 || (len == 1 && line[0] == '.'))
        return 0;
    struct ignore_rule *rules = reallocarray(ig->rules, ig->n + 1, sizeof *rules);
    if (!rules)
        return -ENOMEM;
    ig->rules = rules;
    rules[ig->n] = (struct ignore_rule){.pattern = strndup(line, len), .take_back = back};
    if (!rules[ig->n].pattern)
        return -ENOMEM;
    ig->n++;
    ig->any_back |= back;
    return 0;
}

int ignore_parse(struct ignore *ig, const char *text)
{
    *ig = (struct ignore){.n = 0};
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n"), n = len;
        const char *line = p;
        p += len + (p[len] == '\n');
        while (n > 0 && strchr(" \t\r", line[n - 1]))
            n--;
        while (n > 0 && strchr(" \t", line[0])) {
            line++;
            n--;
        }
        if (n == 0 || line[0] == '#')
            continue;
        if (add(ig, line, n) < 0) {
            ignore_free(ig);
            return -ENOMEM;
        }
    }
    return 0;
}
