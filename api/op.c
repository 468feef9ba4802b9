// SPDX-License-Identifier: Apache-2.0
/* What the operations share: lookups, client tokens, pages; see op.h. */
#include "op.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../hypervisor/base/mem.h"

const char *op_str(const struct op *o, const char *name)
{
    return json_string_value(json_object_get(o->in, name));
}

double op_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)(t.tv_sec * 1000 + t.tv_nsec / 1000000) / 1000.0;
}

/* ---- names --------------------------------------------------------------- */

void op_image_arn(const struct op *o, const char *name, char ret[ARN_CAP])
{
    snprintf(ret, ARN_CAP, "arn:aws:lambda:%s:%s:microvm-image:%s", o->api->region,
             o->api->account, name);
}

void op_version_text(uint32_t major, char ret[VERSION_CAP])
{
    snprintf(ret, VERSION_CAP, "%" PRIu32 ".0", major);
}

static bool is_ours(const struct op *o, const struct arn *a, const char *account)
{
    return slice_is(a->partition, "aws") && slice_is(a->service, "lambda") &&
           slice_is(a->region, o->api->region) && slice_is(a->account, account);
}

int op_image_name(struct op *o, const char *text, enum arn_words bare, char ret[NAME_CAP])
{
    struct arn a;
    enum arn_fault fault = arn_parse(text, &a);
    if (fault == ARN_NO_PREFIX && bare == SAY_MALFORMED)
        return op_fail(o, TEXT_MALFORMED_ARN);
    if (fault != ARN_OK || !slice_is(a.kind, "microvm-image") || a.name.n == 0)
        return op_fail(o, TEXT_INVALID_ARN, text);
    if (is_ours(o, &a, "aws") && a.sep == ':') /* a managed image is nobody's to run or get */
        return op_fail_about(o, "microvm-image", text, TEXT_NO_IMAGE, text);
    if (!is_ours(o, &a, o->api->account) || a.sep != ':')
        return op_fail(o, TEXT_DENIED_ON, o->route->operation, text, o->api->region,
                       o->api->account);
    if (!slice_copy(a.name, ret, NAME_CAP))
        return op_fail_about(o, "microvm-image", text, TEXT_NO_IMAGE, text);
    return 0;
}

