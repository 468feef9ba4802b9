// SPDX-License-Identifier: Apache-2.0
/*
 * "user[:group]" by the image's own /etc/passwd and /etc/group, as Docker reads it.
 * Called in a child that has changed its root to the image. The files are the
 * image's, so they are read with bounds and never trusted to be well-formed.
 */
#ifndef DORMOUSE_GUEST_USERS_H
#define DORMOUSE_GUEST_USERS_H

#include "util.h"

#define USER_GROUPS_MAX 64

struct user {
    uint32_t uid, gid;
    size_t ngroups;
    uint32_t groups[USER_GROUPS_MAX];
    char home[256];
};

/* spec "" is root. 0 or -errno with f set. */
int user_find(const char *spec, struct user *ret, struct fail *f);
/* The same on file contents (NUL-terminated; NULL: no such file). */
int user_find_in(const char *spec, const char *passwd, const char *group, struct user *ret,
                 struct fail *f);

#endif
