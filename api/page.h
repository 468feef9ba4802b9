// SPDX-License-Identifier: Apache-2.0
/*
 * nextToken: URL-safe base64 of a position (the last key shown) and a keyed
 * checksum over it and the question it belongs to, so that a token neither
 * can be made up nor be used with another operation or filter. It names a
 * key, not an offset: rows that come and go do not shift pages.
 */
#ifndef DORMOUSE_API_PAGE_H
#define DORMOUSE_API_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "siphash.h"

#define PAGE_KEY_MAX   80u  /* longest position */
#define PAGE_TOKEN_CAP 160u /* text with NUL */

/* `question` names the operation and its filters. Returns 0, or -EINVAL. */
int page_make(const uint8_t key[SIPHASH_KEY], const char *question, const char *position,
              char ret[PAGE_TOKEN_CAP]);
int page_read(const uint8_t key[SIPHASH_KEY], const char *question, const char *token,
              char ret_position[PAGE_KEY_MAX + 1]);

#endif
