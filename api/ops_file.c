// SPDX-License-Identifier: Apache-2.0
/*
 * Files inside a microVM, as its application sees them: read and written in
 * pieces, so that neither side holds a whole file, and listed. Names and
 * content come from the guest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "guest_talk.h"

#define TALK_S      60u
#define PIECE       (4u << 20) /* bytes of an answer at most */
#define WRITE_STEP  32768u
#define ENTRIES_MAX 10000u

static uint64_t offset_of(const struct op *o)
{
    const json_t *v = json_object_get(o->in, "offset");
    return json_is_integer(v) ? (uint64_t)json_integer_value(v) : 0;
}

static void number_header(struct op *o, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    http_res_header(o->res, name, text);
}

/* One message of an answer in pieces. */
struct piece {
    struct gp_reply reply;
    bool last, end; /* no more messages; the file's end */
    uint64_t size;
};

static int next_piece(struct talk *t, struct piece *p, const uint8_t **ret_body,
                      size_t *ret_len)
{
    struct gp_header h;
    const uint8_t *body, *d;
    uint16_t tag;
    size_t n;
    uint32_t end;
    int r = talk_next(t, &h, &body);
    if (r < 0)
        return r;
    if (h.type != GP_REPLY || !tlv_valid(body, h.len) ||
        !gp_reply_parse(body, h.len, &p->reply))
        return -EBADMSG;
    struct tlv_reader reader = tlv_reader_init(body, h.len);
    while (tlv_next(&reader, &tag, &d, &n)) {
        if (tag == GP_T_EOF) {
            p->last = true;
            p->end = tlv_get_u32(d, n, &end) && end;
        } else if (tag == GP_T_SIZE) {
            tlv_get_u64(d, n, &p->size);
        }
    }
    p->last |= p->reply.num != 0;
    *ret_body = body;
    *ret_len = h.len;
    return 0;
}

static int send_request(struct talk *t, uint16_t type, const struct tlv_writer *w)
{
    return w->bad ? -EBADMSG : glink_send(&t->link, type, 1, w->p, w->len, t->deadline);
}

/* ---- read ---------------------------------------------------------------- */

static int take_data(struct op *o, struct talk *t, uint64_t limit, struct piece *p)
{
    while (!p->last) {
        const uint8_t *body, *d;
        uint16_t tag;
        size_t len, n;
        int r = next_piece(t, p, &body, &len);
        if (r < 0)
            return r;
        struct tlv_reader reader = tlv_reader_init(body, len);
        while (tlv_next(&reader, &tag, &d, &n)) {
            if (tag != GP_T_DATA)
                continue;
            if (n > limit - o->res->body.len)
                return -EBADMSG; /* more than was asked for */
            buf_add(&o->res->body, d, n);
        }
    }
    return 0;
}

int op_ReadFile(struct op *o)
{
    AUTO(talk_close) struct talk t = TALK_INIT;
    struct piece p = {.last = false};
    const json_t *wanted = json_object_get(o->in, "limit");
    uint64_t limit = json_is_integer(wanted) ? (uint64_t)json_integer_value(wanted) : PIECE;
    uint8_t space[8192];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_str(&w, GP_T_PATH, op_str(o, "path"));
    tlv_put_u64(&w, GP_T_OFFSET, offset_of(o));
    tlv_put_u64(&w, GP_T_LIMIT, limit);
    if (talk_open(o, &t, TALK_S) < 0)
        return -1;
    int r = send_request(&t, GP_FILE_READ, &w);
    if (r == 0)
        r = take_data(o, &t, limit, &p);
    if (r < 0)
        return talk_failed(o, &t, r);
    if (p.reply.num)
        return talk_refused(o, &p.reply);
    o->res->content_type = "application/octet-stream";
    number_header(o, "x-dormouse-next-offset", offset_of(o) + o->res->body.len);
    number_header(o, "x-dormouse-file-size", p.size);
    http_res_header(o->res, "x-dormouse-end-of-file",
                    p.end || offset_of(o) + o->res->body.len >= p.size ? "true" : "false");
    http_res_header(o->res, "X-Content-Type-Options", "nosniff");
    return 0;
}

/* ---- write --------------------------------------------------------------- */

/* Octal, as chmod takes it. */
static bool read_mode(const char *text, uint32_t *ret)
{
    char *end;
    unsigned long n = strtoul(text, &end, 8);
    *ret = (uint32_t)n;
    return text[0] >= '0' && text[0] <= '7' && *end == '\0' && n <= 07777;
}

static int send_data(struct talk *t, const uint8_t *p, size_t len)
{
    uint8_t space[WRITE_STEP + 64];
    int r = 0;
    for (bool last = false; r == 0 && !last;) {
        size_t n = MIN(len, WRITE_STEP);
        struct tlv_writer w = tlv_writer_init(space, sizeof space);
        tlv_put_bytes(&w, GP_T_DATA, p, n);
        last = n == 0; /* an empty one ends the data */
        r = send_request(t, GP_STDIN, &w);
        p += n;
        len -= n;
    }
    return r;
}

