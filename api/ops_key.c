// SPDX-License-Identifier: Apache-2.0
/*
 * Access keys under /dormouse/v1/keys: made, listed, revoked. A secret is told
 * once, by the answer that makes it, and is in no list and no log.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "keys.h"
#include "op.h"

#define KEYS_MAX 1000u

static void write_key(struct jsonw *w, const struct store_key *k)
{
    jsonw_kstr(w, "accessKeyId", k->id);
    jsonw_kstr(w, "name", k->name);
    jsonw_kstr(w, "rights", k->rights);
    jsonw_ktime(w, "createdAt", k->created_at);
}

struct census {
    const char *id; /* not counted among the others */
    unsigned all, other_admins;
};

static bool count(void *ctx, const struct store_key *k)
{
    struct census *c = ctx;
    c->all++;
    c->other_admins += strcmp(k->rights, "admin") == 0 && strcmp(k->id, c->id) != 0;
    return true;
}

int op_CreateAccessKey(struct op *o)
{
    struct census c = {.id = ""};
    struct store_key k;
    struct err e = ERR_INIT;
    if (store_key_each(o->api->store, count, &c, &e) < 0)
        return op_fail_store(o, &e);
    if (c.all >= KEYS_MAX)
        return op_fail(o, TEXT_TOO_MANY_KEYS, KEYS_MAX);
    key_make(&k, op_str(o, "name"), op_str(o, "rights"));
    int r = store_key_add(o->api->store, &k, &e);
    if (r == 0) {
        jsonw_open(&o->w, '{');
        write_key(&o->w, &k);
        jsonw_kstr(&o->w, "secretAccessKey", k.secret);
        jsonw_close(&o->w, '}');
    }
    explicit_bzero(&k, sizeof k);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

static bool list_one(void *ctx, const struct store_key *k)
{
    struct jsonw *w = ctx;
    jsonw_open(w, '{');
    write_key(w, k);
    jsonw_close(w, '}');
    return true;
}

int op_ListAccessKeys(struct op *o)
{
    struct err e = ERR_INIT;
    jsonw_open(&o->w, '{');
    jsonw_kopen(&o->w, "items", '[');
    if (store_key_each(o->api->store, list_one, &o->w, &e) < 0)
        return op_fail_store(o, &e);
    jsonw_close(&o->w, ']');
    jsonw_close(&o->w, '}');
    return 0;
}

/* Inside the transaction, so that two administrators cannot lock each other out. */
static int revoke(struct op *o, const char *id)
{
    struct census c = {.id = id};
    struct store_key k;
    struct err e = ERR_INIT;
    int r = store_key_get(o->api->store, id, &k, &e);
    bool admin = r == 0 && strcmp(k.rights, "admin") == 0;
    explicit_bzero(&k, sizeof k);
    if (r == -ENOENT)
        return op_fail_about(o, "access-key", id, TEXT_NO_KEY, id);
    if (r == 0)
        r = store_key_each(o->api->store, count, &c, &e);
    if (r == 0 && admin && c.other_admins == 0)
        return op_fail_about(o, "access-key", id, TEXT_LAST_ADMIN);
    if (r == 0)
        r = store_key_delete(o->api->store, id, &e);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

int op_RevokeAccessKey(struct op *o)
{
    struct err e = ERR_INIT;
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    if (revoke(o, op_str(o, "accessKeyId")) < 0) {
        store_rollback(o->api->store);
        return -1;
    }
    if (store_commit(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    jsonw_open(&o->w, '{');
    jsonw_close(&o->w, '}');
    return 0;
}
