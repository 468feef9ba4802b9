// SPDX-License-Identifier: Apache-2.0
/*
 * A folder as a zip in an unnamed temporary file. Links are packed as links
 * and not followed; sockets and the like are left out; .dockerignore is
 * honoured, but the Dockerfile always goes in.
 */
#ifndef DORMOUSE_CLI_PACK_H
#define DORMOUSE_CLI_PACK_H

#include <stdint.h>

#include "../../hypervisor/base/err.h"

struct packed {
    int fd;
    uint64_t size, bytes; /* of the zip, of what is in it */
    uint32_t files, skipped;
    char sha256[65];
    char from[200]; /* the FROM line's image, "" when it is not found */
};

/* path: a folder with a Dockerfile, or a zip file. */
int pack(const char *path, struct packed *ret, struct err *e);
void packed_close(struct packed *p);

#endif
