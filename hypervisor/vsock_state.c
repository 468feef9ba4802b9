// SPDX-License-Identifier: Apache-2.0
/*
 * Connections in a snapshot; see devices.h for which survive. A lasting
 * connection is saved with its credit and the bytes under way in both
 * directions, of any other only the ports, to be reset after the load. A saved
 * state may be forged.
 */
#include <errno.h>
#include <string.h>

#include "../guest/abi/proto.h"
#include "../snapshot/devstate.h"
#include "base/mem.h"
#include "vsock.h"

enum { /* device-state fields */
       DS_CONNS = VIRTIO_DSTATE_OWN,
       DS_RESETS,
       DS_NEXT_PORT,
       DS_DATA = 1024, /* + 2 * index: buffered towards the host, + 1: towards the guest */
};
#define CONN_ROW 40u
#define CONN_DUE 28u /* four bytes, of which only the first may be set */
static const struct dstate_field conn_row[] = {
    DSTATE_FIELD(0, struct vsock_conn, guest_port),
    DSTATE_FIELD(4, struct vsock_conn, host_port),
    DSTATE_FIELD(8, struct vsock_conn, guest_alloc),
    DSTATE_FIELD(12, struct vsock_conn, guest_fwd),
    DSTATE_FIELD(16, struct vsock_conn, sent),
    DSTATE_FIELD(20, struct vsock_conn, received),
    DSTATE_FIELD(24, struct vsock_conn, fwd),
    DSTATE_FIELD(CONN_DUE, struct vsock_conn, due), /* VSOCK_DUE_RESPONSE only */
};
#define RESET_ROW 8u
static const struct dstate_field reset_row[] = {
    DSTATE_FIELD(0, struct reset, guest_port),
    DSTATE_FIELD(4, struct reset, host_port),
};

/* Streams that go on after a load. */
static bool lasting(const struct vsock_conn *c)
{
    return c->state == VSOCK_OPEN && !c->eof && !c->hup && !c->shut_guest && !c->shut_sent &&
           (c->host_port == GP_PORT_CONTROL || c->host_port == GP_PORT_LOG);
}

static void save_conn(const struct vsock_conn *c, struct buf *list, struct dstate_writer *w,
                      unsigned i)
{
    struct vsock_conn saved = *c;
    uint8_t row[CONN_ROW] = {0};
    saved.due &= VSOCK_DUE_RESPONSE;
    dstate_pack(conn_row, ARRAY_LEN(conn_row), &saved, row);
    buf_add(list, row, sizeof row);
    uint8_t *flat = malloc(VSOCK_BUF);
    if (!flat) {
        list->bad = true;
        return;
    }
    uint32_t first = MIN(c->buf_len, VSOCK_BUF - c->buf_off);
    memcpy(flat, c->buf + c->buf_off, first);
    memcpy(flat + first, c->buf, c->buf_len - first);
    dw_bytes(w, (uint16_t)(DS_DATA + 2 * i), flat, c->buf_len);
    dw_bytes(w, (uint16_t)(DS_DATA + 2 * i + 1), c->back ? c->back + c->back_off : NULL,
             c->back_len);
    free(flat);
}

static void save_reset(struct buf *resets, const struct reset *r)
{
    uint8_t row[RESET_ROW];
    dstate_pack(reset_row, ARRAY_LEN(reset_row), r, row);
    buf_add(resets, row, sizeof row);
}

