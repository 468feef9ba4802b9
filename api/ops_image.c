// SPDX-License-Identifier: Apache-2.0
/* CreateMicrovmImage, UpdateMicrovmImage, GetMicrovmImage, DeleteMicrovmImage,
 * ListMicrovmImages. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "op.h"
#include "uuid.h"

#define QUOTA_IMAGES   "L-942E56BE"
#define QUOTA_VERSIONS "L-F8BECE9C"

/* ---- what a request for a new version says ------------------------------- */

static int check_base(struct op *o)
{
    const char *arn = op_str(o, "baseImageArn"), *version = op_str(o, "baseImageVersion");
    struct arn a;
    uint32_t major = 1;
    if (arn_parse(arn, &a) == ARN_NO_PREFIX)
        return op_fail(o, TEXT_MALFORMED_ARN);
    if (!op_managed_image(o, arn))
        return op_fail(o, TEXT_NO_MANAGED_IMAGE, arn);
    if (version && (!version_parse(version, &major) || major != 1))
        return op_fail(o, TEXT_NO_MANAGED_VERSION, arn, version);
    /* Echoed in this form, given or not. */
    if (json_object_set_new(o->in, "baseImageVersion", json_string("1.0")) < 0)
        return op_fail(o, TEXT_INTERNAL);
    return 0;
}

static int check_artifact(struct op *o)
{
    const char *uri =
        json_string_value(json_object_get(json_object_get(o->in, "codeArtifact"), "uri"));
    const char *slash = strncmp(uri, "s3://", 5) == 0 ? strchr(uri + 5, '/') : NULL;
    if (!slash || slash == uri + 5 || slash[1] == '\0')
        return op_fail(o, TEXT_NOT_S3, uri);
    return 0;
}

static int check_environment(struct op *o)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(o->in, "environmentVariables"), key, value)
    {
        if (strcmp(key, "AWS_REGION") == 0)
            return op_fail(o, TEXT_RESERVED_ENV, key);
        if (strchr(key, '='))
            return op_fail(o, TEXT_BAD_ENV, key);
    }
    return 0;
}

static int check_config(struct op *o, const struct image_config *c)
{
    static const uint32_t sizes[] = {512, 1024, 2048, 4096, 8192};
    bool good = false, hook = false;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        good |= c->mem_mib == sizes[i];
    if (!good)
        return op_fail(o, TEXT_BAD_MEMORY, c->mem_mib, op_str(o, "baseImageArn"));
    for (size_t i = IMAGE_HOOK_RUN; i < IMAGE_HOOKS; i++)
        hook |= c->hooks[i].enabled;
    if (hook && !c->hooks[IMAGE_HOOK_READY].enabled)
        return op_fail(o, TEXT_NEEDS_READY);
    return 0;
}

/* Checks what the shapes cannot say, and fills in a version that is about to be built. */
static int read_version(struct op *o, struct store_version *v)
{
    AUTO_FREE char *egress = NULL;
    memset(v, 0, sizeof *v);
    if (check_base(o) < 0 || check_artifact(o) < 0 || check_environment(o) < 0 ||
        connectors_read(o, "egressNetworkConnectors", false, &egress) < 0)
        return -1;
    struct buf b = BUF_INIT;
    struct jsonw w;
    jsonw_init(&w, &b);
    shape_write(&w, shape_of(SHAPE_config), o->in);
    v->config = buf_cstr(&b);
    struct image_config c;
    struct err e = ERR_INIT;
    if (!v->config || image_config_parse(v->config, &c, &e) < 0) {
        buf_free(&b);
        v->config = NULL;
        return op_fail(o, TEXT_INTERNAL);
    }
    int r = check_config(o, &c);
    image_config_free(&c);
    if (r < 0) {
        store_version_free(v);
        return -1;
    }
    snprintf(v->state, sizeof v->state, "PENDING");
    snprintf(v->status, sizeof v->status, "INACTIVE"); /* until its build has succeeded */
    snprintf(v->build_state, sizeof v->build_state, "PENDING");
    uuid_make(v->build_id);
    v->created_at = v->updated_at = op_now();
    return 0;
}

