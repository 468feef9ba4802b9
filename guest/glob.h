// SPDX-License-Identifier: Apache-2.0
/* Wildcards of COPY and .dockerignore. Pure. */
#ifndef DORMOUSE_GUEST_GLOB_H
#define DORMOUSE_GUEST_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* `*` and `?` do not match a slash; [a-z], [^a] and backslash as in Go's filepath.Match. */
bool glob_match(const char *pattern, size_t plen, const char *name, size_t nlen);
/* One line of .dockerignore (clean, no leading slash): as above, and `**` stands for any
 * number of directories. A match of a parent directory counts. */
bool glob_ignores(const char *pattern, size_t plen, const char *name);
bool glob_special(const char *pattern, size_t len);
size_t path_parts(const char *path, size_t len);

#endif
