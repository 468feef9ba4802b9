// SPDX-License-Identifier: Apache-2.0
/* ListMultipartUploads and ListParts; see s3_priv.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "s3_priv.h"
#include "s3_uploads.h"
#include "s3_xml.h"
#include "urlenc.h"

#define PAGE     1000u
#define HELD_MAX 100000u /* uploads that are sorted for one page */
#define XMLNS    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static void xml_number(struct buf *b, const char *name, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, n);
    xml_element(b, name, text);
}

static void xml_time(struct buf *b, const char *name, double seconds)
{
    char text[32];
    s3_time(seconds, text);
    xml_element(b, name, text);
}

static void xml_owner(struct buf *b, const char *name)
{
    buf_printf(b, "<%s><ID>dormouse</ID></%s>", name, name);
}

/* ---- uploads --------------------------------------------------------------------------- */

struct uploads {
    struct s3_upload *all;
    size_t n, cap;
    const char *prefix;
    bool no_memory;
};

static void uploads_free(struct uploads *u)
{
    for (size_t i = 0; i < u->n; i++)
        free(u->all[i].key);
    free(u->all);
}

static bool add_upload(void *ctx, const char *id, const char *key, double begun)
{
    struct uploads *u = ctx;
    if (strncmp(key, u->prefix, strlen(u->prefix)) != 0)
        return true;
    if (u->n == u->cap) {
        size_t cap = u->cap ? 2 * u->cap : 64;
        struct s3_upload *all = cap <= HELD_MAX ? reallocarray(u->all, cap, sizeof *all) : NULL;
        if (!all) {
            u->no_memory = true;
            return false;
        }
        u->all = all;
        u->cap = cap;
    }
    struct s3_upload *at = &u->all[u->n];
    at->key = strdup(key);
    at->begun = begun;
    snprintf(at->id, sizeof at->id, "%s", id);
    u->no_memory = !at->key;
    u->n += at->key != NULL;
    return at->key != NULL;
}

static int upload_order(const void *a, const void *b)
{
    const struct s3_upload *x = a, *y = b;
    int keys = strcmp(x->key, y->key);
    return keys ? keys : strcmp(x->id, y->id);
}

/* Length of the common prefix that stands for the key, 0: it is told by itself. */
static size_t group_len(const struct s3_uploads_ask *ask, const char *key)
{
    const char *cut =
        ask->delimiter[0] ? strstr(key + strlen(ask->prefix), ask->delimiter) : NULL;
    return cut ? (size_t)(cut - key) + strlen(ask->delimiter) : 0;
}

/* Behind the markers? Without an upload's id all of the key are passed over, and a marker that
 * is a common prefix passes over all that it stands for. */
static bool is_behind(const struct s3_uploads_ask *ask, const struct s3_upload *u, size_t group)
{
    const char *key = ask->key_marker, *id = ask->id_marker;
    if (!key[0])
        return true;
    if (group && !id[0] && strlen(key) == group && memcmp(u->key, key, group) == 0)
        return false;
    int keys = strcmp(u->key, key);
    return keys > 0 || (keys == 0 && id[0] && strcmp(u->id, id) > 0);
}

static void name_element(const struct s3_uploads_ask *ask, struct buf *b, const char *element,
                         const char *name, size_t len)
{
    AUTO(buf_free) struct buf part = BUF_INIT;
    buf_add(&part, name, len);
    const char *text = buf_cstr(&part);
    buf_printf(b, "<%s>", element);
    if (ask->url)
        url_encode(b, name, len, true);
    else if (text)
        xml_text(b, text);
    buf_printf(b, "</%s>", element);
    b->bad |= !text;
}

struct uploads_page {
    struct buf list, groups;
    const char *last; /* the last thing told: a key with its upload, or a common prefix */
    size_t last_len;
    const char *last_id;
    const char *group; /* the last common prefix */
    size_t group_len;
    uint64_t count;
    bool more;
};

