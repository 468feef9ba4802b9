// SPDX-License-Identifier: Apache-2.0
/* What a snapshot needs of its host and of the image below it; see snapfile.h. */
#include <errno.h>
#include <string.h>

#include "snapfile.h"

int snap_check_host(const struct snap_info *s, const struct snap_host *h, struct err *e)
{
    int r = 0;
    if (s->gic != h->gic)
        r = err_set(e, ENOTSUP, "the snapshot needs a GICv%u, this host has version %u", s->gic,
                    h->gic);
    else if (s->midr != h->midr)
        r = err_set(e, ENOTSUP, "the snapshot comes from another CPU model (%llx, here %llx)",
                    (unsigned long long)s->midr, (unsigned long long)h->midr);
    else if (s->cntfrq != h->cntfrq)
        r = err_set(e, ENOTSUP, "the snapshot's counter runs at %llu Hz, this host's at %llu",
                    (unsigned long long)s->cntfrq, (unsigned long long)h->cntfrq);
    if (r < 0)
        return err_hint(e, "restore it on a host like the one it was made on");
    return 0;
}

int snap_check_pair(const struct snap_info *image, const struct snap_info *session,
                    struct err *e)
{
    if (!(image->flags & SNAP_FULL))
        return err_set(e, EINVAL, "the first snapshot is a session, not an image");
    if (session->flags & SNAP_FULL)
        return err_set(e, EINVAL, "the second snapshot is not a difference");
    if (memcmp(session->parent, image->id, SNAP_ID) != 0) {
        err_set(e, EINVAL, "the session belongs to another image");
        return err_hint(e, "restore it over the image it was started from");
    }
    if (session->mem_bytes != image->mem_bytes || session->mem_base != image->mem_base ||
        session->vcpus != image->vcpus)
        return err_set(e, EINVAL, "the session and its image differ in size");
    return 0;
}
