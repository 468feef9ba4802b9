// SPDX-License-Identifier: Apache-2.0
/* A test's database file. */
#ifndef DORMOUSE_TESTS_STORE_FILE_H
#define DORMOUSE_TESTS_STORE_FILE_H

#include <glob.h>
#include <stdio.h>
#include <unistd.h>

/* With what SQLite and upgrades of the schema put beside it. */
static inline void store_file_remove(const char *path)
{
    char pattern[128];
    glob_t all;
    snprintf(pattern, sizeof pattern, "%s*", path);
    if (glob(pattern, 0, NULL, &all) == 0) {
        for (size_t i = 0; i < all.gl_pathc; i++)
            unlink(all.gl_pathv[i]);
        globfree(&all);
    }
}

#endif
