// SPDX-License-Identifier: Apache-2.0
/*
 * Connections in a snapshot; see virtio_vsock.h for which survive. A lasting
 * connection is saved with its credit and the bytes under way in both
 * directions, of any other only the ports, to be reset after the load. A saved
 * state may be forged.
 */
#include <errno.h>
#include <string.h>

#include "../guest/abi/proto.h"
#include "../snapshot/devstate.h"
#include "base/mem.h"
#include "vsock_dev.h"

enum { /* device-state fields */
       DS_CONNS = VIRTIO_DSTATE_OWN,
       DS_RESETS,
       DS_NEXT_PORT,
       DS_DATA = 1024, /* + 2 * index: buffered towards the host, + 1: towards the guest */
};
#define DS_CONN_LEN 40u

/* Streams that go on after a load. */
static bool lasting(const struct vsock_conn *c)
{
    return c->state == VSOCK_OPEN && !c->eof && !c->hup && !c->shut_guest && !c->shut_sent &&
           (c->host_port == GP_PORT_CONTROL || c->host_port == GP_PORT_LOG);
}

static void save_conn(const struct vsock_conn *c, struct buf *list, struct dstate_writer *w,
                      unsigned i)
{
    uint8_t b[DS_CONN_LEN] = {0};
    put_le32(b, c->guest_port);
    put_le32(b + 4, c->host_port);
    put_le32(b + 8, c->guest_alloc);
    put_le32(b + 12, c->guest_fwd);
    put_le32(b + 16, c->sent);
    put_le32(b + 20, c->received);
    put_le32(b + 24, c->fwd);
    put_le32(b + 28, c->due & VSOCK_DUE_RESPONSE);
    buf_add(list, b, sizeof b);
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

static void save_reset(struct buf *resets, uint32_t guest_port, uint32_t host_port)
{
    uint8_t b[8];
    put_le32(b, guest_port);
    put_le32(b + 4, host_port);
    buf_add(resets, b, sizeof b);
}

int vsock_save(struct virtio *v, struct dstate_writer *w, struct err *e)
{
    struct vsock *s = container_of(v, struct vsock, v);
    struct buf list = BUF_INIT, resets = BUF_INIT;
    int r = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < s->nresets; i++) {
        const struct reset *x = &s->resets[(s->reset_first + i) % VSOCK_RESETS];
        save_reset(&resets, x->guest_port, x->host_port);
    }
    for (unsigned i = 0; r == 0 && i < s->t.used; i++) {
        struct vsock_conn *c = &s->t.conns[i];
        if (c->state != VSOCK_OPEN && c->state != VSOCK_CONNECTING)
            continue;
        r = lasting(c) ? vsock_conn_drain(c) : -ENOTCONN;
        if (r == 0) {
            save_conn(c, &list, w, n++);
        } else if (r == -ENOTCONN) {
            save_reset(&resets, c->guest_port, c->host_port);
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

static int load_conn(struct vsock *s, const uint8_t *b, unsigned i,
                     const struct dstate_reader *r, struct err *e)
{
    const void *data, *back;
    size_t len, back_len;
    int rc = dr_bytes(r, (uint16_t)(DS_DATA + 2 * i), &data, &len, e);
    if (rc == 0)
        rc = dr_bytes(r, (uint16_t)(DS_DATA + 2 * i + 1), &back, &back_len, e);
    if (rc < 0)
        return rc;
    uint32_t guest_port = get_le32(b), host_port = get_le32(b + 4);
    uint32_t received = get_le32(b + 20), fwd = get_le32(b + 24), due = get_le32(b + 28);
    if ((host_port != GP_PORT_CONTROL && host_port != GP_PORT_LOG) || len > VSOCK_BUF ||
        received - fwd != len || back_len > VSOCK_BACK_MAX ||
        (due & ~(uint32_t)VSOCK_DUE_RESPONSE) || vsock_conn_find(&s->t, guest_port, host_port))
        return err_set(e, EBADMSG, "saved connection %u is not valid", i);
    struct vsock_conn *c = vsock_conn_new(&s->t, guest_port, host_port, -1);
    if (!c)
        return err_set(e, ENOMEM, "more saved connections than can be");
    c->state = VSOCK_OPEN;
    c->guest_alloc = get_le32(b + 8);
    c->guest_fwd = get_le32(b + 12);
    c->sent = get_le32(b + 16);
    c->received = received;
    c->fwd = c->fwd_told = fwd;
    c->due = (uint8_t)(due | VSOCK_DUE_CREDIT);
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

int vsock_load(struct virtio *v, const struct dstate_reader *r, struct err *e)
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
    if (len % DS_CONN_LEN || len / DS_CONN_LEN > VSOCK_CONNS || nresets % 8 ||
        s->next_port < VSOCK_FIRST_PORT || s->next_port == UINT32_MAX)
        return err_set(e, EBADMSG, "the saved connections are not valid");
    for (size_t i = 0; i < len / DS_CONN_LEN; i++) {
        rc = load_conn(s, (const uint8_t *)list + i * DS_CONN_LEN, (unsigned)i, r, e);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < nresets / 8; i++) {
        const uint8_t *b = (const uint8_t *)resets + i * 8;
        if (!vsock_owe_reset(s, get_le32(b), get_le32(b + 4), VSOCK_TYPE_STREAM))
            return err_set(e, EBADMSG, "too many saved resets");
    }
    return 0;
}
