// SPDX-License-Identifier: Apache-2.0
/*
 * Options of one command: --name, --name=value, --name value, -n, -nvalue;
 * "--" ends them. Pure.
 */
#ifndef DORMOUSE_CLI_OPTS_H
#define DORMOUSE_CLI_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../hypervisor/base/err.h"

#define OPTS_MAX   24u
#define REPEAT_MAX 64u

struct opt {
    const char *name;  /* NULL ends the list */
    char letter;       /* 0: none */
    const char *value; /* what stands for the value in help; NULL: a flag */
    const char *text;
};

struct args {
    const struct opt *opts[2]; /* the command's, then those of all commands; may be NULL */
    struct {
        const struct opt *opt;
        const char *value;
    } given[REPEAT_MAX];
    size_t ngiven;
    char **pos; /* the rest */
    size_t npos;
};

/* Takes options out of argv, which keeps the rest in order. -EINVAL: e says what is wrong. */
int args_parse(struct args *a, char **argv, size_t argc, struct err *e);

bool args_has(const struct args *a, const char *name);
const char *args_get(const struct args *a, const char *name); /* the last one; NULL */
/* The i-th of a repeated option, NULL behind the last. */
const char *args_nth(const struct args *a, const char *name, size_t i);
/* A number in [min, max]; when the option is not given *ret stays. */
int args_number(const struct args *a, const char *name, uint64_t min, uint64_t max,
                uint64_t *ret, struct err *e);

/* How many letters must change to make one word of the other. */
unsigned word_distance(const char *a, const char *b);
/* Is it near enough to be what was meant? */
bool word_near(const char *typed, const char *word);

#endif
