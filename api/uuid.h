// SPDX-License-Identifier: Apache-2.0
/* Random identifiers from the kernel's generator. */
#ifndef DORMOUSE_API_UUID_H
#define DORMOUSE_API_UUID_H

#include <stdbool.h>
#include <stddef.h>

#define UUID_CAP 37

/* A version 4 UUID in lower case. Aborts when the kernel has no randomness to give. */
void uuid_make(char ret[UUID_CAP]);
/* True when s[0..len) is a UUID in lower-case canonical form. */
bool uuid_is(const char *s, size_t len);
/* Fills `data` with random bytes. */
void random_fill(void *data, size_t len);

#endif
