// SPDX-License-Identifier: Apache-2.0
/*
 * One line per event on stderr, logfmt: `ts=… level=… role=… msg="…"`.
 * Only programs log; libraries return errors. Never give it a secret.
 */
#ifndef DORMOUSE_BASE_LOG_H
#define DORMOUSE_BASE_LOG_H

#include <stdint.h>

#include "err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_setup(enum log_level max, const char *role);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Logs "context: message (hint)". */
void log_err(enum log_level level, const struct err *e, const char *context);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* For events that a stranger can cause: at most `burst` lines a second. */
struct log_limit {
    uint64_t second;
    uint32_t count, dropped;
};
/* True when the caller may log now. */
int log_allowed(struct log_limit *l, uint32_t burst);

#endif
