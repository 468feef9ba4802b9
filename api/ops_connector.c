// SPDX-License-Identifier: Apache-2.0
/*
 * Network connectors: the managed ones by name, in requests and in their own
 * neighbour API (PascalCase, ISO times). Connectors of one's own are not
 * offered, and creating one says so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "op.h"

#define CREATED_ISO "2026-11-20T00:00:00.000+0000"
#define MANAGED     "aws-network-connector"

struct connector {
    const char *name;
    bool ingress;
};

static const struct connector connectors[] = {
#define MANAGED_IMAGE(name, created, updated)
#define MANAGED_CONNECTOR(name, ingress) {name, ingress},
#include "managed.def"
#undef MANAGED_IMAGE
#undef MANAGED_CONNECTOR
};

static void connector_arn(const struct op *o, const char *name, char ret[ARN_CAP])
{
    snprintf(ret, ARN_CAP, "arn:aws:lambda:%s:aws:network-connector:" MANAGED ":%s",
             o->api->region, name);
}

/* The connector of a well-formed ARN, or NULL. */
static const struct connector *connector_find(const struct op *o, const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(connectors); i++) {
        char arn[ARN_CAP];
        connector_arn(o, connectors[i].name, arn);
        if (strcmp(arn, text) == 0)
            return &connectors[i];
    }
    return NULL;
}

static int connector_check(struct op *o, const char *text, bool ingress)
{
    struct arn a;
    if (arn_parse(text, &a) != ARN_OK || !slice_is(a.kind, "network-connector") ||
        a.sep != ':' || a.name.n == 0)
        return op_fail(o, TEXT_BAD_CONNECTOR);
    const struct connector *c = connector_find(o, text);
    if (!c)
        return op_fail_about(o, "network-connector", text, TEXT_NO_CONNECTOR, text);
    if (c->ingress != ingress)
        return op_fail(o, TEXT_WRONG_CONNECTOR, text, ingress ? "ingress" : "egress");
    return 0;
}

int connectors_read(struct op *o, const char *member, bool ingress, char **ret)
{
    const json_t *list = json_object_get(o->in, member);
    struct buf b = BUF_INIT;
    struct jsonw w;
    jsonw_init(&w, &b);
    jsonw_open(&w, '[');
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (connector_check(o, text, ingress) < 0) {
            buf_free(&b);
            return -1;
        }
        jsonw_str(&w, text);
    }
    if (json_array_size(list) == 0) {
        char arn[ARN_CAP];
        connector_arn(o, ingress ? "HTTP_INGRESS" : "INTERNET_EGRESS", arn);
        jsonw_str(&w, arn);
    }
    jsonw_close(&w, ']');
    *ret = buf_cstr(&b);
    if (*ret)
        return 0;
    buf_free(&b);
    return op_fail(o, TEXT_INTERNAL);
}

int ingress_read(const char *json, struct ingress *ret)
{
    *ret = (struct ingress){.http = false};
    json_t *list = json_loads(json ? json : "[]", 0, NULL);
    if (!list)
        return -EINVAL;
    bool none = false, all = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        const char *name = text ? strrchr(text, ':') : NULL;
        if (!name)
            continue;
        ret->http |= strcmp(name, ":HTTP_INGRESS") == 0;
        ret->shell |= strcmp(name, ":SHELL_INGRESS") == 0;
        all |= strcmp(name, ":ALL_INGRESS") == 0;
        none |= strcmp(name, ":NO_INGRESS") == 0;
    }
    ret->all_and_more = all && json_array_size(list) > 1;
    ret->http = (ret->http || all) && !none;
    ret->shell = (ret->shell || all) && !none;
    json_decref(list);
    return 0;
}

/* ---- the neighbour API --------------------------------------------------- */

static void write_connector(struct op *o, const struct connector *c)
{
    char arn[ARN_CAP];
    connector_arn(o, c->name, arn);
    jsonw_open(&o->w, '{');
    jsonw_kstr(&o->w, "Arn", arn);
    jsonw_kstr(&o->w, "Name", c->name);
    jsonw_kstr(&o->w, "Id", c->name);
    jsonw_kstr(&o->w, "Type", "MANAGED"); /* one's own would be VPC_EGRESS */
    jsonw_ku64(&o->w, "Version", 1);
    jsonw_ku64(&o->w, "LatestVersion", 1);
    jsonw_kstr(&o->w, "State", "ACTIVE");
    jsonw_kstr(&o->w, "LastModified", CREATED_ISO);
    jsonw_close(&o->w, '}');
}

int op_ListNetworkConnectors(struct op *o)
{
    const char *state = op_str(o, "State"), *marker = op_str(o, "Marker");
    const json_t *max = json_object_get(o->in, "MaxItems");
    uint64_t start = 0, room = max ? (uint64_t)json_integer_value(max) : 50;
    if (marker && *marker && !parse_u64(marker, 1, ARRAY_LEN(connectors), &start))
        return op_fail(o, TEXT_INVALID, "The Marker is not one that this request has returned");
    if (state && strcmp(state, "ACTIVE") != 0)
        start = ARRAY_LEN(connectors);
    jsonw_open(&o->w, '{');
    jsonw_kopen(&o->w, "NetworkConnectors", '[');
    uint64_t i = start;
    for (; i < ARRAY_LEN(connectors) && i - start < room; i++)
        write_connector(o, &connectors[i]);
    jsonw_close(&o->w, ']');
    if (i < ARRAY_LEN(connectors)) {
        char next[24];
        snprintf(next, sizeof next, "%llu", (unsigned long long)i);
        jsonw_kstr(&o->w, "NextMarker", next);
    }
    jsonw_close(&o->w, '}');
    return 0;
}

int op_GetNetworkConnector(struct op *o)
{
    const char *id = op_str(o, "Identifier");
    const struct connector *c = connector_find(o, id);
    for (size_t i = 0; i < ARRAY_LEN(connectors) && !c; i++)
        if (strcmp(connectors[i].name, id) == 0)
            c = &connectors[i];
    if (!c)
        return op_fail(o, TEXT_NO_CONNECTOR, id);
    write_connector(o, c);
    return 0;
}

int op_CreateNetworkConnector(struct op *o)
{
    return op_fail(o, TEXT_CONNECTORS_NOT_OFFERED);
}

int op_UpdateNetworkConnector(struct op *o)
{
    return op_fail(o, TEXT_CONNECTORS_NOT_OFFERED);
}

int op_DeleteNetworkConnector(struct op *o)
{
    return op_fail(o, TEXT_CONNECTORS_NOT_OFFERED);
}
