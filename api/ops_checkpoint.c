// SPDX-License-Identifier: Apache-2.0
/*
 * Extensions under /dormouse/v1/: checkpoints of a microVM, and the way back.
 * Names and tags come from clients.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "fleet_checkpoint.h"
#include "op.h"
#include "uuid.h"

int op_fail_checkpoint(struct op *o, const char *vm_id, const struct err *e)
{
    switch (e->num) {
    case EDQUOT:
        return op_fail_about(o, "microvm", vm_id, TEXT_QUOTA, e->msg);
    case EEXIST:
    case EPROTO:    /* the application's hook said no, or */
    case ETIMEDOUT: /* nothing */
        return op_fail_about(o, "microvm", vm_id, TEXT_SENTENCE, e->msg);
    case ENOENT: {
        const char *which = op_str(o, "checkpointIdentifier");
        if (which)
            return op_fail_about(o, "checkpoint", which, TEXT_NO_CHECKPOINT, vm_id, which);
        break;
    }
    default:
        break;
    }
    return op_fail_fleet(o, vm_id, e);
}

int op_tags(struct op *o, char **ret)
{
    json_t *tags = json_object_get(o->in, "tags");
    *ret = NULL;
    if (!json_is_object(tags) || json_object_size(tags) == 0)
        return 0;
    if (tags_check(o, tags) < 0)
        return -1;
    *ret = json_dumps(tags, JSON_COMPACT);
    return *ret ? 0 : op_fail(o, TEXT_INTERNAL);
}

static void write_checkpoint(struct jsonw *w, const struct store_checkpoint *c)
{
    jsonw_kstr(w, "checkpointId", c->id);
    jsonw_kstr(w, "microvmId", c->vm);
    jsonw_kstr_opt(w, "name", c->name);
    jsonw_ktime(w, "createdAt", c->created_at);
    jsonw_ku64(w, "generation", c->generation);
    jsonw_ku64(w, "memoryBytes", c->memory_bytes);
    jsonw_ku64(w, "diskBytes", c->disk_bytes);
    if (c->tags) {
        jsonw_key(w, "tags");
        jsonw_raw(w, c->tags);
    }
}

static int answer(struct op *o, const struct store_checkpoint *c)
{
    jsonw_open(&o->w, '{');
    write_checkpoint(&o->w, c);
    jsonw_close(&o->w, '}');
    return 0;
}

/* The checkpoint that checkpointIdentifier names, by id or name. */
static int find(struct op *o, const char *vm_id, struct store_checkpoint *ret)
{
    struct err e = ERR_INIT;
    int r =
        store_checkpoint_find(o->api->store, vm_id, op_str(o, "checkpointIdentifier"), ret, &e);
    if (r == -ENOENT)
        return op_fail_checkpoint(o, vm_id, &e);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

/* 1: the request was made before, and answered as then. */
static int again(struct op *o, const struct store_vm *vm, struct store_client_token *t)
{
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    struct err e = ERR_INIT;
    int known = op_token_known(o, t);
    if (known <= 0)
        return known;
    int r = store_checkpoint_find(o->api->store, vm->id, t->resource, &c, &e);
    if (r == -ENOENT)
        return op_fail_about(o, "checkpoint", t->resource, TEXT_NO_CHECKPOINT, vm->id,
                             t->resource);
    if (r < 0)
        return op_fail_store(o, &e);
    return answer(o, &c) < 0 ? -1 : 1;
}

int op_CreateCheckpoint(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    struct store_client_token t;
    struct err e = ERR_INIT;
    char uuid[UUID_CAP];
    const char *name = op_str(o, "name");
    if (op_microvm(o, &vm) < 0 || op_tags(o, &c.tags) < 0 || op_token_begin(o, &t) < 0)
        return -1;
    int known = again(o, &vm, &t);
    if (known != 0)
        return MIN(known, 0);
    uuid_make(uuid);
    snprintf(c.id, sizeof c.id, "checkpoint-%s", uuid);
    snprintf(c.vm, sizeof c.vm, "%s", vm.id);
    snprintf(c.name, sizeof c.name, "%s", name ? name : "");
    if (fleet_checkpoint(o->api->fleet, &c, &e) < 0)
        return op_fail_checkpoint(o, vm.id, &e);
    if (op_token_keep(o, &t, c.id, 0) < 0)
        return -1;
    return answer(o, &c);
}

static bool list_one(void *ctx, const struct store_checkpoint *c)
{
    struct op_page *p = ctx;
    char position[24];
    snprintf(position, sizeof position, "%" PRIu64, c->row);
    if (!op_page_next(p, position))
        return false;
    jsonw_open(&p->o->w, '{');
    write_checkpoint(&p->o->w, c);
    jsonw_close(&p->o->w, '}');
    return true;
}

int op_ListCheckpoints(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct op_page p;
    struct err e = ERR_INIT;
    uint64_t before = UINT64_MAX;
    if (op_microvm(o, &vm) < 0 || op_page_begin(o, &p, vm.id) < 0)
        return -1;
    if (p.start[0] && !parse_u64(p.start, 1, INT64_MAX, &before))
        return op_fail(o, TEXT_BAD_PAGE_TOKEN);
    if (store_checkpoint_each(o->api->store, vm.id, before, list_one, &p, &e) < 0)
        return op_fail_store(o, &e);
    return op_page_end(&p);
}

int op_GetCheckpoint(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    if (op_microvm(o, &vm) < 0 || find(o, vm.id, &c) < 0)
        return -1;
    return answer(o, &c);
}

int op_DeleteCheckpoint(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    struct err e = ERR_INIT;
    if (op_microvm(o, &vm) < 0 || find(o, vm.id, &c) < 0)
        return -1;
    if (fleet_checkpoint_delete(o->api->fleet, vm.id, c.id, &e) < 0)
        return op_fail_checkpoint(o, vm.id, &e);
    return answer(o, &c);
}

int op_RollbackMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0}, now = {.row = 0};
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    struct err e = ERR_INIT;
    if (op_microvm(o, &vm) < 0 || find(o, vm.id, &c) < 0)
        return -1;
    if (fleet_rollback(o->api->fleet, vm.id, c.id, &e) < 0)
        return op_fail_checkpoint(o, vm.id, &e);
    if (store_vm_get(o->api->store, vm.id, &now, &e) < 0)
        return op_fail_store(o, &e);
    jsonw_open(&o->w, '{');
    write_microvm(o, &now);
    jsonw_ku64(&o->w, "generation", now.generation);
    jsonw_close(&o->w, '}');
    return 0;
}