/* ---- answers ------------------------------------------------------------- */

void write_image(struct op *o, const struct store_image *i)
{
    char arn[ARN_CAP];
    op_image_arn(o, i->name, arn);
    jsonw_kstr(&o->w, "imageArn", arn);
    jsonw_kstr(&o->w, "name", i->name);
    jsonw_kstr(&o->w, "state", i->state);
    jsonw_ktime(&o->w, "createdAt", i->created_at);
    jsonw_kstr_opt(&o->w, "latestActiveImageVersion", i->latest_active);
    jsonw_kstr_opt(&o->w, "latestFailedImageVersion", i->latest_failed);
}

/* The answer of create and update: the image, the version made, its configuration. */
static int answer_made(struct op *o, const char *name, uint32_t major, bool with_tags)
{
    struct store_image i;
    struct store_version v;
    struct err e = ERR_INIT;
    int r = store_image_get(o->api->store, name, &i, &e);
    if (r == 0)
        r = store_version_get(o->api->store, name, major, &v, &e);
    if (r < 0)
        return op_fail_store(o, &e);
    char version[VERSION_CAP];
    op_version_text(major, version);
    jsonw_open(&o->w, '{');
    write_image(o, &i);
    jsonw_ktime(&o->w, "updatedAt", i.updated_at);
    jsonw_kstr(&o->w, "imageVersion", version);
    jsonw_raw_members(&o->w, v.config);
    store_version_free(&v);
    if (with_tags && write_tags(o, name) < 0)
        return -1;
    jsonw_close(&o->w, '}');
    return 0;
}

/* ---- create -------------------------------------------------------------- */

/* Inside the transaction. 1: made by an earlier request with this client token. */
static int create_rows(struct op *o, const struct store_image *i, const struct store_version *v,
                       const char *tags, struct store_client_token *t)
{
    struct err e = ERR_INIT;
    uint64_t n = 0;
    int known = op_token_known(o, t);
    if (known != 0)
        return known;
    int r = store_image_count(o->api->store, &n, &e);
    if (r == 0 && o->api->max_images > 0 && n >= o->api->max_images) {
        o->about_quota = QUOTA_IMAGES;
        return op_fail(o, TEXT_IMAGE_QUOTA, o->api->max_images);
    }
    if (r == 0)
        r = store_image_add(o->api->store, i, v, tags, &e);
    if (r == -EEXIST)
        return op_fail(o, TEXT_IMAGE_EXISTS, i->name);
    return r < 0 ? op_fail_store(o, &e) : op_token_keep(o, t, i->name, 1);
}

static int tags_text(struct op *o, char **ret)
{
    const json_t *tags = json_object_get(o->in, "tags");
    *ret = NULL;
    if (!tags || json_is_null(tags))
        return 0;
    if (tags_check(o, tags) < 0)
        return -1;
    *ret = json_dumps(tags, JSON_COMPACT);
    return *ret ? 0 : op_fail(o, TEXT_INTERNAL);
}

/* Ends a transaction; -1 with the error written. `r` is what came out inside it. */
static int finish(struct op *o, int r)
{
    struct err e = ERR_INIT;
    if (r < 0) {
        store_rollback(o->api->store);
        return r;
    }
    return store_commit(o->api->store, &e) < 0 ? op_fail_store(o, &e) : r;
}

/* The rows are written but the build could not be started: nothing shall be left of them. */
static int undo(struct op *o, const struct store_image *before, const struct store_version *v,
                const struct err *why)
{
    struct err e = ERR_INIT;
    struct store *s = o->api->store;
    int r = store_begin(s, &e);
    if (r == 0) {
        r = before ? store_version_delete(s, v->image, v->major, &e)
                   : store_image_delete(s, v->image, &e);
        if (r == 0 && before) /* keeps last_major as it is now: numbers are not used again */
            r = store_image_set(s, before, &e);
        if (r == 0 && op_str(o, "clientToken"))
            r = store_client_token_drop(s, v->image, 0, &e);
        if (r == 0)
            r = store_commit(s, &e);
        else
            store_rollback(s);
    }
    if (r < 0)
        log_err(LOG_ERROR, &e, "undo a version that cannot be built");
    return op_fail_fleet(o, v->image, why);
}

