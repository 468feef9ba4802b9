// SPDX-License-Identifier: Apache-2.0
/* Access keys; see keys.h. */
#include "keys.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "digest.h"
#include "uuid.h"

void key_make(struct store_key *k, const char *name, const char *rights)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t raw[30];
    memset(k, 0, sizeof *k);
    random_fill(raw, sizeof raw);
    memcpy(k->id, "AKDM", 4);
    for (size_t i = 0; i < 16; i++)
        k->id[4 + i] = letters[raw[i] & 31];
    random_fill(raw, sizeof raw);
    base64url_encode(raw, sizeof raw, k->secret);
    explicit_bzero(raw, sizeof raw);
    snprintf(k->name, sizeof k->name, "%s", name);
    snprintf(k->rights, sizeof k->rights, "%s", rights);
    k->created_at = (double)time(NULL);
}
