// SPDX-License-Identifier: Apache-2.0
/* See upstream.h. */
#include "upstream.h"

#include <errno.h>
#include <string.h>

#define DNS_HEAD   12u
#define WAIT_S     30u
#define WAIT_S_MAX 3600u
#define TYPE_A     1u
#define LABEL_MAX  63u
#define POINTER    0xc0u
#define SHAPE      "must be tcp:HOST:PORT[,listen=PORT][,wait=SECONDS][,oneway]"

/* A number that ends at `end`. */
static bool number(const char *at, const char *end, uint32_t max, uint32_t *ret)
{
    uint32_t v = 0;
    if (at == end)
        return false;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        v = v * 10 + (uint32_t)(*at - '0');
        if (v > max)
            return false;
    }
    *ret = v;
    return v > 0;
}

static bool take_name(const char *text, size_t len, char *ret, size_t size)
{
    if (len == 0 || len >= size)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!letter && !(c >= '0' && c <= '9') && c != '_')
            return false;
        ret[i] = letter ? (char)(c | 0x20) : c;
    }
    ret[len] = '\0';
    return true;
}

static bool take_option(const char *at, size_t len, struct upstream_spec *ret)
{
    uint32_t v;
    if (len == 6 && memcmp(at, "oneway", 6) == 0)
        return ret->oneway = true;
    if (len > 7 && memcmp(at, "listen=", 7) == 0 && number(at + 7, at + len, 65535, &v)) {
        ret->listen = (uint16_t)v;
        return true;
    }
    return len > 5 && memcmp(at, "wait=", 5) == 0 &&
           number(at + 5, at + len, WAIT_S_MAX, &ret->wait_s);
}

static bool take_target(const char *at, struct upstream_spec *ret)
{
    uint32_t port;
    if (strncmp(at, "tcp:", 4) != 0)
        return false;
    at += 4;
    size_t len = strcspn(at, ",:");
    if (len == 0 || len >= sizeof(ret->host) || at[len] != ':')
        return false;
    memcpy(ret->host, at, len);
    at += len + 1;
    len = strcspn(at, ",");
    if (!number(at, at + len, 65535, &port))
        return false;
    ret->port = (uint16_t)port;
    for (at += len; *at == ','; at += len) {
        len = strcspn(++at, ",");
        if (!take_option(at, len, ret))
            return false;
    }
    return true;
}

int upstream_parse(const char *text, struct upstream_spec *ret, struct fail *f)
{
    size_t len = strcspn(text, "=");
    *ret = (struct upstream_spec){.wait_s = WAIT_S};
    if (!take_name(text, len, ret->name, sizeof(ret->name)))
        return fail_set(f, EINVAL,
                        UPSTREAM_PREFIX "%.*s: the name must be 1 to %zu letters, digits or _",
                        (int)(len < 64 ? len : 64), text, sizeof(ret->name) - 1);
    uint8_t ip[4], ask[DNS_MSG_MAX];
    if (text[len] != '=' || !take_target(text + len + 1, ret) ||
        (!ipv4_parse(ret->host, ip) && dns_ask(ask, ret->host, 0) == 0))
        return fail_set(f, EINVAL, UPSTREAM_PREFIX "%.*s " SHAPE, (int)len, text);
    return 0;
}

bool ipv4_parse(const char *text, uint8_t ret[4])
{
    for (int i = 0; i < 4; i++) {
        uint32_t v = 0;
        size_t len = strcspn(text, ".");
        if (len > 3 || text[len] != (i < 3 ? '.' : '\0') ||
            (!number(text, text + len, 255, &v) && (len != 1 || *text != '0')))
            return false;
        ret[i] = (uint8_t)v;
        text += len + 1;
    }
    return true;
}

/* ---- name servers ---- */

size_t dns_ask(uint8_t *buf, const char *host, uint16_t id)
{
    static const uint8_t tail[] = {0, 0, TYPE_A, 0, 1};
    const uint8_t head[DNS_HEAD] = {(uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1};
    size_t at = DNS_HEAD;
    memcpy(buf, head, sizeof(head));
    while (*host) {
        size_t len = strcspn(host, ".");
        if (len == 0 || len > LABEL_MAX || at + len + 1 + sizeof(tail) > DNS_MSG_MAX)
            return 0;
        buf[at++] = (uint8_t)len;
        memcpy(buf + at, host, len);
        at += len;
        host += len + (host[len] == '.');
    }
    memcpy(buf + at, tail, sizeof(tail));
    return at == DNS_HEAD ? 0 : at + sizeof(tail);
}

/* The place after a name, 0 when it leaves the message. */
static size_t skip_name(const uint8_t *p, size_t len, size_t at)
{
    while (at < len) {
        if ((p[at] & POINTER) == POINTER)
            return at + 2;
        if (p[at] == 0)
            return at + 1;
        at += 1u + p[at];
    }
    return 0;
}

static uint32_t two(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

int dns_answer(const uint8_t *p, size_t len, uint16_t id, uint8_t ret[4])
{
    if (len < DNS_HEAD || two(p) != id || !(p[2] & 0x80) || two(p + 4) != 1)
        return -EBADMSG;
    size_t at = skip_name(p, len, DNS_HEAD);
    if (at == 0)
        return -EBADMSG;
    at += 4; /* type and class of the question */
    for (uint32_t n = two(p + 6); n > 0; n--) {
        at = skip_name(p, len, at);
        if (at == 0 || at + 10 > len)
            return -EBADMSG;
        uint32_t type = two(p + at), size = two(p + at + 8);
        at += 10;
        if (size > len - at)
            return -EBADMSG;
        if (type == TYPE_A && size == 4) {
            memcpy(ret, p + at, 4);
            return 0;
        }
        at += size;
    }
    return -ENOENT;
}
