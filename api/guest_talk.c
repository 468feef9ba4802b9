// SPDX-License-Identifier: Apache-2.0
/* Conversations with dormouse-init; see guest_talk.h. */
#include "guest_talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/mem.h"

int talk_open(struct op *o, struct talk *t, uint32_t limit_s)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    int fd = -1;
    if (op_microvm(o, &vm) < 0)
        return -1;
    *t = (struct talk){.fleet = o->api->fleet, .link = GLINK_INIT};
    snprintf(t->vm_id, sizeof t->vm_id, "%s", vm.id);
    int r = fleet_acquire(t->fleet, vm.label, &t->target, &e);
    if (r == 0) {
        r = fleet_stream(t->fleet, &t->target, &fd, &e);
        if (r < 0)
            fleet_release(t->fleet, &t->target);
    }
    if (r == 0) {
        glink_open(&t->link, fd);
        t->deadline = deadline_ms((uint64_t)limit_s * 1000);
        return 0;
    }
    t->fleet = NULL;
    if (r == -EHOSTDOWN || r == -EAGAIN)
        return op_fail_about(o, "microvm", vm.id, TEXT_NOT_RUNNING, vm.id);
    return op_fail_fleet(o, vm.id, &e);
}

void talk_close(struct talk *t)
{
    glink_close(&t->link);
    if (t->fleet)
        fleet_release(t->fleet, &t->target);
    t->fleet = NULL;
}

int talk_next(struct talk *t, struct gp_header *ret, const uint8_t **ret_body)
{
    for (;;) {
        int r = glink_next(&t->link, ret, ret_body);
        if (r != 0)
            return MIN(r, 0);
        uint64_t now = now_ns();
        if (now >= t->deadline)
            return -ETIMEDOUT;
        struct pollfd p = {.fd = t->link.fd, .events = POLLIN};
        if (poll(&p, 1, (int)MIN((t->deadline - now) / NS_PER_MS + 1, 60000u)) > 0 &&
            (r = glink_fill(&t->link)) < 0 && r != -EAGAIN)
            return r;
    }
}

int talk_failed(struct op *o, const struct talk *t, int r)
{
    if (r == -ETIMEDOUT)
        return op_fail_about(o, "microvm", t->vm_id, TEXT_GUEST_SILENT, t->vm_id);
    if (r == -ECONNRESET)
        return op_fail_about(o, "microvm", t->vm_id, TEXT_GUEST_GONE, t->vm_id);
    if (r == -ENOMEM)
        return op_fail(o, TEXT_INTERNAL);
    return op_fail_about(o, "microvm", t->vm_id, TEXT_GUEST_NONSENSE, t->vm_id);
}

int talk_refused(struct op *o, const struct gp_reply *reply)
{
    const char *text = reply->text[0] ? reply->text : "the guest refused";
    if (reply->num == ENOENT)
        return op_fail(o, TEXT_GUEST_NOT_FOUND, text);
    if (reply->num == ESRCH)
        return op_fail(o, TEXT_GUEST_CONFLICT, text);
    return op_fail(o, TEXT_INVALID, text);
}
