// SPDX-License-Identifier: Apache-2.0
/*
 * Guest addresses: one per microVM for as long as it lives, suspended or not,
 * so that a resumed guest finds its network as it left it.
 */
#include <errno.h>

#include "fleet_priv.h"

static bool take(struct fleet *f, uint32_t n)
{
    uint64_t bit = 1ull << (n % 64);
    if (f->addresses[n / 64] & bit)
        return false;
    f->addresses[n / 64] |= bit;
    return true;
}

bool fleet_address_keep(struct fleet *f, uint32_t ip)
{
    uint32_t n = priv_guest_index(ip);
    if (n >= PRIV_ADDRESSES)
        return false;
    pthread_mutex_lock(&f->lock);
    bool ok = take(f, n);
    pthread_mutex_unlock(&f->lock);
    return ok;
}

int fleet_address_take(struct fleet *f, uint32_t *ret, struct err *e)
{
    uint32_t found = PRIV_ADDRESSES;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < PRIV_ADDRESSES && found == PRIV_ADDRESSES; i++) {
        uint32_t n = (f->address_hint + i) % PRIV_ADDRESSES;
        if (take(f, n)) {
            found = n;
            f->address_hint = n + 1; /* one that was given back rests for a while */
        }
    }
    pthread_mutex_unlock(&f->lock);
    if (found == PRIV_ADDRESSES)
        return err_set(e, ENOSPC, "no capacity: all guest addresses are taken");
    *ret = priv_guest_ip(found);
    return 0;
}

void fleet_address_drop(struct fleet *f, uint32_t ip)
{
    uint32_t n = priv_guest_index(ip);
    if (n >= PRIV_ADDRESSES)
        return;
    pthread_mutex_lock(&f->lock);
    f->addresses[n / 64] &= ~(1ull << (n % 64));
    pthread_mutex_unlock(&f->lock);
}
