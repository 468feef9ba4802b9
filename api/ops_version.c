// SPDX-License-Identifier: Apache-2.0
/* Versions of images and their builds. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "op.h"

#define ARCHITECTURE "ARM_64"
#define CHIPSET      "GRAVITON"

void write_version(struct op *o, const struct store_version *v)
{
    char arn[ARN_CAP], version[VERSION_CAP];
    op_image_arn(o, v->image, arn);
    op_version_text(v->major, version);
    jsonw_kstr(&o->w, "imageArn", arn);
    jsonw_kstr(&o->w, "imageVersion", version);
    jsonw_kstr(&o->w, "state", v->state);
    jsonw_kstr(&o->w, "status", v->status);
    jsonw_ktime(&o->w, "createdAt", v->created_at);
    jsonw_ktime(&o->w, "updatedAt", v->updated_at);
    jsonw_kstr_opt(&o->w, "stateReason", v->reason);
    jsonw_raw_members(&o->w, v->config);
}

static int answer_version(struct op *o, const struct store_version *v)
{
    jsonw_open(&o->w, '{');
    write_version(o, v);
    if (write_tags(o, v->image) < 0)
        return -1;
    jsonw_close(&o->w, '}');
    return 0;
}

int op_GetMicrovmImageVersion(struct op *o)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    return op_version(o, NULL, &v) < 0 ? -1 : answer_version(o, &v);
}

static bool list_version(void *ctx, const struct store_version *v)
{
    struct op_page *p = ctx;
    char position[16];
    snprintf(position, sizeof position, "%u", v->major);
    if (!op_page_next(p, position))
        return false;
    jsonw_open(&p->o->w, '{');
    write_version(p->o, v);
    jsonw_close(&p->o->w, '}');
    return true;
}

int op_ListMicrovmImageVersions(struct op *o)
{
    struct store_image i;
    struct op_page p;
    struct err e = ERR_INIT;
    if (op_image(o, &i) < 0 || op_page_begin(o, &p, i.name) < 0)
        return -1;
    uint32_t before = UINT32_MAX;
    if (p.start[0] && !version_parse(p.start, &before))
        return op_fail(o, TEXT_BAD_PAGE_TOKEN);
    if (store_version_each(o->api->store, i.name, before, list_version, &p, &e) < 0)
        return op_fail_store(o, &e);
    return op_page_end(&p);
}

/* ---- status and deletion ------------------------------------------------- */

static bool is_active(const struct store_version *v)
{
    return strcmp(v->state, "SUCCESSFUL") == 0 && strcmp(v->status, "ACTIVE") == 0;
}

struct newest {
    struct store_version *ret;
    bool found;
};

static bool see_active(void *ctx, const struct store_version *v)
{
    struct newest *n = ctx;
    if (!is_active(v))
        return true;
    *n->ret = *v;
    n->ret->config = strdup(v->config ? v->config : "");
    n->found = n->ret->config != NULL;
    return false;
}

int newest_active(struct op *o, const char *image, struct store_version *ret)
{
    struct newest n = {.ret = ret};
    struct err e = ERR_INIT;
    int r = store_version_each(o->api->store, image, UINT32_MAX, see_active, &n, &e);
    if (r < 0)
        return op_fail_store(o, &e);
    return n.found;
}

int reset_latest_active(struct op *o, struct store_image *i)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    int found = newest_active(o, i->name, &v);
    if (found < 0)
        return -1;
    if (found)
        op_version_text(v.major, i->latest_active);
    else
        i->latest_active[0] = '\0';
    return 0;
}

static int refuse_while_changing(struct op *o, const struct store_image *i)
{
    if (strcmp(i->state, "CREATING") == 0 || strcmp(i->state, "UPDATING") == 0 ||
        strcmp(i->state, "DELETING") == 0)
        return op_fail_about(o, "microvm-image", i->name, TEXT_IMAGE_STATE, i->state);
    return 0;
}

static int set_status(struct op *o, struct store_version *v)
{
    struct store *s = o->api->store;
    struct store_image i;
    struct err e = ERR_INIT;
    if (op_version(o, &i, v) < 0 || refuse_while_changing(o, &i) < 0)
        return -1;
    if (strcmp(v->state, "SUCCESSFUL") != 0)
        return op_fail_about(o, "microvm-image", i.name, TEXT_VERSION_STATE,
                             op_str(o, "imageVersion"), v->state);
    snprintf(v->status, sizeof v->status, "%s", op_str(o, "status"));
    v->updated_at = op_now();
    if (store_version_set(s, v, NULL, &e) < 0)
        return op_fail_store(o, &e);
    if (reset_latest_active(o, &i) < 0)
        return -1;
    return store_image_set(s, &i, &e) < 0 ? op_fail_store(o, &e) : 0;
}

