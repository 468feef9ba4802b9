// SPDX-License-Identifier: Apache-2.0
/*
 * ListTags, TagResource, UntagResource: an older API on the same host, with
 * its own error names. Only images can be tagged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../hypervisor/base/mem.h"
#include "op.h"

#define TAGS_MAX 50u

static int read_tags(struct op *o, const char *image, json_t **ret)
{
    AUTO_FREE char *text = NULL;
    struct err e = ERR_INIT;
    int r = store_tags_get(o->api->store, image, &text, &e);
    if (r < 0)
        return op_fail_store(o, &e);
    *ret = json_loads(text ? text : "{}", 0, NULL);
    return *ret ? 0 : op_fail(o, TEXT_INTERNAL);
}

static void write_map(struct op *o, const char *key, json_t *tags)
{
    const char *name;
    json_t *value;
    jsonw_kopen(&o->w, key, '{');
    json_object_foreach(tags, name, value)
    {
        const char *text = json_string_value(value);
        jsonw_kstr(&o->w, name, text ? text : "");
    }
    jsonw_close(&o->w, '}');
}

int write_tags(struct op *o, const char *image)
{
    json_t *tags;
    if (read_tags(o, image, &tags) < 0)
        return -1;
    write_map(o, "tags", tags);
    json_decref(tags);
    return 0;
}

int tags_check(struct op *o, const json_t *tags)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)tags, key,
                        value) if (strncasecmp(key, "aws:", 4) ==
                                   0) return op_fail(o, TEXT_RESERVED_TAG, key);
    return 0;
}

/* The image that Resource names; it exists. */
static int tagged_image(struct op *o, char ret[NAME_CAP])
{
    const char *text = op_str(o, "Resource");
    struct arn a;
    struct store_image i;
    struct err e = ERR_INIT;
    if (arn_parse(text, &a) != ARN_OK)
        return op_fail(o, TEXT_INVALID_ARN, text);
    if (!slice_is(a.kind, "microvm-image"))
        return op_fail(o, TEXT_NOT_TAGGABLE, text);
    if (op_image_name(o, text, SAY_INVALID_FORMAT, ret) < 0)
        return -1;
    int r = store_image_get(o->api->store, ret, &i, &e);
    if (r == -ENOENT)
        return op_fail_about(o, "microvm-image", text, TEXT_NO_IMAGE, text);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

int op_ListTags(struct op *o)
{
    char image[NAME_CAP];
    json_t *tags;
    if (tagged_image(o, image) < 0 || read_tags(o, image, &tags) < 0)
        return -1;
    jsonw_open(&o->w, '{');
    write_map(o, "Tags", tags);
    jsonw_close(&o->w, '}');
    json_decref(tags);
    return 0;
}

/* Applies the request to the tags there are; inside a transaction. */
static int change_tags(struct op *o)
{
    char image[NAME_CAP];
    json_t *tags;
    struct err e = ERR_INIT;
    if (tagged_image(o, image) < 0 || read_tags(o, image, &tags) < 0)
        return -1;
    const json_t *keys = json_object_get(o->in, "TagKeys");
    for (size_t i = 0; i < json_array_size(keys); i++)
        json_object_del(tags, json_string_value(json_array_get(keys, i)));
    json_t *more = json_object_get(o->in, "Tags");
    if (more)
        json_object_update(tags, more);
    size_t n = json_object_size(tags);
    AUTO_FREE char *text = json_dumps(tags, JSON_COMPACT);
    json_decref(tags);
    if (n > TAGS_MAX)
        return op_fail(o, TEXT_TOO_MANY_TAGS);
    if (!text)
        return op_fail(o, TEXT_INTERNAL);
    return store_tags_set(o->api->store, image, text, &e) < 0 ? op_fail_store(o, &e) : 0;
}

static int change(struct op *o)
{
    struct err e = ERR_INIT;
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    if (change_tags(o) < 0) {
        store_rollback(o->api->store);
        return -1;
    }
    return store_commit(o->api->store, &e) < 0 ? op_fail_store(o, &e) : 0;
}

int op_TagResource(struct op *o)
{
    return tags_check(o, json_object_get(o->in, "Tags")) < 0 ? -1 : change(o);
}

int op_UntagResource(struct op *o)
{
    return change(o);
}
