// SPDX-License-Identifier: Apache-2.0
/* Listing buckets and objects, deleting many; see s3_priv.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "s3_priv.h"
#include "s3_xml.h"
#include "urlenc.h"

#define XMLNS        "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""
#define KEYS_MAX     1000u
#define DELETE_MAX   1000u
#define DELETE_BYTES ((size_t)2 << 20)

static bool add_bucket(void *ctx, const char *bucket, double created)
{
    struct buf *xml = ctx;
    char when[32];
    s3_time(created, when);
    buf_str(xml, "<Bucket>");
    xml_element(xml, "Name", bucket);
    xml_element(xml, "CreationDate", when);
    buf_str(xml, "</Bucket>");
    return true;
}

void s3_list_buckets(struct s3_call *c)
{
    AUTO(buf_free) struct buf xml = BUF_INIT;
    struct err e = ERR_INIT;
    buf_str(&xml, "<ListAllMyBucketsResult " XMLNS "><Owner><ID>dormouse</ID><DisplayName>"
                  "dormouse</DisplayName></Owner><Buckets>");
    int r = artifacts_bucket_each(c->s->artifacts, add_bucket, &xml, &e);
    buf_str(&xml, "</Buckets></ListAllMyBucketsResult>");
    if (r < 0)
        s3_fail(c, r, &e);
    else
        s3_answer_xml(c, &xml);
}

/* ---- objects --------------------------------------------------------------------- */

struct listing {
    bool v2, url; /* url: keys are answered percent-encoded */
    const char *prefix, *delimiter;
    const char *skip_prefix; /* a common prefix that earlier pages gave, or "" */
    uint64_t max;
    uint64_t count;
    bool truncated;
    struct buf xml, prefixes;
    char last[ARTIFACT_KEY_MAX + 1];        /* last key or common prefix given */
    char last_prefix[ARTIFACT_KEY_MAX + 1]; /* last common prefix given */
    bool last_is_prefix;
};

static void listing_free(struct listing *l)
{
    buf_free(&l->xml);
    buf_free(&l->prefixes);
}

static void key_element(const struct listing *l, struct buf *b, const char *name,
                        const char *key)
{
    buf_printf(b, "<%s>", name);
    if (l->url)
        url_encode(b, key, strlen(key), true);
    else
        xml_text(b, key);
    buf_printf(b, "</%s>", name);
}

static void add_contents(struct listing *l, const char *key, const struct artifact_info *i)
{
    char when[32];
    s3_time(i->modified, when);
    buf_str(&l->xml, "<Contents>");
    key_element(l, &l->xml, "Key", key);
    buf_printf(&l->xml, "<LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag>", when,
               i->etag);
    buf_printf(&l->xml, "<Size>%llu</Size><StorageClass>STANDARD</StorageClass></Contents>",
               (unsigned long long)i->size);
}

static bool add_object(void *ctx, const char *key, const struct artifact_info *i)
{
    struct listing *l = ctx;
    const char *rest = key + strlen(l->prefix);
    const char *cut = l->delimiter[0] ? strstr(rest, l->delimiter) : NULL;
    char group[ARTIFACT_KEY_MAX + 1] = "";
    if (l->skip_prefix[0] && strncmp(key, l->skip_prefix, strlen(l->skip_prefix)) == 0)
        return true;
    if (cut) {
        size_t len = (size_t)(cut - key) + strlen(l->delimiter);
        memcpy(group, key, len);
        group[len] = '\0';
        if (strcmp(group, l->last_prefix) == 0)
            return true;
    }
    if (l->count == l->max) {
        l->truncated = true;
        return false;
    }
    l->count++;
    if (cut) {
        buf_str(&l->prefixes, "<CommonPrefixes>");
        key_element(l, &l->prefixes, "Prefix", group);
        buf_str(&l->prefixes, "</CommonPrefixes>");
        memcpy(l->last_prefix, group, sizeof group);
    } else {
        add_contents(l, key, i);
    }
    l->last_is_prefix = cut != NULL;
    snprintf(l->last, sizeof l->last, "%s", cut ? group : key);
    return true;
}

/* A token is base64url of "k<last key>" or "p<last common prefix>". */
static void token_text(const struct listing *l, struct buf *b)
{
    char plain[ARTIFACT_KEY_MAX + 2], text[4 * ((sizeof plain + 2) / 3) + 1];
    snprintf(plain, sizeof plain, "%c%s", l->last_is_prefix ? 'p' : 'k', l->last);
    base64url_encode((uint8_t *)plain, strlen(plain), text);
    buf_str(b, text);
}

static bool token_read(const char *text, char ret[ARTIFACT_KEY_MAX + 2])
{
    size_t len;
    if (!base64url_decode(text, strlen(text), (uint8_t *)ret, ARTIFACT_KEY_MAX + 1, &len))
        return false;
    ret[len] = '\0';
    return strlen(ret) == len && (ret[0] == 'k' || ret[0] == 'p');
}

