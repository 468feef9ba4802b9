// SPDX-License-Identifier: Apache-2.0
/*
 * Endpoint tokens: compact JWE (alg dir, enc A256GCM, with kid), bound to one
 * microVM, a set of ports (or the shell) and an expiry. No state: verifying
 * needs only the key.
 */
#ifndef DORMOUSE_API_TOKEN_H
#define DORMOUSE_API_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

struct token_key;

#define TOKEN_RANGES_MAX 32
#define TOKEN_TEXT_MAX   4096

struct token_claims {
    char vm_id[72];
    double expires; /* epoch seconds */
    bool shell;
    size_t nranges;
    struct {
        uint16_t start, end;
    } ranges[TOKEN_RANGES_MAX];
};

/* Loads the key file, or makes it (mode 0600, durable). */
int token_key_open(struct token_key **ret, const char *path, struct err *e);
void token_key_free(struct token_key *k);
int token_mint(const struct token_key *k, const struct token_claims *c, char *ret, size_t cap,
               struct err *e);
/* -EACCES for anything wrong, expiry included. */
int token_verify(const struct token_key *k, const char *text, double now,
                 struct token_claims *ret, struct err *e);
bool token_allows(const struct token_claims *c, uint16_t port);

#endif
