// SPDX-License-Identifier: Apache-2.0
/* Options; see opts.h. */
#include "opts.h"

#include <errno.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"

#define WORD_MAX 32u

unsigned word_distance(const char *a, const char *b)
{
    unsigned row[WORD_MAX + 1];
    size_t na = MIN(strlen(a), (size_t)WORD_MAX), nb = MIN(strlen(b), (size_t)WORD_MAX);
    for (size_t k = 0; k <= nb; k++)
        row[k] = (unsigned)k;
    for (size_t i = 1; i <= na; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i;
        for (size_t k = 1; k <= nb; k++) {
            unsigned change = corner + (a[i - 1] != b[k - 1]);
            corner = row[k];
            row[k] = MIN(change, MIN(row[k], row[k - 1]) + 1);
        }
    }
    return row[nb];
}

bool word_near(const char *typed, const char *word)
{
    size_t n = strlen(typed);
    return n > 0 && (strncmp(typed, word, n) == 0 || word_distance(typed, word) <= 1 + n / 4);
}

static const struct opt *by_name(const struct args *a, const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(a->opts); i++) {
        for (const struct opt *o = a->opts[i]; o && o->name; o++) {
            if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
                return o;
        }
    }
    return NULL;
}

static const struct opt *by_letter(const struct args *a, char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(a->opts); i++) {
        for (const struct opt *o = a->opts[i]; o && o->name; o++) {
            if (o->letter == letter)
                return o;
        }
    }
    return NULL;
}

static int unknown(const struct args *a, const char *name, size_t len, struct err *e)
{
    char typed[WORD_MAX + 1];
    size_t n = MIN(len, (size_t)WORD_MAX);
    memcpy(typed, name, n);
    typed[n] = '\0';
    err_set(e, EINVAL, "there is no option --%s", typed);
    for (size_t i = 0; i < ARRAY_LEN(a->opts); i++) {
        for (const struct opt *o = a->opts[i]; o && o->name; o++) {
            if (word_near(typed, o->name)) {
                err_hint(e, "did you mean --%s?", o->name);
                return -EINVAL;
            }
        }
    }
    return -EINVAL;
}

static int give(struct args *a, const struct opt *o, const char *value, struct err *e)
{
    if (a->ngiven == ARRAY_LEN(a->given))
        return err_set(e, EINVAL, "too many options");
    a->given[a->ngiven].opt = o;
    a->given[a->ngiven++].value = value;
    return 0;
}

/* The value of an option that needs one: the rest of its word, or the next word. */
static int need_value(const struct opt *o, const char *rest, char **argv, size_t argc,
                      size_t *at, const char **ret, struct err *e)
{
    if (rest) {
        *ret = rest;
        return 0;
    }
    if (*at + 1 >= argc)
        return err_set(e, EINVAL, "--%s needs a value: --%s %s", o->name, o->name, o->value);
    *ret = argv[++*at];
    return 0;
}

static int long_option(struct args *a, char **argv, size_t argc, size_t *at, struct err *e)
{
    const char *name = argv[*at] + 2, *value = NULL;
    size_t len = strcspn(name, "=");
    const char *rest = name[len] ? name + len + 1 : NULL;
    const struct opt *o = by_name(a, name, len);
    if (!o)
        return unknown(a, name, len, e);
    if (!o->value && rest)
        return err_set(e, EINVAL, "--%s takes no value", o->name);
    int r = o->value ? need_value(o, rest, argv, argc, at, &value, e) : 0;
    return r < 0 ? r : give(a, o, value, e);
}

static int letters(struct args *a, char **argv, size_t argc, size_t *at, struct err *e)
{
    for (const char *p = argv[*at] + 1; *p; p++) {
        const struct opt *o = by_letter(a, *p);
        const char *value = NULL;
        if (!o)
            return err_set(e, EINVAL, "there is no option -%c", *p);
        if (!o->value) {
            int r = give(a, o, NULL, e);
            if (r < 0)
                return r;
            continue;
        }
        int r = need_value(o, p[1] ? p + 1 : NULL, argv, argc, at, &value, e);
        return r < 0 ? r : give(a, o, value, e);
    }
    return 0;
}

int args_parse(struct args *a, char **argv, size_t argc, struct err *e)
{
    size_t n = 0;
    bool open = true;
    a->ngiven = 0;
    a->pos = argv;
    for (size_t i = 0; i < argc; i++) {
        int r = 0;
        if (!open || argv[i][0] != '-' || argv[i][1] == '\0')
            argv[n++] = argv[i];
        else if (strcmp(argv[i], "--") == 0)
            open = false;
        else if (argv[i][1] == '-')
            r = long_option(a, argv, argc, &i, e);
        else
            r = letters(a, argv, argc, &i, e);
        if (r < 0)
            return r;
    }
    a->npos = n;
    return 0;
}

const char *args_nth(const struct args *a, const char *name, size_t nth)
{
    for (size_t i = 0; i < a->ngiven; i++) {
        if (strcmp(a->given[i].opt->name, name) == 0 && nth-- == 0)
            return a->given[i].value ? a->given[i].value : "";
    }
    return NULL;
}

bool args_has(const struct args *a, const char *name)
{
    return args_nth(a, name, 0) != NULL;
}

const char *args_get(const struct args *a, const char *name)
{
    const char *last = NULL, *v;
    for (size_t i = 0; (v = args_nth(a, name, i)); i++)
        last = v;
    return last;
}

int args_number(const struct args *a, const char *name, uint64_t min, uint64_t max,
                uint64_t *ret, struct err *e)
{
    const char *text = args_get(a, name);
    if (!text || parse_u64(text, min, max, ret))
        return 0;
    return err_set(e, EINVAL, "--%s must be a number from %llu to %llu, not '%.60s'", name,
                   (unsigned long long)min, (unsigned long long)max, text);
}
