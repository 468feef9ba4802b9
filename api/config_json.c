// SPDX-License-Identifier: Apache-2.0
/*
 * Reading a version's configuration back; see config_json.h. The text was
 * validated before it was stored, yet nothing here relies on that but for
 * which values are sensible.
 */
#include "config_json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "arn.h"

const char *const image_hook_names[IMAGE_HOOKS] = {
    [IMAGE_HOOK_READY] = "ready",     [IMAGE_HOOK_VALIDATE] = "validate",
    [IMAGE_HOOK_RUN] = "run",         [IMAGE_HOOK_RESUME] = "resume",
    [IMAGE_HOOK_SUSPEND] = "suspend", [IMAGE_HOOK_TERMINATE] = "terminate",
};

/* Generous: the service's own defaults of 1 s are a common complaint. */
static const uint32_t default_timeouts[IMAGE_HOOKS] = {60, 30, 10, 10, 10, 10};

static const json_t *at(const json_t *v, const char *key)
{
    return json_object_get(v, key);
}

static uint32_t number(const json_t *v, uint32_t min, uint32_t max, uint32_t otherwise)
{
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    return n >= min && n <= max ? (uint32_t)n : otherwise;
}

/* NULL stays NULL; false when out of memory. */
static bool dup_text(const json_t *v, char **ret)
{
    const char *s = json_string_value(v);
    *ret = s ? strdup(s) : NULL;
    return !s || *ret;
}

static void read_hooks(const json_t *hooks, struct image_config *ret)
{
    ret->hook_port = (uint16_t)number(at(hooks, "port"), 1, 65535, IMAGE_DEFAULT_HOOK_PORT);
    for (size_t i = 0; i < IMAGE_HOOKS; i++) {
        const json_t *group =
            at(hooks, i <= IMAGE_HOOK_VALIDATE ? "microvmImageHooks" : "microvmHooks");
        char key[40];
        snprintf(key, sizeof key, "%sTimeoutInSeconds", image_hook_names[i]);
        const char *state = json_string_value(at(group, image_hook_names[i]));
        ret->hooks[i].enabled = state && strcmp(state, "ENABLED") == 0;
        ret->hooks[i].timeout_s = number(at(group, key), 1, 3600, default_timeouts[i]);
    }
}

static int read_env(const json_t *env, struct image_config *ret)
{
    size_t n = json_object_size(env);
    if (n == 0)
        return 0;
    ret->env = calloc(n, sizeof *ret->env);
    if (!ret->env)
        return -ENOMEM;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)env, key, value)
    {
        const char *text = json_string_value(value);
        struct image_env *slot = &ret->env[ret->nenv++];
        slot->key = strdup(key);
        slot->value = strdup(text ? text : "");
        if (!slot->key || !slot->value)
            return -ENOMEM;
    }
    return 0;
}

static int read_config(const json_t *v, struct image_config *ret)
{
    const char *uri = json_string_value(at(at(v, "codeArtifact"), "uri"));
    const char *base = json_string_value(at(v, "baseImageArn"));
    struct arn arn;
    if (!uri || !base || arn_parse(base, &arn) != ARN_OK ||
        !slice_copy(arn.name, ret->base, sizeof ret->base))
        return -EINVAL;
    ret->mem_mib = number(at(json_array_get(at(v, "resources"), 0), "minimumMemoryInMiB"), 0,
                          UINT32_MAX, IMAGE_DEFAULT_MEM_MIB);
    const json_t *caps = at(v, "additionalOsCapabilities");
    for (size_t i = 0; i < json_array_size(caps); i++) {
        const char *cap = json_string_value(json_array_get(caps, i));
        ret->caps_all |= cap && strcmp(cap, "ALL") == 0;
    }
    read_hooks(at(v, "hooks"), ret);
    const json_t *watch = at(at(v, "logging"), "cloudWatch");
    ret->log_disabled = at(at(v, "logging"), "disabled") != NULL;
    if (!dup_text(json_array_get(at(v, "egressNetworkConnectors"), 0), &ret->egress) ||
        !dup_text(at(v, "buildRoleArn"), &ret->role_arn) ||
        !dup_text(at(watch, "logGroup"), &ret->log_group) ||
        !dup_text(at(watch, "logStream"), &ret->log_stream) ||
        !(ret->artifact_uri = strdup(uri)))
        return -ENOMEM;
    return read_env(at(v, "environmentVariables"), ret);
}

int image_config_parse(const char *config_json, struct image_config *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    json_t *v = json_loads(config_json, 0, NULL);
    int r = v ? read_config(v, ret) : -EINVAL;
    json_decref(v);
    if (r == 0)
        return 0;
    image_config_free(ret);
    if (r == -ENOMEM)
        return err_set(e, ENOMEM, "read an image configuration: out of memory");
    return err_set(e, EINVAL, "the stored image configuration is damaged");
}

void image_config_free(struct image_config *c)
{
    for (size_t i = 0; i < c->nenv; i++) {
        free(c->env[i].key);
        free(c->env[i].value);
    }
    free(c->env);
    free(c->artifact_uri);
    free(c->role_arn);
    free(c->egress);
    free(c->log_group);
    free(c->log_stream);
    memset(c, 0, sizeof *c);
}