int op_WriteFile(struct op *o)
{
    AUTO(talk_close) struct talk t = TALK_INIT;
    struct piece p = {.last = false};
    const char *mode = op_str(o, "mode"), *user = op_str(o, "user");
    const uint8_t *body;
    size_t len;
    uint32_t bits = 0;
    uint64_t offset = offset_of(o);
    uint8_t space[8192];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    if (o->body_len > PIECE)
        return op_fail(o, TEXT_PIECE_TOO_LARGE, PIECE);
    if (mode && !read_mode(mode, &bits))
        return op_fail(o, TEXT_BAD_MODE);
    tlv_put_str(&w, GP_T_PATH, op_str(o, "path"));
    if (mode)
        tlv_put_u32(&w, GP_T_MODE, bits);
    if (user)
        tlv_put_str(&w, GP_T_USER, user);
    if (offset)
        tlv_put_u64(&w, GP_T_OFFSET, offset);
    if (talk_open(o, &t, TALK_S) < 0)
        return -1;
    int r = send_request(&t, GP_FILE_WRITE, &w);
    if (r == 0)
        r = send_data(&t, o->body ? o->body : (const uint8_t *)"", o->body_len);
    /* A refusal may come while we still send; what it says is what counts. */
    int got = next_piece(&t, &p, &body, &len);
    if (got < 0)
        return talk_failed(o, &t, r < 0 ? r : got);
    if (p.reply.num)
        return talk_refused(o, &p.reply);
    if (offset && p.size != offset + o->body_len) /* its init does not know offsets */
        return op_fail(o, TEXT_INIT_TOO_OLD);
    jsonw_open(&o->w, '{');
    jsonw_ku64(&o->w, "nextOffset", offset + o->body_len);
    jsonw_close(&o->w, '}');
    return 0;
}

/* ---- list ---------------------------------------------------------------- */

/* "type mode size mtime name" as init writes it. */
static bool write_entry(struct jsonw *w, const uint8_t *d, size_t n)
{
    static const struct {
        char letter;
        const char *name;
    } kinds[] = {{'f', "file"}, {'d', "directory"}, {'l', "link"}, {'o', "other"}};
    char text[512], type;
    unsigned mode;
    unsigned long long size;
    long long time;
    int name = 0;
    const char *kind = "other";
    if (!tlv_get_str(d, n, text, sizeof text) ||
        sscanf(text, "%c %o %llu %lld %n", &type, &mode, &size, &time, &name) != 4 || !name)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        kind = kinds[i].letter == type ? kinds[i].name : kind;
    char octal[8];
    snprintf(octal, sizeof octal, "%04o", mode & 07777u);
    jsonw_open(w, '{');
    jsonw_kstr(w, "name", text + name);
    jsonw_kstr(w, "type", kind);
    jsonw_kstr(w, "mode", octal);
    jsonw_ku64(w, "size", size);
    jsonw_ktime(w, "modifiedAt", (double)time);
    jsonw_close(w, '}');
    return true;
}

static int take_entries(struct op *o, struct talk *t, struct piece *p, bool *cut)
{
    unsigned count = 0;
    while (!p->last && !*cut) {
        const uint8_t *body, *d;
        uint16_t tag;
        size_t len, n;
        int r = next_piece(t, p, &body, &len);
        if (r < 0)
            return r;
        struct tlv_reader reader = tlv_reader_init(body, len);
        while (!*cut && tlv_next(&reader, &tag, &d, &n)) {
            if (tag != GP_T_ENTRY)
                continue;
            *cut = count++ == ENTRIES_MAX;
            if (!*cut && !write_entry(&o->w, d, n))
                return -EBADMSG;
        }
    }
    return 0;
}

int op_ReadDirectory(struct op *o)
{
    AUTO(talk_close) struct talk t = TALK_INIT;
    struct piece p = {.last = false};
    bool cut = false;
    uint8_t space[8192];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_str(&w, GP_T_PATH, op_str(o, "path"));
    if (talk_open(o, &t, TALK_S) < 0)
        return -1;
    jsonw_open(&o->w, '{');
    jsonw_kopen(&o->w, "items", '[');
    int r = send_request(&t, GP_FILE_LIST, &w);
    if (r == 0)
        r = take_entries(o, &t, &p, &cut);
    if (r < 0)
        return talk_failed(o, &t, r);
    if (p.reply.num)
        return talk_refused(o, &p.reply);
    jsonw_close(&o->w, ']');
    jsonw_kbool(&o->w, "truncated", cut);
    jsonw_close(&o->w, '}');
    return 0;
}