static void add_to_page(struct uploads_page *p, const struct s3_uploads_ask *ask,
                        const struct s3_upload *u, size_t group)
{
    if (group && p->group_len == group && memcmp(p->group, u->key, group) == 0)
        return; /* told already */
    if (p->count == ask->max) {
        p->more = true;
        return;
    }
    p->count++;
    p->last = u->key;
    p->last_len = group ? group : strlen(u->key);
    p->last_id = group ? NULL : u->id;
    if (group) {
        p->group = u->key;
        p->group_len = group;
        buf_str(&p->groups, "<CommonPrefixes>");
        name_element(ask, &p->groups, "Prefix", u->key, group);
        buf_str(&p->groups, "</CommonPrefixes>");
        return;
    }
    buf_str(&p->list, "<Upload>");
    name_element(ask, &p->list, "Key", u->key, strlen(u->key));
    xml_element(&p->list, "UploadId", u->id);
    xml_owner(&p->list, "Initiator");
    xml_owner(&p->list, "Owner");
    xml_element(&p->list, "StorageClass", "STANDARD");
    xml_time(&p->list, "Initiated", u->begun);
    buf_str(&p->list, "</Upload>");
}

void s3_uploads_xml(struct buf *xml, const struct s3_uploads_ask *ask, struct s3_upload *all,
                    size_t n)
{
    struct uploads_page p = {.last = NULL};
    if (n)
        qsort(all, n, sizeof *all, upload_order);
    for (size_t i = 0; i < n && !p.more; i++) {
        if (strncmp(all[i].key, ask->prefix, strlen(ask->prefix)) != 0)
            continue;
        size_t group = group_len(ask, all[i].key);
        if (is_behind(ask, &all[i], group))
            add_to_page(&p, ask, &all[i], group);
    }
    buf_str(xml, "<ListMultipartUploadsResult " XMLNS ">");
    xml_element(xml, "Bucket", ask->bucket);
    name_element(ask, xml, "KeyMarker", ask->key_marker, strlen(ask->key_marker));
    xml_element(xml, "UploadIdMarker", ask->id_marker);
    name_element(ask, xml, "Prefix", ask->prefix, strlen(ask->prefix));
    if (ask->delimiter[0])
        name_element(ask, xml, "Delimiter", ask->delimiter, strlen(ask->delimiter));
    if (ask->url)
        xml_element(xml, "EncodingType", "url");
    if (p.more && p.last) {
        name_element(ask, xml, "NextKeyMarker", p.last, p.last_len);
        if (p.last_id)
            xml_element(xml, "NextUploadIdMarker", p.last_id);
    }
    xml_number(xml, "MaxUploads", ask->max);
    xml_element(xml, "IsTruncated", p.more ? "true" : "false");
    buf_add(xml, p.list.data, p.list.len);
    buf_add(xml, p.groups.data, p.groups.len);
    buf_str(xml, "</ListMultipartUploadsResult>");
    xml->bad = xml->bad || p.list.bad || p.groups.bad;
    buf_free(&p.list);
    buf_free(&p.groups);
}

void s3_list_uploads(struct s3_call *c)
{
    AUTO(uploads_free) struct uploads u = {.prefix = ""};
    AUTO(buf_free) struct buf xml = BUF_INIT;
    const char *q = c->req->query;
    struct err e = ERR_INIT;
    uint64_t max = PAGE;
    bool bad = false;
    AUTO_FREE char *prefix = query_value(q, "prefix", &bad);
    AUTO_FREE char *delimiter = query_value(q, "delimiter", &bad);
    AUTO_FREE char *key = query_value(q, "key-marker", &bad);
    AUTO_FREE char *id = query_value(q, "upload-id-marker", &bad);
    AUTO_FREE char *wanted = query_value(q, "max-uploads", &bad);
    AUTO_FREE char *encoding = query_value(q, "encoding-type", &bad);
    if (bad || (wanted && !parse_u64(wanted, 1, INT32_MAX, &max))) {
        s3_error(c, 400, "InvalidArgument", "A parameter of the listing is malformed.");
        return;
    }
    u.prefix = prefix ? prefix : "";
    int r = artifacts_upload_each(c->s->artifacts, c->bucket, add_upload, &u, &e);
    if (r == 0 && u.no_memory)
        r = err_sys(&e, ENOMEM, "list uploads");
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    const struct s3_uploads_ask ask = {.bucket = c->bucket,
                                       .prefix = u.prefix,
                                       .delimiter = delimiter ? delimiter : "",
                                       .key_marker = key ? key : "",
                                       .id_marker = key && *key && id ? id : "",
                                       .url = encoding && strcmp(encoding, "url") == 0,
                                       .max = MIN(max, (uint64_t)PAGE)};
    s3_uploads_xml(&xml, &ask, u.all, u.n);
    s3_answer_xml(c, &xml);
}

