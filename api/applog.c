// SPDX-License-Identifier: Apache-2.0
/* The log file of one microVM; see applog.h. */
#include "applog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"

static const char *const streams[] = {"?", "stdout", "stderr", "init", "build", "host"};
#define SOURCE_HOST 5u

void applog_open(struct applog *l, int dir)
{
    *l = (struct applog){.dir = dir, .fd = -1};
}

void applog_close(struct applog *l)
{
    if (l->fd >= 0)
        close(l->fd);
    buf_free(&l->batch);
    *l = (struct applog){.dir = -1, .fd = -1};
}

static int flush(struct applog *l)
{
    int r = 0;
    if (l->batch.bad || l->batch.len == 0) {
        buf_reset(&l->batch);
        return 0;
    }
    if (l->fd >= 0 && l->size > APPLOG_MAX && !l->open_line) {
        close(l->fd);
        l->fd = -1;
        if (renameat(l->dir, "app.log", l->dir, "app.log.1") < 0)
            r = -errno;
    }
    if (l->fd < 0) {
        struct stat st;
        l->fd = openat(l->dir, "app.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        l->size = l->fd >= 0 && fstat(l->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    }
    if (l->fd < 0)
        r = -errno;
    else if ((r = fd_write_full(l->fd, l->batch.data, l->batch.len)) == 0)
        l->size += l->batch.len;
    buf_reset(&l->batch);
    return r;
}

static void stamp(struct buf *b, uint64_t realtime_ns, uint32_t source)
{
    time_t t = (time_t)(realtime_ns / NS_PER_S % (1ull << 40));
    struct tm tm;
    char when[40] = "";
    if (gmtime_r(&t, &tm))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(b, "%s.%06uZ %s ", when, (unsigned)(realtime_ns % NS_PER_S / 1000),
               source <= SOURCE_HOST ? streams[source] : streams[0]);
}

int applog_line(struct applog *l, const struct gp_line *line)
{
    if (l->dir < 0)
        return 0;
    if (!line)
        return flush(l);
    if (!l->open_line)
        stamp(&l->batch, line->realtime_ns, line->source);
    /* A line stays one line, whatever the guest puts into it. */
    uint8_t *at = buf_reserve(&l->batch, line->len + 1);
    if (at) {
        for (size_t i = 0; i < line->len; i++)
            at[i] = line->data[i] == '\n' ? ' ' : (uint8_t)line->data[i];
        l->batch.len += line->len;
        if (!line->partial)
            buf_add(&l->batch, "\n", 1);
    }
    l->open_line = line->partial;
    return 0;
}

void applog_say(struct applog *l, const char *fmt, ...)
{
    char text[600];
    struct timespec ts;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &ts);
    struct gp_line line = {
        .realtime_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec,
        .source = SOURCE_HOST,
        .data = text,
        .len = n < 0                      ? 0
               : (size_t)n >= sizeof text ? sizeof text - 1
                                          : (size_t)n,
    };
    if (l->open_line)
        buf_add(&l->batch, "\n", 1);
    l->open_line = false;
    applog_line(l, &line);
    applog_line(l, NULL);
}
