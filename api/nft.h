// SPDX-License-Identifier: Apache-2.0
/*
 * The packet filter of the host: one fixed table "dormouse" for all taps
 * ("dm*"), loaded once by the parent. Nothing runs per microVM.
 */
#ifndef DORMOUSE_API_NFT_H
#define DORMOUSE_API_NFT_H

#include "../hypervisor/base/err.h"

/* Replaces the table in one transaction. `nft` is the program's path. */
int nft_load(const char *nft, struct err *e);
/* The rules as text; for tests and people. */
extern const char nft_rules[];

#endif