/* ---- parts ----------------------------------------------------------------------------- */

struct parts {
    struct artifact_part *all;
    size_t n, cap;
    bool no_memory;
};

static bool add_part(void *ctx, const struct artifact_part *part)
{
    struct parts *p = ctx;
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        struct artifact_part *all = reallocarray(p->all, cap, sizeof *all);
        if (!all) {
            p->no_memory = true;
            return false;
        }
        p->all = all;
        p->cap = cap;
    }
    p->all[p->n++] = *part;
    return true;
}

/* Two of one number after a crash: the later one counts, and comes first here. */
static int part_order(const void *a, const void *b)
{
    const struct artifact_part *x = a, *y = b;
    return x->number != y->number ? (x->number < y->number ? -1 : 1)
                                  : (x->modified < y->modified) - (x->modified > y->modified);
}

static void write_parts(struct s3_call *c, const char *id, const struct parts *p,
                        uint64_t marker, uint64_t max)
{
    AUTO(buf_free) struct buf xml = BUF_INIT, list = BUF_INIT;
    uint64_t count = 0, last = marker;
    bool more = false;
    for (size_t i = 0; i < p->n; i++) {
        const struct artifact_part *at = &p->all[i];
        char etag[40];
        if (at->number <= last)
            continue;
        more = count == max;
        if (more)
            break;
        snprintf(etag, sizeof etag, "\"%s\"", at->md5);
        buf_str(&list, "<Part>");
        xml_number(&list, "PartNumber", at->number);
        xml_time(&list, "LastModified", at->modified);
        xml_element(&list, "ETag", etag);
        xml_number(&list, "Size", at->size);
        buf_str(&list, "</Part>");
        last = at->number;
        count++;
    }
    buf_str(&xml, "<ListPartsResult " XMLNS ">");
    xml_element(&xml, "Bucket", c->bucket);
    xml_element(&xml, "Key", c->key);
    xml_element(&xml, "UploadId", id);
    xml_number(&xml, "PartNumberMarker", marker);
    if (more)
        xml_number(&xml, "NextPartNumberMarker", last);
    xml_number(&xml, "MaxParts", max);
    xml_element(&xml, "IsTruncated", more ? "true" : "false");
    xml_owner(&xml, "Initiator");
    xml_owner(&xml, "Owner");
    xml_element(&xml, "StorageClass", "STANDARD");
    buf_add(&xml, list.data, list.len);
    buf_str(&xml, "</ListPartsResult>");
    xml.bad = xml.bad || list.bad;
    s3_answer_xml(c, &xml);
}

void s3_list_parts(struct s3_call *c, const char *id)
{
    struct parts p = {.all = NULL};
    const char *q = c->req->query;
    struct err e = ERR_INIT;
    uint64_t max = PAGE, marker = 0;
    bool bad = false;
    AUTO_FREE char *wanted = query_value(q, "max-parts", &bad);
    AUTO_FREE char *after = query_value(q, "part-number-marker", &bad);
    if (bad || (wanted && !parse_u64(wanted, 1, INT32_MAX, &max)) ||
        (after && *after && !parse_u64(after, 0, INT32_MAX, &marker))) {
        s3_error(c, 400, "InvalidArgument", "A parameter of the listing is malformed.");
        return;
    }
    int r = artifacts_upload_check(c->s->artifacts, c->bucket, c->key, id, NULL, &e);
    if (r == 0)
        r = artifacts_part_each(c->s->artifacts, id, add_part, &p, &e);
    if (r == 0 && p.no_memory)
        r = err_sys(&e, ENOMEM, "list parts");
    if (r == 0 && p.n)
        qsort(p.all, p.n, sizeof *p.all, part_order);
    if (r < 0)
        s3_fail(c, r, &e);
    else
        write_parts(c, id, &p, marker, MIN(max, (uint64_t)PAGE));
    free(p.all);
}