int op_image(struct op *o, struct store_image *ret)
{
    const char *text = op_str(o, "imageIdentifier");
    char name[NAME_CAP];
    if (op_image_name(o, text, SAY_INVALID_FORMAT, name) < 0)
        return -1;
    struct err e = ERR_INIT;
    int r = store_image_get(o->api->store, name, ret, &e);
    if (r == -ENOENT)
        return op_fail_about(o, "microvm-image", text, TEXT_NO_IMAGE, text);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

int op_version(struct op *o, struct store_image *ret_image, struct store_version *ret)
{
    struct store_image image;
    const char *arn = op_str(o, "imageIdentifier"), *text = op_str(o, "imageVersion");
    uint32_t major;
    if (op_image(o, ret_image ? ret_image : &image) < 0)
        return -1;
    struct err e = ERR_INIT;
    int r = -ENOENT;
    if (version_parse(text, &major))
        r = store_version_get(o->api->store, (ret_image ? ret_image : &image)->name, major, ret,
                              &e);
    if (r == -ENOENT)
        return op_fail_about(o, "microvm-image", arn, TEXT_NO_VERSION, arn, text);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

int op_microvm(struct op *o, struct store_vm *ret)
{
    const char *text = op_str(o, "microvmIdentifier"), *id = text;
    struct arn a;
    if (arn_parse(text, &a) == ARN_OK && slice_is(a.kind, "microvm") &&
        is_ours(o, &a, o->api->account))
        id = a.name.p; /* the rest of the text */
    struct err e = ERR_INIT;
    int r = store_vm_get(o->api->store, id, ret, &e);
    if (r == -ENOENT)
        return op_fail_about(o, "microvm", text, TEXT_NO_MICROVM, text);
    if (r < 0)
        return op_fail_store(o, &e);
    fleet_state_now(o->api->fleet, ret->id, ret->state);
    return 0;
}

const char *op_managed_image(const struct op *o, const char *arn)
{
    static const char *const names[] = {
#define MANAGED_IMAGE(name, created, updated) name,
#define MANAGED_CONNECTOR(name, ingress)
#include "managed.def"
#undef MANAGED_IMAGE
#undef MANAGED_CONNECTOR
    };
    struct arn a;
    if (arn_parse(arn, &a) != ARN_OK || !is_ours(o, &a, "aws") || a.sep != ':' ||
        !slice_is(a.kind, "microvm-image"))
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_is(a.name, names[i]))
            return names[i];
    return NULL;
}

/* ---- client tokens ------------------------------------------------------- */

int op_token_begin(struct op *o, struct store_client_token *t)
{
    memset(t, 0, sizeof *t);
    const char *token = op_str(o, "clientToken");
    if (!token)
        return 0;
    snprintf(t->token, sizeof t->token, "%s", token);
    snprintf(t->operation, sizeof t->operation, "%s", o->route->operation);
    json_t *rest = json_copy(o->in);
    if (!rest)
        return op_fail(o, TEXT_INTERNAL);
    json_object_del(rest, "clientToken");
    char *text = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(rest);
    if (!text)
        return op_fail(o, TEXT_INTERNAL);
    uint8_t key[SIPHASH_KEY], sum[SIPHASH_LEN];
    store_secret(o->api->store, key);
    siphash128(key, text, strlen(text), sum);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(t->request_hash + 2 * i, 3, "%02x", sum[i]);
    explicit_bzero(text, strlen(text)); /* it has the payload and the environment */
    free(text);
    return 0;
}

int op_token_known(struct op *o, struct store_client_token *t)
{
    if (!t->token[0])
        return 0;
    struct store_client_token old;
    struct err e = ERR_INIT;
    int r = store_client_token_drop(o->api->store, NULL, op_now() - CLIENT_TOKEN_TTL, &e);
    if (r == 0)
        r = store_client_token_get(o->api->store, t->token, t->operation, &old, &e);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return op_fail_store(o, &e);
    if (strcmp(old.request_hash, t->request_hash) != 0)
        return op_fail_about(o,
                             strstr(o->route->operation, "Image") ? "microvm-image" : "microvm",
                             old.resource, TEXT_TOKEN_CONFLICT);
    *t = old;
    return 1;
}

int op_token_keep(struct op *o, struct store_client_token *t, const char *resource,
                  uint32_t major)
{
    if (!t->token[0])
        return 0;
    struct store_client_token old;
    struct err e = ERR_INIT;
    snprintf(t->resource, sizeof t->resource, "%s", resource);
    t->major = major;
    t->created_at = op_now();
    int r = store_client_token_add(o->api->store, t, &old, &e);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

/* ---- pages --------------------------------------------------------------- */

int op_page_begin(struct op *o, struct op_page *p, const char *question)
{
    memset(p, 0, sizeof *p);
    p->o = o;
    const json_t *max = json_object_get(o->in, "maxResults");
    p->max = max ? (size_t)json_integer_value(max) : 50;
    snprintf(p->question, sizeof p->question, "%s %s", o->route->operation, question);
    const char *token = op_str(o, "nextToken");
    if (token && *token) { /* an empty one is none, as some clients send it */
        uint8_t key[SIPHASH_KEY];
        store_secret(o->api->store, key);
        int r = page_read(key, p->question, token, p->start);
        if (r == -EINVAL)
            return op_fail(o, TEXT_BAD_PAGE_TOKEN);
        if (r < 0)
            return op_fail(o, TEXT_INTERNAL);
    }
    jsonw_open(&o->w, '{');
    jsonw_kopen(&o->w, "items", '[');
    return 0;
}

bool op_page_next(struct op_page *p, const char *position)
{
    if (p->count == p->max) {
        p->more = true;
        return false;
    }
    p->count++;
    snprintf(p->last, sizeof p->last, "%s", position);
    return true;
}

int op_page_end(struct op_page *p)
{
    struct op *o = p->o;
    jsonw_close(&o->w, ']');
    if (p->more) {
        uint8_t key[SIPHASH_KEY];
        char token[PAGE_TOKEN_CAP];
        store_secret(o->api->store, key);
        if (page_make(key, p->question, p->last, token) < 0)
            return op_fail(o, TEXT_INTERNAL);
        jsonw_kstr(&o->w, "nextToken", token);
    }
    jsonw_close(&o->w, '}');
    return 0;
}
