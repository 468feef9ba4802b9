// SPDX-License-Identifier: Apache-2.0
/* ListManagedMicrovmImages and ListManagedMicrovmImageVersions, from managed.def. */
#include <stdio.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "op.h"

struct managed {
    const char *name;
    uint64_t created, updated;
};

static const struct managed managed_images[] = {
#define MANAGED_IMAGE(name, created, updated) {name, created, updated},
#define MANAGED_CONNECTOR(name, ingress)
#include "managed.def"
#undef MANAGED_IMAGE
#undef MANAGED_CONNECTOR
};

static void managed_arn(const struct op *o, const char *name, char ret[ARN_CAP])
{
    snprintf(ret, ARN_CAP, "arn:aws:lambda:%s:aws:microvm-image:%s", o->api->region, name);
}

int op_ListManagedMicrovmImages(struct op *o)
{
    struct op_page p;
    uint64_t start = 0;
    if (op_page_begin(o, &p, "") < 0)
        return -1;
    if (p.start[0] && !parse_u64(p.start, 0, ARRAY_LEN(managed_images), &start))
        return op_fail(o, TEXT_BAD_PAGE_TOKEN);
    for (uint64_t i = start; i < ARRAY_LEN(managed_images); i++) {
        char position[24], arn[ARN_CAP];
        snprintf(position, sizeof position, "%llu", (unsigned long long)(i + 1));
        if (!op_page_next(&p, position))
            break;
        managed_arn(o, managed_images[i].name, arn);
        jsonw_open(&o->w, '{');
        jsonw_kstr(&o->w, "imageArn", arn);
        jsonw_ku64(&o->w, "createdAt", managed_images[i].created);
        jsonw_ku64(&o->w, "updatedAt", managed_images[i].updated);
        jsonw_close(&o->w, '}');
    }
    return op_page_end(&p);
}

int op_ListManagedMicrovmImageVersions(struct op *o)
{
    const char *arn = op_str(o, "imageIdentifier");
    const char *name = op_managed_image(o, arn);
    struct arn a;
    struct op_page p;
    if (arn_parse(arn, &a) != ARN_OK)
        return op_fail(o, TEXT_INVALID_ARN, arn);
    if (!name)
        return op_fail_about(o, "microvm-image", arn, TEXT_MANAGED_NOT_FOUND, arn);
    if (op_page_begin(o, &p, name) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(managed_images); i++) {
        if (!slice_is(a.name, managed_images[i].name))
            continue;
        if (!op_page_next(&p, "1"))
            break;
        jsonw_open(&o->w, '{');
        jsonw_kstr(&o->w, "imageArn", arn);
        jsonw_kstr(&o->w, "imageVersion", "1"); /* bare here, "1.0" where it is echoed */
        jsonw_kstr(&o->w, "status", "AVAILABLE");
        jsonw_key(&o->w, "supportedCpuConfigurations");
        jsonw_raw(&o->w, "[{\"architecture\":\"ARM_64\"}]");
        jsonw_ku64(&o->w, "createdAt", managed_images[i].created);
        jsonw_ku64(&o->w, "updatedAt", managed_images[i].updated);
        jsonw_close(&o->w, '}');
    }
    return op_page_end(&p);
}
