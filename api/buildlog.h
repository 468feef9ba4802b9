// SPDX-License-Identifier: Apache-2.0
/*
 * The log of an image build in the plain form people know from BuildKit:
 *     #5 [2/4] RUN make
 *     #5 0.412 cc -c x.c
 *     #5 DONE 1.2s
 * Lines come from the pipeline and, through the log stream, from the builder.
 * One caller at a time.
 */
#ifndef DORMOUSE_API_BUILDLOG_H
#define DORMOUSE_API_BUILDLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/err.h"
#include "guest_link.h"

#define BUILDLOG_MAX (16u << 20) /* the rest of the output is counted, not kept */

struct buildlog {
    int fd;
    unsigned step; /* the number behind '#' */
    uint64_t begun, size, cut;
    bool open_line;
    struct buf batch;
    char last[200]; /* last line of output, for the reason of a failure */
};

int buildlog_open(struct buildlog *l, int dir, struct err *e); /* makes build.log in dir */
void buildlog_close(struct buildlog *l);

void buildlog_step(struct buildlog *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buildlog_say(struct buildlog *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buildlog_done(struct buildlog *l);
void buildlog_failed(struct buildlog *l, const char *why);
/* Output of the builder; NULL writes what has come. */
void buildlog_line(struct buildlog *l, const struct gp_line *line);

#endif
