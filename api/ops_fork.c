// SPDX-License-Identifier: Apache-2.0
/*
 * Extension under /dormouse/v1/: forks of a microVM. Children have what their
 * parent was run with; name and tags come from the client.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "fleet_checkpoint.h"
#include "op.h"
#include "uuid.h"

static char *copy(const char *s, bool *bad)
{
    char *text = s ? strdup(s) : NULL;
    *bad |= s && !text;
    return text;
}

/* Like the parent, but new. */
static int make_row(struct op *o, const struct store_vm *parent, const char *tags,
                    size_t number, size_t count, struct store_vm *vm)
{
    const char *name = op_str(o, "name");
    char uuid[UUID_CAP];
    bool bad = false;
    *vm = (struct store_vm){.major = parent->major,
                            .has_idle = parent->has_idle,
                            .auto_resume = parent->auto_resume,
                            .idle_seconds = parent->idle_seconds,
                            .suspended_seconds = parent->suspended_seconds,
                            .max_seconds = parent->max_seconds,
                            .started_at = op_now()};
    uuid_make(uuid);
    snprintf(vm->id, sizeof vm->id, "microvm-%s", uuid);
    uuid_make(vm->label);
    memcpy(vm->image, parent->image, sizeof vm->image);
    memcpy(vm->role_arn, parent->role_arn, sizeof vm->role_arn);
    snprintf(vm->state, sizeof vm->state, "PENDING");
    vm->ingress = copy(parent->ingress, &bad);
    vm->egress = copy(parent->egress, &bad);
    vm->logging = copy(parent->logging, &bad);
    vm->env = copy(parent->env, &bad);
    vm->tags = copy(tags, &bad);
    if (name && count > 1)
        snprintf(vm->name, sizeof vm->name, "%.60s-%zu", name, number);
    else if (name)
        snprintf(vm->name, sizeof vm->name, "%s", name);
    return bad ? -ENOMEM : 0;
}

int write_lineage(struct op *o, const char *vm_id)
{
    struct store_lineage l;
    struct err e = ERR_INIT;
    int r = store_lineage_get(o->api->store, vm_id, &l, &e);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return op_fail_store(o, &e);
    jsonw_kopen(&o->w, "forkedFrom", '{');
    jsonw_kstr(&o->w, "forkId", l.fork);
    jsonw_kstr(&o->w, "microvmId", l.parent);
    jsonw_kstr_opt(&o->w, "checkpointId", l.checkpoint);
    jsonw_close(&o->w, '}');
    return 0;
}

/* ---- the answer ---- */

struct listing {
    struct op *o;
    int result;
};

static bool list_child(void *ctx, const struct store_lineage *l)
{
    struct listing *list = ctx;
    struct op *o = list->o;
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    int r = store_vm_get(o->api->store, l->vm, &vm, &e);
    if (r < 0) {
        list->result = op_fail_store(o, &e);
        return false;
    }
    jsonw_open(&o->w, '{');
    write_microvm(o, &vm);
    write_extras(o, &vm);
    jsonw_close(&o->w, '}');
    return true;
}

static int answer(struct op *o, const char *parent, const char *fork)
{
    struct listing list = {.o = o};
    struct err e = ERR_INIT;
    jsonw_open(&o->w, '{');
    jsonw_kstr(&o->w, "forkId", fork);
    jsonw_kstr(&o->w, "parentMicrovmId", parent);
    jsonw_kopen(&o->w, "items", '[');
    if (store_lineage_each(o->api->store, fork, list_child, &list, &e) < 0)
        return op_fail_store(o, &e);
    jsonw_close(&o->w, ']');
    jsonw_close(&o->w, '}');
    return list.result;
}

/* ---- forking ---- */

struct keeping {
    struct op *o;
    struct store_client_token *token;
    const char *id;
    bool failed; /* and the answer is written */
    bool again;  /* the same request was made meanwhile */
};

/* In the transaction that makes the children. */
static int keep_token(void *ctx)
{
    struct keeping *k = ctx;
    int known = op_token_known(k->o, k->token);
    k->again = known > 0;
    k->failed = known < 0 || (known == 0 && op_token_keep(k->o, k->token, k->id, 0) < 0);
    return k->failed || k->again ? -1 : 0;
}

int op_ForkMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    AUTO_FREE char *tags = NULL;
    AUTO_FREE struct store_vm *children = NULL;
    const char *which = op_str(o, "checkpointIdentifier");
    const json_t *count = json_object_get(o->in, "count");
    struct store_client_token t;
    struct err e = ERR_INIT;
    char uuid[UUID_CAP], id[ID_CAP];
    size_t n = json_is_integer(count) ? (size_t)json_integer_value(count) : 1;
    if (op_microvm(o, &vm) < 0 || op_tags(o, &tags) < 0 || op_token_begin(o, &t) < 0)
        return -1;
    int known = op_token_known(o, &t);
    if (known != 0)
        return known < 0 ? -1 : answer(o, vm.id, t.resource);
    uuid_make(uuid);
    snprintf(id, sizeof id, "fork-%s", uuid);
    children = calloc(n, sizeof *children);
    if (!children)
        return op_fail(o, TEXT_INTERNAL);
    for (size_t i = 0; i < n; i++) {
        if (make_row(o, &vm, tags, i + 1, n, &children[i]) == 0)
            continue;
        for (size_t k = 0; k <= i; k++)
            store_vm_free(&children[k]);
        return op_fail(o, TEXT_INTERNAL);
    }
    struct keeping keep = {.o = o, .token = &t, .id = id};
    const struct fleet_fork ask = {.parent = vm.id,
                                   .which = which,
                                   .children = children,
                                   .n = n,
                                   .id = id,
                                   .also = keep_token,
                                   .ctx = &keep};
    int r = fleet_fork(o->api->fleet, &ask, &e);
    if (r < 0 && keep.again)
        return answer(o, vm.id, t.resource);
    if (r < 0)
        return keep.failed ? -1 : op_fail_checkpoint(o, vm.id, &e);
    return answer(o, vm.id, id);
}
