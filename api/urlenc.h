// SPDX-License-Identifier: Apache-2.0
/* Percent-encoding and query strings, as AWS clients use them. Pure. */
#ifndef DORMOUSE_API_URLENC_H
#define DORMOUSE_API_URLENC_H

#include <stdbool.h>
#include <stddef.h>

#include "../hypervisor/base/buf.h"

/* Appends text with everything but A-Z a-z 0-9 - _ . ~ encoded; '/' stays when keep_slash. */
void url_encode(struct buf *b, const char *text, size_t len, bool keep_slash);
/* Decodes %XX (a '+' stays one). False when malformed, when a NUL would come out, or when ret
 * is too small; ret is NUL-terminated. */
bool url_decode(const char *text, size_t len, char *ret, size_t cap);
/* Appends the text decoded and encoded again, so that each value has one form. A malformed
 * escape is taken literally. */
void url_recode(struct buf *b, const char *text, size_t len, bool keep_slash);

/* Walks over name=value pairs separated by '&'; empty pairs are skipped. */
struct query_iter {
    const char *rest; /* set to the query before the first call */
    const char *name, *value;
    size_t name_len, value_len;
};
bool query_next(struct query_iter *it);
/* A parameter, decoded, malloc'd; NULL when absent. *ret_bad: malformed escape. */
char *query_value(const char *query, const char *name, bool *ret_bad);
/* Is the parameter there, with or without a value? */
bool query_has(const char *query, const char *name);

#endif
