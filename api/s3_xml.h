// SPDX-License-Identifier: Apache-2.0
/*
 * As much XML as S3 bodies need: a reader that reports each element when it
 * closes, and a writer's escaping. No DTDs, no namespaces, bounded depth. Pure.
 */
#ifndef DORMOUSE_API_S3_XML_H
#define DORMOUSE_API_S3_XML_H

#include <stdbool.h>
#include <stddef.h>

#include "../hypervisor/base/buf.h"

/* Calls fn for every element as it ends: path like "Delete/Object/Key" and its own text,
 * entities decoded. fn returns false to stop with an error. False when malformed. */
bool xml_read(const char *text, size_t len,
              bool (*fn)(void *ctx, const char *path, const char *value), void *ctx);

/* Appends text escaped for element content. */
void xml_text(struct buf *b, const char *text);
/* Appends <name>text</name>. */
void xml_element(struct buf *b, const char *name, const char *text);

#endif
