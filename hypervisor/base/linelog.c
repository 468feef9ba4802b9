// SPDX-License-Identifier: Apache-2.0
/* A bounded log of lines; see linelog.h. */
#include "linelog.h"

#include "fd.h"
#include "mem.h"

void linelog_flush(struct linelog *l)
{
    size_t len = l->line_len;
    l->line_len = 0;
    if (len == 0 || l->fd < 0)
        return;
    if (l->limit && l->written + len > l->limit) {
        static const char full[] = "\n[console log is full]\n";
        if (l->written <= l->limit)
            fd_write_full(l->fd, full, sizeof full - 1);
        l->written = l->limit + 1;
        return;
    }
    l->written += len;
    /* A file that cannot be written (disk full) must not stop who prints. */
    fd_write_full(l->fd, l->line, len);
}

void linelog_put(struct linelog *l, char ch)
{
    l->tail[l->tail_len++ % LINELOG_TAIL] = ch;
    l->line[l->line_len++] = ch;
    if (ch == '\n' || l->direct || l->line_len == LINELOG_LINE)
        linelog_flush(l);
    if (!l->watch || l->watch[0] == '\0')
        return;
    if (ch != l->watch[l->matched])
        l->matched = 0;
    if (ch == l->watch[l->matched])
        l->matched++;
    if (l->watch[l->matched] == '\0') {
        l->watch = NULL;
        linelog_flush(l);
        l->seen(l->seen_ctx);
    }
}

void linelog_tail(const struct linelog *l, char *ret, size_t size)
{
    uint64_t n = MIN(l->tail_len, MIN((uint64_t)LINELOG_TAIL, (uint64_t)size - 1));
    for (uint64_t i = 0; i < n; i++) {
        char ch = l->tail[(l->tail_len - n + i) % LINELOG_TAIL];
        ret[i] = ch ? ch : ' ';
    }
    ret[n] = '\0';
}
