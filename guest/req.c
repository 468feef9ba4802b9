// SPDX-License-Identifier: Apache-2.0
/* See req.h. */
#include "req.h"

#include <errno.h>
#include <string.h>

bool req_find(const struct req *r, uint16_t tag, const uint8_t **data, size_t *len)
{
    struct tlv_reader t = tlv_reader_init(r->body, r->len);
    uint16_t got;
    const uint8_t *d;
    size_t n;
    while (tlv_next(&t, &got, &d, &n)) {
        if (got == tag) {
            *data = d;
            *len = n;
            return true;
        }
    }
    return false;
}

bool req_has(const struct req *r, uint16_t tag)
{
    const uint8_t *d;
    size_t n;
    return req_find(r, tag, &d, &n);
}

bool req_u32(const struct req *r, uint16_t tag, uint32_t def, uint32_t *ret)
{
    const uint8_t *d;
    size_t n;
    *ret = def;
    return !req_find(r, tag, &d, &n) || tlv_get_u32(d, n, ret);
}

bool req_u64(const struct req *r, uint16_t tag, uint64_t def, uint64_t *ret)
{
    const uint8_t *d;
    size_t n;
    *ret = def;
    return !req_find(r, tag, &d, &n) || tlv_get_u64(d, n, ret);
}

bool req_str(const struct req *r, uint16_t tag, char *buf, size_t size)
{
    const uint8_t *d;
    size_t n;
    buf[0] = '\0';
    return !req_find(r, tag, &d, &n) || tlv_get_str(d, n, buf, size);
}

char **req_list(const struct req *r, uint16_t tag, size_t max, size_t *count, struct fail *f)
{
    struct tlv_reader t = tlv_reader_init(r->body, r->len);
    uint16_t got;
    const uint8_t *d;
    size_t n, items = 0, bytes = 0;
    while (tlv_next(&t, &got, &d, &n)) {
        if (got == tag) {
            items++;
            bytes += n + 1;
        }
    }
    if (items > max) {
        fail_set(f, E2BIG, "the request lists %zu items where at most %zu fit", items, max);
        return NULL;
    }
    char **list = malloc((items + 1) * sizeof(char *) + bytes);
    if (!list) {
        fail_set(f, ENOMEM, "out of memory for the request's lists");
        return NULL;
    }
    char *text = (char *)(list + items + 1);
    size_t i = 0;
    t = tlv_reader_init(r->body, r->len);
    while (tlv_next(&t, &got, &d, &n)) {
        if (got != tag)
            continue;
        if (!tlv_get_str(d, n, text, n + 1)) {
            fail_set(f, EINVAL, "the request has a NUL byte inside a text");
            free(list);
            return NULL;
        }
        list[i++] = text;
        text += n + 1;
    }
    list[i] = NULL;
    if (count)
        *count = items;
    return list;
}

void reply_init(struct reply *rp, const struct fail *f)
{
    rp->w = tlv_writer_init(rp->buf, sizeof(rp->buf));
    tlv_put_u32(&rp->w, GP_T_ERRNO, f ? (uint32_t)f->num : 0);
    if (f && f->num)
        tlv_put_str(&rp->w, GP_T_TEXT, f->text);
}
