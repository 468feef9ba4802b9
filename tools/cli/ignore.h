// SPDX-License-Identifier: Apache-2.0
/*
 * .dockerignore: one pattern per line, '#' comments, '!' takes back; '*' and
 * '?' stop at '/', '**' does not; a pattern that matches a folder matches what
 * is below it. The last one that matches decides. Pure.
 */
#ifndef DORMOUSE_CLI_IGNORE_H
#define DORMOUSE_CLI_IGNORE_H

#include <stdbool.h>
#include <stddef.h>

struct ignore {
    struct ignore_rule {
        char *pattern;
        bool take_back;
    } * rules;
    size_t n;
    bool any_back; /* a folder that is left out may hold something that is not */
};

/* text: NUL-terminated, changed. -ENOMEM. */
int ignore_parse(struct ignore *ig, const char *text);
void ignore_free(struct ignore *ig);
/* path: relative, without a '/' at its end. */
bool ignore_match(const struct ignore *ig, const char *path);

#endif
