// SPDX-License-Identifier: Apache-2.0
/* A fresh access key. Made at first start (role.c) and by CreateAccessKey (ops_key.c). */
#ifndef DORMOUSE_API_KEYS_H
#define DORMOUSE_API_KEYS_H

#include "store.h"

/* rights: admin, run or read. The record holds the secret: explicit_bzero() it. */
void key_make(struct store_key *k, const char *name, const char *rights);

#endif