int op_CreateMicrovmImage(struct op *o)
{
    struct store_client_token t;
    struct err e = ERR_INIT;
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    AUTO_FREE char *tags = NULL;
    if (op_token_begin(o, &t) < 0 || read_version(o, &v) < 0 || tags_text(o, &tags) < 0)
        return -1;
    struct store_image i = {.state = "CREATING", .last_major = 1};
    snprintf(i.name, sizeof i.name, "%s", op_str(o, "name"));
    snprintf(v.image, sizeof v.image, "%s", i.name);
    v.major = 1;
    i.created_at = i.updated_at = v.created_at;

    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    int known = finish(o, create_rows(o, &i, &v, tags, &t));
    if (known < 0)
        return -1;
    if (known == 0 && fleet_build(o->api->fleet, v.image, v.major, &e) < 0)
        return undo(o, NULL, &v, &e);
    return answer_made(o, i.name, 1, true);
}

/* ---- update -------------------------------------------------------------- */

static bool is_changing(const struct store_image *i)
{
    return strcmp(i->state, "CREATING") == 0 || strcmp(i->state, "UPDATING") == 0 ||
           strcmp(i->state, "DELETING") == 0;
}

static int update_rows(struct op *o, struct store_image *before, struct store_version *v,
                       struct store_client_token *t)
{
    struct err e = ERR_INIT;
    struct store *s = o->api->store;
    uint64_t n = 0;
    int known = op_token_known(o, t);
    if (known != 0)
        return known;
    if (op_image(o, before) < 0)
        return -1;
    if (is_changing(before))
        return op_fail_about(o, "microvm-image", before->name, TEXT_IMAGE_STATE, before->state);
    int r = store_version_count(s, before->name, &n, &e);
    if (r == 0 && o->api->max_versions > 0 && n >= o->api->max_versions) {
        o->about_quota = QUOTA_VERSIONS;
        return op_fail_about(o, "microvm-image", before->name, TEXT_VERSION_QUOTA,
                             o->api->max_versions);
    }
    snprintf(v->image, sizeof v->image, "%s", before->name);
    if (r == 0)
        r = store_version_add(s, v, &e);
    before->last_major = v->major;
    return r < 0 ? op_fail_store(o, &e) : op_token_keep(o, t, v->image, v->major);
}

int op_UpdateMicrovmImage(struct op *o)
{
    struct store_client_token t;
    struct store_image before;
    struct err e = ERR_INIT;
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    if (op_token_begin(o, &t) < 0 || op_image(o, &before) < 0 || read_version(o, &v) < 0)
        return -1;
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    int known = finish(o, update_rows(o, &before, &v, &t));
    if (known < 0)
        return -1;
    if (known == 0 && fleet_build(o->api->fleet, v.image, v.major, &e) < 0)
        return undo(o, &before, &v, &e);
    return answer_made(o, before.name, known ? t.major : v.major, false);
}

/* ---- get and list -------------------------------------------------------- */

int op_GetMicrovmImage(struct op *o)
{
    struct store_image i;
    struct store_version v;
    uint32_t major;
    if (op_image(o, &i) < 0)
        return -1;
    jsonw_open(&o->w, '{');
    write_image(o, &i);
    jsonw_ktime(&o->w, "updatedAt", i.updated_at);
    /* Ours: why the last build failed, without a walk over versions and builds. */
    size_t n = strlen(i.state);
    if (n > 7 && strcmp(i.state + n - 7, "_FAILED") == 0 &&
        version_parse(i.latest_failed, &major) &&
        store_version_get(o->api->store, i.name, major, &v, NULL) == 0) {
        jsonw_kstr_opt(&o->w, "stateReason", v.reason);
        store_version_free(&v);
    }
    if (write_tags(o, i.name) < 0)
        return -1;
    jsonw_close(&o->w, '}');
    return 0;
}

