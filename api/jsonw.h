// SPDX-License-Identifier: Apache-2.0
/*
 * Streaming JSON writer into a buffer: commas are its business, the order of
 * calls is the caller's. Strings may hold any bytes (log text from a guest);
 * what is not UTF-8 becomes U+FFFD. Failure shows in buf.bad at the end.
 */
#ifndef DORMOUSE_API_JSONW_H
#define DORMOUSE_API_JSONW_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"

struct jsonw {
    struct buf *b;
    bool comma; /* the next value or key needs one in front */
};

static inline void jsonw_init(struct jsonw *w, struct buf *b)
{
    w->b = b;
    w->comma = false;
}

void jsonw_open(struct jsonw *w, char bracket);  /* '{' or '[' */
void jsonw_close(struct jsonw *w, char bracket); /* '}' or ']' */
void jsonw_key(struct jsonw *w, const char *key);
void jsonw_str(struct jsonw *w, const char *s);
void jsonw_strn(struct jsonw *w, const char *s, size_t len);
void jsonw_u64(struct jsonw *w, uint64_t v);
void jsonw_bool(struct jsonw *w, bool v);
void jsonw_time(struct jsonw *w, double epoch); /* seconds with milliseconds */
/* A value, or the members inside an object text, that are JSON already. */
void jsonw_raw(struct jsonw *w, const char *json);
void jsonw_raw_members(struct jsonw *w, const char *object);

/* Key and value; the _opt form leaves NULL and "" out. */
void jsonw_kstr(struct jsonw *w, const char *key, const char *s);
void jsonw_kstr_opt(struct jsonw *w, const char *key, const char *s);
void jsonw_ku64(struct jsonw *w, const char *key, uint64_t v);
void jsonw_kbool(struct jsonw *w, const char *key, bool v);
void jsonw_ktime(struct jsonw *w, const char *key, double epoch);
void jsonw_kopen(struct jsonw *w, const char *key, char bracket);

#endif