int op_UpdateMicrovmImageVersion(struct op *o)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    struct err e = ERR_INIT;
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    if (set_status(o, &v) < 0) {
        store_rollback(o->api->store);
        return -1;
    }
    if (store_commit(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    return answer_version(o, &v);
}

/* Inside the transaction. 1: it was deleted before. */
static int delete_row(struct op *o, struct store_version *v)
{
    struct store *s = o->api->store;
    struct store_image i;
    struct err e = ERR_INIT;
    uint64_t n = 0, live = 0;
    uint32_t major;
    if (op_image(o, &i) < 0)
        return -1;
    if (version_parse(op_str(o, "imageVersion"), &major) && major <= i.last_major &&
        store_version_get(s, i.name, major, v, NULL) == -ENOENT)
        return 1;
    if (!v->config && op_version(o, NULL, v) < 0)
        return -1;
    if (refuse_while_changing(o, &i) < 0)
        return -1;
    int r = store_version_count(s, i.name, &n, &e);
    if (r == 0 && n == 1)
        return op_fail(o, TEXT_LAST_VERSION);
    if (r == 0)
        r = store_vm_count_live(s, i.name, v->major, &live, &e);
    if (r == 0 && live > 0)
        return op_fail_about(o, "microvm-image", i.name, TEXT_IN_USE, (unsigned long long)live);
    if (r == 0)
        r = store_version_delete(s, i.name, v->major, &e);
    if (r < 0)
        return op_fail_store(o, &e);
    if (reset_latest_active(o, &i) < 0)
        return -1;
    if (version_parse(i.latest_failed, &major) && major == v->major)
        i.latest_failed[0] = '\0';
    return store_image_set(s, &i, &e) < 0 ? op_fail_store(o, &e) : 0;
}

int op_DeleteMicrovmImageVersion(struct op *o)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    struct err e = ERR_INIT;
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    int gone = delete_row(o, &v);
    if (gone < 0) {
        store_rollback(o->api->store);
        return -1;
    }
    if (store_commit(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    if (gone == 0 && v.file_id[0] &&
        fleet_forget_version(o->api->fleet, v.file_id, &e) < 0) /* swept at the next start */
        log_err(LOG_WARN, &e, "remove the files of a deleted version");
    jsonw_open(&o->w, '{');
    jsonw_kstr(&o->w, "imageIdentifier", op_str(o, "imageIdentifier"));
    jsonw_kstr(&o->w, "imageVersion", op_str(o, "imageVersion"));
    jsonw_kstr(&o->w, "state", "DELETED");
    jsonw_close(&o->w, '}');
    return 0;
}

/* ---- builds -------------------------------------------------------------- */

static const char *generation(const struct op *o)
{
    return o->api->chipset_generation ? o->api->chipset_generation : "3";
}

static void write_build(struct op *o, const struct store_version *v, bool with_sizes)
{
    char arn[ARN_CAP], version[VERSION_CAP];
    op_image_arn(o, v->image, arn);
    op_version_text(v->major, version);
    jsonw_open(&o->w, '{');
    jsonw_kstr(&o->w, "imageArn", arn);
    jsonw_kstr(&o->w, "imageVersion", version);
    jsonw_kstr(&o->w, "buildId", v->build_id);
    jsonw_kstr(&o->w, "buildState", v->build_state);
    jsonw_kstr(&o->w, "architecture", ARCHITECTURE);
    jsonw_kstr(&o->w, "chipset", CHIPSET);
    jsonw_kstr(&o->w, "chipsetGeneration", generation(o));
    jsonw_ktime(&o->w, "createdAt", v->created_at);
    jsonw_kstr_opt(&o->w, "stateReason", v->reason);
    if (with_sizes && (v->memory_bytes || v->code_bytes || v->disk_bytes)) {
        jsonw_kopen(&o->w, "snapshotBuild", '{');
        if (v->memory_bytes)
            jsonw_ku64(&o->w, "memorySnapshotSizeInBytes", v->memory_bytes);
        if (v->code_bytes)
            jsonw_ku64(&o->w, "codeInstallSizeInBytes", v->code_bytes);
        if (v->disk_bytes)
            jsonw_ku64(&o->w, "diskSnapshotSizeInBytes", v->disk_bytes);
        jsonw_close(&o->w, '}');
    }
    jsonw_close(&o->w, '}');
}

static bool wanted(const struct op *o, const char *member, const char *value)
{
    const char *text = op_str(o, member);
    return !text || strcmp(text, value) == 0;
}

int op_ListMicrovmImageBuilds(struct op *o)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    struct op_page p;
    if (op_version(o, NULL, &v) < 0 || op_page_begin(o, &p, v.build_id) < 0)
        return -1;
    if (wanted(o, "architecture", ARCHITECTURE) && wanted(o, "chipset", CHIPSET) &&
        wanted(o, "chipsetGeneration", generation(o)) && op_page_next(&p, v.build_id))
        write_build(o, &v, false);
    return op_page_end(&p);
}

int op_GetMicrovmImageBuild(struct op *o)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    const char *id = op_str(o, "buildId");
    if (op_version(o, NULL, &v) < 0)
        return -1;
    if (strcmp(id, v.build_id) != 0)
        return op_fail_about(o, "microvm-image-build", id, TEXT_NO_BUILD, id);
    write_build(o, &v, true);
    return 0;
}
