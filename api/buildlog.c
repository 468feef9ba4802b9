// SPDX-License-Identifier: Apache-2.0
/* The log of an image build; see buildlog.h. */
#include "buildlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"

static double seconds(const struct buildlog *l)
{
    return (double)(now_ns() - l->begun) / 1e9;
}

static void flush(struct buildlog *l)
{
    if (l->fd >= 0 && !l->batch.bad && l->batch.len)
        fd_write_full(l->fd, l->batch.data,
                      l->batch.len); /* a full disk fails the build itself */
    l->size += l->batch.len;
    buf_reset(&l->batch);
}

static void end_line(struct buildlog *l)
{
    if (l->open_line)
        buf_add(&l->batch, "\n", 1);
    l->open_line = false;
}

int buildlog_open(struct buildlog *l, int dir, struct err *e)
{
    *l = (struct buildlog){.begun = now_ns()};
    l->fd = openat(dir, "build.log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    return l->fd < 0 ? err_sys(e, errno, "make the build log") : 0;
}

void buildlog_close(struct buildlog *l)
{
    end_line(l);
    if (l->cut)
        buf_printf(&l->batch, "%llu more bytes of output were not kept\n",
                   (unsigned long long)l->cut);
    flush(l);
    if (l->fd >= 0)
        close(l->fd);
    buf_free(&l->batch);
    l->fd = -1;
}

__attribute__((format(printf, 3, 0))) static void text(struct buildlog *l, const char *prefix,
                                                       const char *fmt, va_list ap)
{
    char line[1000];
    int n = vsnprintf(line, sizeof line, fmt, ap);
    for (int i = 0; i < n && line[i]; i++) {
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    }
    end_line(l);
    buf_printf(&l->batch, "%s#%u %s\n", prefix, l->step, line);
    flush(l);
}

void buildlog_step(struct buildlog *l, const char *fmt, ...)
{
    va_list ap;
    const char *gap = l->step ? "\n" : "";
    l->step++;
    l->begun = now_ns();
    l->last[0] = '\0';
    va_start(ap, fmt);
    text(l, gap, fmt, ap);
    va_end(ap);
}

void buildlog_say(struct buildlog *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    text(l, "", fmt, ap);
    va_end(ap);
}

void buildlog_done(struct buildlog *l)
{
    buildlog_say(l, "DONE %.1fs", seconds(l));
}

void buildlog_failed(struct buildlog *l, const char *why)
{
    buildlog_say(l, "ERROR: %s", why);
}

void buildlog_line(struct buildlog *l, const struct gp_line *line)
{
    if (!line) {
        flush(l);
        return;
    }
    if (l->size + l->batch.len + line->len > BUILDLOG_MAX) {
        l->cut += line->len + 1;
        return;
    }
    if (!l->open_line)
        buf_printf(&l->batch, "#%u %.3f ", l->step, seconds(l));
    uint8_t *at = buf_reserve(&l->batch, line->len + 1);
    if (at) {
        for (size_t i = 0; i < line->len; i++)
            at[i] = line->data[i] == '\n' ? ' ' : (uint8_t)line->data[i];
        l->batch.len += line->len;
    }
    size_t keep = line->len < sizeof l->last - 1 ? line->len : sizeof l->last - 1;
    if (keep) {
        for (size_t i = 0; i < keep; i++)
            l->last[i] = (unsigned char)line->data[i] < ' ' ? ' ' : line->data[i];
        l->last[keep] = '\0';
    }
    l->open_line = true;
    if (!line->partial)
        end_line(l);
}
