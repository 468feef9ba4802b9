// SPDX-License-Identifier: Apache-2.0
/* Logging for programs; see log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    enum log_level max;
    char role[24];
} state = {.max = LOG_INFO, .role = "dormouse"};

static const char *const names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level max, const char *role)
{
    state.max = max;
    snprintf(state.role, sizeof state.role, "%s", role);
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if (level > state.max)
        return;
    char text[900], line[1100];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    /* A line stays one line whatever the text holds. */
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == '"')
            *p = *p == '"' ? '\'' : ' ';
    }
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    char when[32];
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "ts=%s.%03ldZ level=%s role=%s msg=\"%s\"\n", when,
                     ts.tv_nsec / 1000000, names[level], state.role, text);
    if (n > 0) {
        size_t len = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
        /* Nowhere to report a failing log to. */
        if (write(STDERR_FILENO, line, len) < 0)
            return;
    }
}

void log_err(enum log_level level, const struct err *e, const char *context)
{
    if (e->hint[0])
        log_line(level, "%s: %s (%s)", context, e->msg, e->hint);
    else
        log_line(level, "%s: %s", context, e->msg);
}

int log_allowed(struct log_limit *l, uint32_t burst)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    if ((uint64_t)ts.tv_sec != l->second) {
        if (l->dropped)
            log_warn("%u similar messages dropped", l->dropped);
        l->second = (uint64_t)ts.tv_sec;
        l->count = l->dropped = 0;
    }
    if (l->count >= burst) {
        l->dropped++;
        return 0;
    }
    l->count++;
    return 1;
}
