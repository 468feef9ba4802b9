// SPDX-License-Identifier: Apache-2.0
/* Settings; see settings.h. */
#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"

#define HOW_TO "make up && . build/run/env"

/* The first of these variables that is set to something. */
static const char *env_first(const char *const *names)
{
    for (; *names; names++) {
        const char *v = getenv(*names);
        if (v && *v)
            return v;
    }
    return NULL;
}

int authority_split(const char *text, char ret_host[256], uint16_t *port, struct err *e)
{
    const char *host = text, *end, *rest;
    uint64_t n;
    if (*text == '[') { /* an IPv6 address */
        host++;
        end = strchr(host, ']');
        rest = end ? end + 1 : NULL;
    } else {
        end = rest = text + strcspn(text, ":");
    }
    if (!end || end == host || end - host > 255)
        return err_set(e, EINVAL, "'%.200s' is not a host name", text);
    for (const char *p = host; p < end; p++) {
        if (*p <= ' ' || *p >= 127 || strchr("/?#@\\", *p))
            return err_set(e, EINVAL, "'%.200s' is not a host name", text);
    }
    if (*rest == ':') {
        if (!parse_u64(rest + 1, 1, 65535, &n))
            return err_set(e, EINVAL, "'%.200s' does not end with a port number", text);
        *port = (uint16_t)n;
    } else if (*rest) {
        return err_set(e, EINVAL, "'%.200s' is not a host name", text);
    }
    memcpy(ret_host, host, (size_t)(end - host));
    ret_host[end - host] = '\0';
    return 0;
}

int settings_url(struct settings *s, const char *url, struct err *e)
{
    static const char scheme[] = "https://";
    char authority[300];
    if (strncasecmp(url, scheme, strlen(scheme)) != 0) {
        err_set(e, EINVAL, "'%.200s' does not begin with https://", url);
        return err_hint(e, "give the address as https://host:port; Dormouse speaks TLS only");
    }
    const char *at = url + strlen(scheme);
    size_t len = strcspn(at, "/?#");
    if (len >= sizeof authority || (at[len] && strcmp(at + len, "/") != 0)) {
        err_set(e, EINVAL, "'%.200s' has more than a host and a port", url);
        return err_hint(e, "give the address as https://host:port");
    }
    memcpy(authority, at, len);
    authority[len] = '\0';
    s->url = url;
    s->port = 443;
    snprintf(s->authority, sizeof s->authority, "%s", authority);
    return authority_split(authority, s->host, &s->port, e);
}

int settings_read(struct settings *s, const char *url, const char *ca, struct err *e)
{
    static const char *const urls[] = {"DORMOUSE_URL", "AWS_ENDPOINT_URL_LAMBDA_MICROVMS",
                                       NULL};
    static const char *const cas[] = {"AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", NULL};
    static const char *const regions[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    static const char *const ids[] = {"AWS_ACCESS_KEY_ID", NULL};
    static const char *const secrets[] = {"AWS_SECRET_ACCESS_KEY", NULL};
    static const char *const sessions[] = {"AWS_SESSION_TOKEN", NULL};
    static const char *const certs[] = {"DORMOUSE_CLIENT_CERT", NULL};
    static const char *const keys[] = {"DORMOUSE_CLIENT_KEY", NULL};
    *s = (struct settings){.client_cert = env_first(certs),
                           .client_key = env_first(keys),
                           .ca = ca ? ca : env_first(cas),
                           .key_id = env_first(ids),
                           .secret = env_first(secrets),
                           .session = env_first(sessions),
                           .region = env_first(regions)};
    if (!url)
        url = env_first(urls);
    if (!url) {
        err_set(e, ENOENT, "it is not known where the host is: DORMOUSE_URL is not set");
        return err_hint(e, HOW_TO "   or give --url https://host:port");
    }
    if (!s->client_cert != !s->client_key) {
        err_set(e, EINVAL, "DORMOUSE_CLIENT_CERT and DORMOUSE_CLIENT_KEY go together");
        return err_hint(e, "set both to PEM files, or neither");
    }
    if (!s->region)
        s->region = "us-east-1";
    return settings_url(s, url, e);
}
