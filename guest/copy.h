// SPDX-License-Identifier: Apache-2.0
/* COPY: files from the build context (a zip) into the image, with Docker's rules. Runs in a
 * child of init that then ends, so that the archive is read by nobody else. */
#ifndef DORMOUSE_GUEST_COPY_H
#define DORMOUSE_GUEST_COPY_H

#include "util.h"

struct copy_job {
    const char *disk; /* the block device with the zip */
    uint64_t size;
    char *const *src;
    size_t nsrc;
    const char *dst;   /* absolute */
    const char *chown; /* "" for root */
    bool has_mode;
    uint32_t mode;
};

/* proc_work() functions; ctx is a struct copy_job. */
void copy_run(void *ctx, struct fail *f);
void copy_check(void *ctx, struct fail *f); /* only looks the archive over */

#endif
