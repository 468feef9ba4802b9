// SPDX-License-Identifier: Apache-2.0
/* See glob.h. */
#include "glob.h"

#include <string.h>

bool glob_special(const char *pattern, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (strchr("*?[\\", pattern[i]) && pattern[i] != '\0')
            return true;
    return false;
}

size_t path_parts(const char *path, size_t len)
{
    size_t n = len > 0;
    for (size_t i = 0; i < len; i++)
        n += path[i] == '/';
    return n;
}

/* A [class] at p; sets *used to its length. 0 no, 1 yes, -1 when it is no class. */
static int match_class(const char *p, size_t len, char c, size_t *used)
{
    size_t i = 1;
    bool not = false, hit = false;
    if (i < len && p[i] == '^') {
        not = true;
        i++;
    }
    for (bool first = true; i < len && (first || p[i] != ']'); first = false) {
        if (p[i] == '\\' && i + 1 < len)
            i++;
        char low = p[i++], high = low;
        if (i + 1 < len && p[i] == '-' && p[i + 1] != ']') {
            i++;
            if (p[i] == '\\' && i + 1 < len)
                i++;
            high = p[i++];
        }
        hit = hit || (c >= low && c <= high);
    }
    if (i >= len)
        return -1;
    *used = i + 1;
    return hit != not ;
}

bool glob_match(const char *pattern, size_t plen, const char *name, size_t nlen)
{
    /* one level of going back is enough: a later star makes the earlier one's choice final,
     * as neither crosses a slash */
    size_t p = 0, n = 0, star = 0, star_n = 0;
    bool has_star = false;
    while (n < nlen || p < plen) {
        if (p < plen && pattern[p] == '*') {
            has_star = true;
            star = ++p;
            star_n = n;
            continue;
        }
        size_t used = 1;
        bool ok = false;
        if (p < plen && n < nlen) {
            char c = name[n];
            if (pattern[p] == '?') {
                ok = c != '/';
            } else if (pattern[p] == '[') {
                ok = c != '/' && match_class(pattern + p, plen - p, c, &used) == 1;
            } else if (pattern[p] == '\\' && p + 1 < plen) {
                ok = pattern[p + 1] == c;
                used = 2;
            } else {
                ok = pattern[p] == c;
            }
        }
        if (ok) {
            if (name[n] == '/')
                has_star = false;
            p += used;
            n++;
            continue;
        }
        if (!has_star || star_n >= nlen || name[star_n] == '/')
            return false;
        p = star;
        n = ++star_n;
    }
    return true;
}

static size_t part_end(const char *s, size_t at, size_t len)
{
    while (at < len && s[at] != '/')
        at++;
    return at;
}

/* `steps` bounds the work that a pattern with many `**` may cause. */
static bool match_parts(const char *pattern, size_t plen, const char *name, size_t nlen,
                        unsigned *steps)
{
    size_t p = 0, n = 0;
    while (p < plen) {
        size_t pe = part_end(pattern, p, plen);
        if (*steps == 0)
            return false;
        --*steps;
        if (pe - p == 2 && pattern[p] == '*' && pattern[p + 1] == '*') {
            if (pe >= plen)
                return true;
            for (;;) {
                if (match_parts(pattern + pe + 1, plen - pe - 1, name + n, nlen - n, steps))
                    return true;
                n = part_end(name, n, nlen);
                if (n >= nlen)
                    return false;
                n++;
            }
        }
        if (n >= nlen)
            return false;
        size_t ne = part_end(name, n, nlen);
        if (!glob_match(pattern + p, pe - p, name + n, ne - n))
            return false;
        p = pe + 1;
        n = ne + 1;
    }
    return true; /* what is left of the name lies below a match */
}

bool glob_ignores(const char *pattern, size_t plen, const char *name)
{
    unsigned steps = 10000;
    return plen > 0 && match_parts(pattern, plen, name, strlen(name), &steps);
}
