// SPDX-License-Identifier: Apache-2.0
/* Part of ctl_drive.c: memory layers, working sets, prepared embryos. */
#ifndef DORMOUSE_TESTS_CTL_LAYERS_H
#define DORMOUSE_TESTS_CTL_LAYERS_H

#define TEXT_LEN (6ull << 20) /* of the kernel: its instructions */

struct files {
    char image[300], session[300], layer[300], workset[300];
};

static struct files layered;

static int order_file(struct vmm *v, uint32_t type, const void *body, size_t len,
                      const char *path, int flags)
{
    int fd = open_at(path, flags);
    int r = order_fds(v, type, body, len, &fd, 1);
    close(fd);
    return r;
}

static int save_over(struct vmm *v, const char *path, const char *layer, struct ctl_saved *ret)
{
    struct ctl_save s = {.flags = CTL_SAVE_FULL | CTL_SAVE_LAYER};
    int fds[2] = {open_at(path, O_RDWR | O_CREAT | O_TRUNC), open_at(layer, O_RDONLY)};
    int r = order_fds(v, CTL_SAVE, &s, sizeof s, fds, 2);
    const struct ctl_saved *saved = msg_body(&v->msg, sizeof *saved);
    close(fds[0]);
    close(fds[1]);
    if (r == 0 && saved)
        *ret = *saved;
    return r;
}

static int prepare(struct vmm *v, const struct files *f)
{
    struct ctl_machine m = machine(1, "");
    int fds[3] = {open_at(f->image, O_RDONLY), open_at(f->layer, O_RDONLY),
                  open_at(f->workset, O_RDONLY)};
    m.has_layer = m.has_workset = 1;
    int r = order_fds(v, CTL_PREPARE, &m, sizeof m, fds, 3);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    return r;
}

/* What came with CTL_PREPARE is not sent again. */
static int restore_rest(struct vmm *v, const struct files *f, bool prepared,
                        const char *session)
{
    struct ctl_machine m = machine(1, "");
    int console[2], fds[4];
    size_t n = 0;
    if (pipe2(console, O_CLOEXEC) < 0)
        return errno;
    fds[n++] = console[1];
    if (!prepared)
        fds[n++] = open_at(f->image, O_RDONLY);
    if (session)
        fds[n++] = open_at(session, O_RDONLY);
    if (!prepared)
        fds[n++] = open_at(f->layer, O_RDONLY);
    m.nmem_layers = session ? 2 : 1;
    m.prepared = prepared;
    m.has_layer = !prepared;
    v->console = console[0];
    int r = order_fds(v, CTL_RESTORE, &m, sizeof m, fds, n);
    while (n > 0)
        close(fds[--n]);
    return r;
}

static bool works(struct vmm *v)
{
    return CHECK(console_shows(v, " sum ok")) && CHECK(console_shows(v, " sum ok")) &&
           CHECK(!strstr(v->text, "BROKEN"));
}

TEST(image_over_a_layer)
{
    static struct vmm v;
    struct files *f = &layered;
    struct ctl_machine m = machine(1, CMDLINE);
    struct ctl_layer l = {.gpa = CTL_KERNEL, .len = TEXT_LEN, .kernel = 1};
    struct ctl_saved whole, over;
    snprintf(f->image, sizeof f->image, "%s.over", arg.image);
    snprintf(f->session, sizeof f->session, "%s.over", arg.session);
    snprintf(f->layer, sizeof f->layer, "%s.layer", arg.image);
    snprintf(f->workset, sizeof f->workset, "%s.workset", arg.image);
    if (!embryo(&v, 1))
        return;
    CHECK(boot(&v, &m) == 0 && console_shows(&v, "ready"));
    int create = O_RDWR | O_CREAT | O_TRUNC;
    CHECK(order_file(&v, CTL_LAYER, &l, sizeof l, f->layer, create) == EBUSY);
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(order_file(&v, CTL_LAYER, &l, sizeof l, f->layer, create) == 0);
    CHECK(save(&v, arg.other, CTL_SAVE_FULL, &whole) == 0);
    CHECK(save_over(&v, f->image, f->layer, &over) == 0);
    CHECK(over.layer_same == TEXT_LEN / 4096 && over.layer_other == 0);
    CHECK(over.pages_stored + TEXT_LEN / 4096 >= whole.pages_stored);
    l.len = MEM;
    CHECK(order_file(&v, CTL_LAYER, &l, sizeof l, arg.other, create) == EINVAL);
    CHECK(stop(&v));
    /* Over the layer, with what it touches written down; and without it. */
    if (!embryo(&v, 1))
        return;
    CHECK(restore_rest(&v, f, false, NULL) == 0 && works(&v));
    CHECK(order_file(&v, CTL_WORKSET, NULL, 0, f->workset, create) == 0);
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, f->session, 0, &over) == 0 && over.pages_stored < 2000);
    CHECK(stop(&v));
    refused(f->image, NULL, 1, EINVAL);
}

TEST(prepared_embryos)
{
    static struct vmm v;
    struct files wrong = layered;
    const char *const sessions[] = {NULL, layered.session};
    for (unsigned i = 0; i < 2; i++) {
        if (!embryo(&v, 1))
            return;
        CHECK(prepare(&v, &layered) == 0);
        CHECK(prepare(&v, &layered) == EBUSY);
        CHECK(restore_rest(&v, &layered, true, sessions[i]) == 0 && works(&v));
        CHECK(order(&v, CTL_PAUSE) == 0);
        CHECK(save(&v, arg.other, 0, NULL) == 0 && stop(&v));
    }
    if (embryo(&v, 1)) { /* nothing was prepared */
        CHECK(restore_rest(&v, &layered, true, NULL) == EINVAL);
        CHECK(ended(&v) == CTL_EXIT_ERROR);
    }
    if (embryo(&v, 1)) { /* it was, and comes again */
        CHECK(prepare(&v, &layered) == 0);
        CHECK(restore_rest(&v, &layered, false, NULL) == EINVAL);
        CHECK(ended(&v) == CTL_EXIT_ERROR);
    }
    snprintf(wrong.workset, sizeof wrong.workset, "%s", arg.kernel);
    if (embryo(&v, 1)) {
        CHECK(prepare(&v, &wrong) == EBADMSG);
        CHECK(ended(&v) == CTL_EXIT_ERROR);
    }
}

#endif
