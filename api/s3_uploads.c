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

struct upload {
    char id[UPLOAD_ID_CAP];
    char *key;
    double begun;
};

struct uploads {
    struct upload *all;
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
        struct upload *all = cap <= HELD_MAX ? reallocarray(u->all, cap, sizeof *all) : NULL;
        if (!all) {
            u->no_memory = true;
            return false;
        }
        u->all = all;
        u->cap = cap;
    }
    struct upload *at = &u->all[u->n];
    at->key = strdup(key);
    at->begun = begun;
    snprintf(at->id, sizeof at->id, "%s", id);
    u->no_memory = !at->key;
    u->n += at->key != NULL;
    return at->key != NULL;
}

static int upload_order(const void *a, const void *b)
{
    const struct upload *x = a, *y = b;
    int keys = strcmp(x->key, y->key);
    return keys ? keys : strcmp(x->id, y->id);
}

/* Behind the markers? Without an upload's id all of the key are passed over. */
static bool is_behind(const struct upload *u, const char *key, const char *id)
{
    int keys = strcmp(u->key, key);
    return keys > 0 || (keys == 0 && id[0] && strcmp(u->id, id) > 0);
}

static void write_uploads(struct s3_call *c, const struct uploads *u, const char *key_marker,
                          const char *id_marker, uint64_t max)
{
    AUTO(buf_free) struct buf xml = BUF_INIT, list = BUF_INIT;
    const struct upload *last = NULL;
    uint64_t count = 0;
    bool more = false;
    for (size_t i = 0; i < u->n && !more; i++) {
        const struct upload *at = &u->all[i];
        if (key_marker[0] && !is_behind(at, key_marker, id_marker))
            continue;
        more = count == max;
        if (more)
            break;
        buf_str(&list, "<Upload>");
        xml_element(&list, "Key", at->key);
        xml_element(&list, "UploadId", at->id);
        xml_owner(&list, "Initiator");
        xml_owner(&list, "Owner");
        xml_element(&list, "StorageClass", "STANDARD");
        xml_time(&list, "Initiated", at->begun);
        buf_str(&list, "</Upload>");
        last = at;
        count++;
    }
    buf_str(&xml, "<ListMultipartUploadsResult " XMLNS ">");
    xml_element(&xml, "Bucket", c->bucket);
    xml_element(&xml, "KeyMarker", key_marker);
    xml_element(&xml, "UploadIdMarker", id_marker);
    xml_element(&xml, "Prefix", u->prefix);
    if (more && last) {
        xml_element(&xml, "NextKeyMarker", last->key);
        xml_element(&xml, "NextUploadIdMarker", last->id);
    }
    xml_number(&xml, "MaxUploads", max);
    xml_element(&xml, "IsTruncated", more ? "true" : "false");
    buf_add(&xml, list.data, list.len);
    buf_str(&xml, "</ListMultipartUploadsResult>");
    xml.bad = xml.bad || list.bad;
    s3_answer_xml(c, &xml);
}

void s3_list_uploads(struct s3_call *c)
{
    AUTO(uploads_free) struct uploads u = {.prefix = ""};
    const char *q = c->req->query;
    struct err e = ERR_INIT;
    uint64_t max = PAGE;
    bool bad = false;
    AUTO_FREE char *prefix = query_value(q, "prefix", &bad);
    AUTO_FREE char *delimiter = query_value(q, "delimiter", &bad);
    AUTO_FREE char *key = query_value(q, "key-marker", &bad);
    AUTO_FREE char *id = query_value(q, "upload-id-marker", &bad);
    AUTO_FREE char *wanted = query_value(q, "max-uploads", &bad);
    if (bad || (wanted && !parse_u64(wanted, 1, INT32_MAX, &max))) {
        s3_error(c, 400, "InvalidArgument", "A parameter of the listing is malformed.");
        return;
    }
    if (delimiter && *delimiter) {
        s3_error(c, 501, "NotImplemented", "Uploads are not listed by common prefixes.");
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
    if (u.n)
        qsort(u.all, u.n, sizeof *u.all, upload_order);
    write_uploads(c, &u, key ? key : "", id ? id : "", MIN(max, (uint64_t)PAGE));
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
