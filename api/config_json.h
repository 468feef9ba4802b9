// SPDX-License-Identifier: Apache-2.0
/*
 * The image configuration of a version, read back from store_version.config
 * (the validated request members as JSON text, written by the operations) with
 * every default filled in. Called by the fleet when it builds or runs, and by
 * the operations for their cross checks.
 */
#ifndef DORMOUSE_API_CONFIG_JSON_H
#define DORMOUSE_API_CONFIG_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

enum image_hook_id {
    IMAGE_HOOK_READY,
    IMAGE_HOOK_VALIDATE,
    IMAGE_HOOK_RUN,
    IMAGE_HOOK_RESUME,
    IMAGE_HOOK_SUSPEND,
    IMAGE_HOOK_TERMINATE,
    IMAGE_HOOKS
};

/* "ready", "validate", …: the last part of the hook's path. */
extern const char *const image_hook_names[IMAGE_HOOKS];

struct image_hook {
    bool enabled;
    uint32_t timeout_s;
};

struct image_env {
    char *key, *value;
};

#define IMAGE_DEFAULT_MEM_MIB   2048u
#define IMAGE_DEFAULT_HOOK_PORT 9000u
#define IMAGE_BASE_CAP          72

struct image_config {
    uint32_t mem_mib; /* baseline: 512 1024 2048 4096 8192 */
    bool caps_all;    /* additionalOsCapabilities has ALL */
    uint16_t hook_port;
    struct image_hook hooks[IMAGE_HOOKS];
    struct image_env *env;
    size_t nenv;
    char *artifact_uri;        /* s3://bucket/key */
    char base[IMAGE_BASE_CAP]; /* name of the managed image: al2023-1 dormouse-debian … */
    char *role_arn;            /* buildRoleArn */
    char *egress;              /* ARN of the build's one egress connector, or NULL */
    bool log_disabled;
    char *log_group, *log_stream; /* NULL: the usual names */
};

/* -EINVAL when the text is no such JSON (a damaged row), -ENOMEM. */
int image_config_parse(const char *config_json, struct image_config *ret, struct err *e);
/* Accepts a zeroed or half filled object; leaves it zeroed. */
void image_config_free(struct image_config *c);

#endif