struct image_list {
    struct op_page page;
    const char *filter;
};

static bool list_image(void *ctx, const struct store_image *i)
{
    struct image_list *l = ctx;
    if (l->filter && !strstr(i->name, l->filter))
        return true;
    if (!op_page_next(&l->page, i->name))
        return false;
    struct op *o = l->page.o;
    jsonw_open(&o->w, '{');
    write_image(o, i);
    jsonw_close(&o->w, '}');
    return true;
}

int op_ListMicrovmImages(struct op *o)
{
    struct image_list l;
    struct err e = ERR_INIT;
    const char *filter = op_str(o, "nameFilter");
    if (op_page_begin(o, &l.page, filter ? filter : "") < 0)
        return -1;
    l.filter = filter;
    if (store_image_each(o->api->store, l.page.start, list_image, &l, &e) < 0)
        return op_fail_store(o, &e);
    return op_page_end(&l.page);
}

/* ---- delete -------------------------------------------------------------- */

#define FILES_MAX 4096u

struct files {
    char (*ids)[40];
    size_t n;
};

static bool collect_file(void *ctx, const struct store_version *v)
{
    struct files *f = ctx;
    if (!v->file_id[0])
        return true;
    snprintf(f->ids[f->n++], sizeof f->ids[0], "%s", v->file_id);
    return f->n < FILES_MAX;
}

static int delete_rows(struct op *o, struct files *f)
{
    struct store *s = o->api->store;
    struct store_image i;
    struct err e = ERR_INIT;
    uint64_t live = 0;
    if (op_image(o, &i) < 0)
        return -1;
    if (strcmp(i.state, "CREATING") == 0)
        return op_fail(o, TEXT_CANNOT_DELETE);
    if (is_changing(&i))
        return op_fail_about(o, "microvm-image", i.name, TEXT_IMAGE_STATE, i.state);
    int r = store_vm_count_live(s, i.name, 0, &live, &e);
    if (r == 0 && live > 0) /* their disks and memory lie on top of the image's files */
        return op_fail_about(o, "microvm-image", i.name, TEXT_IN_USE, (unsigned long long)live);
    if (r == 0)
        r = store_version_each(s, i.name, UINT32_MAX, collect_file, f, &e);
    if (r == 0)
        r = store_client_token_drop(s, i.name, 0, &e);
    if (r == 0)
        r = store_image_delete(s, i.name, &e);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

static int answer_deleted(struct op *o)
{
    jsonw_open(&o->w, '{');
    jsonw_kstr(&o->w, "imageIdentifier", op_str(o, "imageIdentifier"));
    jsonw_kstr(&o->w, "state", "DELETED");
    jsonw_close(&o->w, '}');
    return 0;
}

int op_DeleteMicrovmImage(struct op *o)
{
    char name[NAME_CAP];
    struct err e = ERR_INIT;
    struct store_image i;
    if (op_image_name(o, op_str(o, "imageIdentifier"), SAY_INVALID_FORMAT, name) < 0)
        return -1;
    if (store_image_get(o->api->store, name, &i, NULL) == -ENOENT &&
        store_image_gone(o->api->store, name, NULL) == 0)
        return answer_deleted(o); /* deleting twice is no error */
    AUTO_FREE void *ids = calloc(FILES_MAX, sizeof *(struct files){0}.ids);
    struct files f = {.ids = ids};
    if (!ids)
        return op_fail(o, TEXT_INTERNAL);
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    if (finish(o, delete_rows(o, &f)) < 0)
        return -1;
    /* The rows are gone, so what a failure here leaves is swept at the next start. */
    for (size_t n = 0; n < f.n; n++)
        if (fleet_forget_version(o->api->fleet, f.ids[n], &e) < 0)
            log_err(LOG_WARN, &e, "remove the files of a deleted image");
    return answer_deleted(o);
}