int vsock_save(struct virtio *v, struct dstate_writer *w, struct err *e)
{
    struct vsock *s = container_of(v, struct vsock, v);
    struct buf list = BUF_INIT, resets = BUF_INIT;
    int r = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < s->nresets; i++)
        save_reset(&resets, &s->resets[(s->reset_first + i) % VSOCK_RESETS]);
    for (unsigned i = 0; r == 0 && i < s->used; i++) {
        struct vsock_conn *c = &s->conns[i];
        if (c->state != VSOCK_OPEN && c->state != VSOCK_CONNECTING)
            continue;
        r = lasting(c) ? vsock_conn_drain(c) : -ENOTCONN;
        if (r == 0) {
            save_conn(c, &list, w, n++);
        } else if (r == -ENOTCONN) {
            save_reset(&resets, &(struct reset){c->guest_port, c->host_port, 0});
            r = 0;
        }
    }
    dw_bytes(w, DS_CONNS, list.data, list.len);
    dw_bytes(w, DS_RESETS, resets.data, resets.len);
    dw_u32(w, DS_NEXT_PORT, s->next_port);
    if (r < 0)
        r = err_set(e, -r, "a control stream holds too much unread data to be saved");
    else if (list.bad || resets.bad)
        r = err_sys(e, ENOMEM, "save vsock connections");
    buf_free(&list);
    buf_free(&resets);
    return r;
}

static int load_conn(struct vsock *s, const uint8_t *row, unsigned i, struct dstate_reader *r,
                     struct err *e)
{
    struct vsock_conn x = {.fd = -1};
    const void *data, *back;
    size_t len, back_len;
    int rc = dr_bytes(r, (uint16_t)(DS_DATA + 2 * i), &data, &len, e);
    if (rc == 0)
        rc = dr_bytes(r, (uint16_t)(DS_DATA + 2 * i + 1), &back, &back_len, e);
    if (rc < 0)
        return rc;
    dstate_unpack(conn_row, ARRAY_LEN(conn_row), row, &x);
    if ((x.host_port != GP_PORT_CONTROL && x.host_port != GP_PORT_LOG) || len > VSOCK_BUF ||
        x.received - x.fwd != len || back_len > VSOCK_BACK_MAX ||
        (get_le32(row + CONN_DUE) & ~(uint32_t)VSOCK_DUE_RESPONSE) ||
        vsock_conn_find(s, x.guest_port, x.host_port))
        return err_set(e, EBADMSG, "saved connection %u is not valid", i);
    struct vsock_conn *c = vsock_conn_new(s, x.guest_port, x.host_port, -1);
    if (!c)
        return err_set(e, ENOMEM, "more saved connections than can be");
    dstate_unpack(conn_row, ARRAY_LEN(conn_row), row, c);
    c->state = VSOCK_OPEN;
    c->fwd_told = c->fwd;
    c->due |= VSOCK_DUE_CREDIT;
    memcpy(c->buf, data, len);
    c->buf_len = (uint32_t)len;
    if (back_len) {
        c->back = malloc(back_len);
        if (!c->back)
            return err_sys(e, ENOMEM, "load a vsock connection");
        memcpy(c->back, back, back_len);
        c->back_len = (uint32_t)back_len;
    }
    return 0;
}

int vsock_load(struct virtio *v, struct dstate_reader *r, struct err *e)
{
    struct vsock *s = container_of(v, struct vsock, v);
    const void *list, *resets;
    size_t len, nresets;
    int rc = dr_bytes(r, DS_CONNS, &list, &len, e);
    if (rc == 0)
        rc = dr_bytes(r, DS_RESETS, &resets, &nresets, e);
    if (rc == 0)
        rc = dr_u32(r, DS_NEXT_PORT, &s->next_port, e);
    if (rc < 0)
        return rc;
    if (len % CONN_ROW || len / CONN_ROW > VSOCK_CONNS || nresets % RESET_ROW ||
        s->next_port < VSOCK_FIRST_PORT || s->next_port == UINT32_MAX)
        return err_set(e, EBADMSG, "the saved connections are not valid");
    for (size_t i = 0; i < len / CONN_ROW; i++) {
        rc = load_conn(s, (const uint8_t *)list + i * CONN_ROW, (unsigned)i, r, e);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < nresets; i += RESET_ROW) {
        struct reset x;
        dstate_unpack(reset_row, ARRAY_LEN(reset_row), (const uint8_t *)resets + i, &x);
        if (!vsock_owe_reset(s, x.guest_port, x.host_port, VSOCK_TYPE_STREAM))
            return err_set(e, EBADMSG, "too many saved resets");
    }
    return 0;
}
