// SPDX-License-Identifier: Apache-2.0
/*
 * The log file of one microVM: "<timestamp> <stream> <text>" lines, written in
 * batches, with one older file kept. Text comes from the guest. Called by
 * whoever serves the VMM's log stream, one caller at a time.
 */
#ifndef DORMOUSE_API_APPLOG_H
#define DORMOUSE_API_APPLOG_H

#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "guest_link.h"

#define APPLOG_MAX (8u << 20) /* then it becomes app.log.1 */

struct applog {
    int dir; /* the microVM's directory, -1: closed; owned by the caller */
    int fd;
    uint64_t size;
    struct buf batch;
    bool open_line; /* the last line goes on */
};

void applog_open(struct applog *l, int dir);
void applog_close(struct applog *l);
/* NULL ends a batch and writes it. 0 or -errno. */
int applog_line(struct applog *l, const struct gp_line *line);
/* A line of the host's own. */
void applog_say(struct applog *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