static void list_result(struct s3_call *c, struct listing *l, const char *start)
{
    AUTO(buf_free) struct buf xml = BUF_INIT;
    buf_str(&xml, "<ListBucketResult " XMLNS ">");
    xml_element(&xml, "Name", c->bucket);
    key_element(l, &xml, "Prefix", l->prefix);
    buf_printf(&xml, "<MaxKeys>%llu</MaxKeys>", (unsigned long long)l->max);
    if (l->delimiter[0])
        key_element(l, &xml, "Delimiter", l->delimiter);
    if (l->url)
        buf_str(&xml, "<EncodingType>url</EncodingType>");
    if (l->v2) {
        buf_printf(&xml, "<KeyCount>%llu</KeyCount>", (unsigned long long)l->count);
        if (start)
            key_element(l, &xml, "StartAfter", start);
    } else {
        key_element(l, &xml, "Marker", start ? start : "");
    }
    xml_element(&xml, "IsTruncated", l->truncated ? "true" : "false");
    if (l->truncated && l->v2) {
        buf_str(&xml, "<NextContinuationToken>");
        token_text(l, &xml);
        buf_str(&xml, "</NextContinuationToken>");
    } else if (l->truncated) {
        key_element(l, &xml, "NextMarker", l->last);
    }
    buf_add(&xml, l->xml.data, l->xml.len);
    buf_add(&xml, l->prefixes.data, l->prefixes.len);
    buf_str(&xml, "</ListBucketResult>");
    xml.bad = xml.bad || l->xml.bad || l->prefixes.bad;
    s3_answer_xml(c, &xml);
}

void s3_list_objects(struct s3_call *c, bool v2)
{
    AUTO(listing_free) struct listing l = {.v2 = v2, .max = KEYS_MAX, .skip_prefix = ""};
    const char *q = c->req->query;
    char token[ARTIFACT_KEY_MAX + 2];
    bool bad = false;
    AUTO_FREE char *prefix = query_value(q, "prefix", &bad);
    AUTO_FREE char *delimiter = query_value(q, "delimiter", &bad);
    AUTO_FREE char *start = query_value(q, v2 ? "start-after" : "marker", &bad);
    AUTO_FREE char *more = query_value(q, "continuation-token", &bad);
    AUTO_FREE char *max = query_value(q, "max-keys", &bad);
    AUTO_FREE char *encoding = query_value(q, "encoding-type", &bad);
    struct err e = ERR_INIT;
    uint64_t wanted = KEYS_MAX;
    if (bad || (max && !parse_u64(max, 0, INT32_MAX, &wanted)) ||
        (v2 && more && !token_read(more, token))) {
        s3_error(c, 400, "InvalidArgument", "A parameter of the listing is malformed.");
        return;
    }
    const char *after = start ? start : "";
    if (v2 && more) {
        after = token + 1;
        l.skip_prefix = token[0] == 'p' ? token + 1 : "";
    } else if (!v2 && start && delimiter && delimiter[0] &&
               strlen(start) >= strlen(delimiter) &&
               strcmp(start + strlen(start) - strlen(delimiter), delimiter) == 0) {
        l.skip_prefix = start;
    }
    l.prefix = prefix ? prefix : "";
    l.delimiter = delimiter ? delimiter : "";
    l.url = encoding && strcmp(encoding, "url") == 0;
    l.max = MIN(wanted, (uint64_t)KEYS_MAX);
    int r = l.max == 0 ? 0
                       : artifacts_list(c->s->artifacts, c->bucket, l.prefix, after, add_object,
                                        &l, &e);
    if (r < 0)
        s3_fail(c, r, &e);
    else
        list_result(c, &l, start);
}

/* ---- delete many ------------------------------------------------------------------- */

struct deleting {
    struct s3_call *c;
    struct buf xml;
    char key[ARTIFACT_KEY_MAX + 1];
    bool quiet;
    unsigned count;
};

static void delete_one(struct deleting *d)
{
    struct err e = ERR_INIT;
    int r = artifacts_delete(d->c->s->artifacts, d->c->bucket, d->key, &e);
    if (r == 0 || r == -ENOENT) {
        if (!d->quiet) {
            buf_str(&d->xml, "<Deleted>");
            xml_element(&d->xml, "Key", d->key);
            buf_str(&d->xml, "</Deleted>");
        }
        return;
    }
    buf_str(&d->xml, "<Error>");
    xml_element(&d->xml, "Key", d->key);
    xml_element(&d->xml, "Code", "InternalError");
    xml_element(&d->xml, "Message", e.msg);
    buf_str(&d->xml, "</Error>");
}

static bool on_quiet(void *ctx, const char *path, const char *value)
{
    struct deleting *d = ctx;
    if (strcmp(path, "Delete/Quiet") == 0)
        d->quiet = strcmp(value, "true") == 0;
    else if (strcmp(path, "Delete/Object") == 0)
        d->count++;
    else if (strcmp(path, "Delete/Object/Key") == 0 && strlen(value) > ARTIFACT_KEY_MAX)
        return false;
    return d->count <= DELETE_MAX;
}

static bool on_delete(void *ctx, const char *path, const char *value)
{
    struct deleting *d = ctx;
    if (strcmp(path, "Delete/Object/Key") == 0) {
        snprintf(d->key, sizeof d->key, "%s", value);
    } else if (strcmp(path, "Delete/Object") == 0) {
        delete_one(d);
        d->key[0] = '\0';
    }
    return true;
}

void s3_delete_many(struct s3_call *c)
{
    AUTO(buf_free) struct buf body = BUF_INIT;
    struct deleting d = {.c = c};
    struct err e = ERR_INIT;
    int r = artifacts_bucket_check(c->s->artifacts, c->bucket, &e);
    if (r == 0)
        r = s3_body_all(c, DELETE_BYTES, &body, &e);
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    /* Read twice: nothing is deleted for a body that is malformed further down. */
    const char *text = body.data ? (const char *)body.data : "";
    if (!xml_read(text, body.len, on_quiet, &d) || d.count == 0) {
        s3_error(c, 400, "MalformedXML",
                 "The XML you provided was not well-formed or did not validate against our "
                 "published schema");
        return;
    }
    buf_str(&d.xml, "<DeleteResult " XMLNS ">");
    xml_read(text, body.len, on_delete, &d);
    buf_str(&d.xml, "</DeleteResult>");
    s3_answer_xml(c, &d.xml);
    buf_free(&d.xml);
}
