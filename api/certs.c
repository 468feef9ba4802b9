// SPDX-License-Identifier: Apache-2.0
/*
 * See certs.h. The state directory belongs to the api role's user, who may have been taken over
 * by a stranger: below it only what is root's own is believed.
 */
#include "certs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "ca.h"
#include "durable.h"

#define PEM_MAX 65536u

void certs_paths(const struct config *c, char cert[CERTS_PATH], char key[CERTS_PATH])
{
    bool own = !c->tls_cert[0];
    snprintf(cert, CERTS_PATH, "%s%s", own ? c->state : c->tls_cert,
             own ? "/ca/server.pem" : "");
    snprintf(key, CERTS_PATH, "%s%s", own ? c->state : c->tls_key, own ? "/ca/server.key" : "");
}

static int open_own(int state, struct err *e)
{
    struct stat st;
    if (mkdirat(state, "ca", 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make the CA's directory");
    AUTO_CLOSE int dir = openat(state, "ca", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, errno, "open the CA's directory");
    if (fstat(dir, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 077)) {
        err_set(e, EPERM, "the directory 'ca' of the state is not root's alone");
        return err_hint(e,
                        "somebody has put it there; move it away, and distrust what it holds");
    }
    return take_fd(&dir);
}

/* ---- a CA of before it had a directory of its own --------------------------------------- */

static int read_plain(int dir, const char *name, char **ret, size_t *ret_len)
{
    struct stat st;
    AUTO_CLOSE int fd =
        dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PEM_MAX)
        return -ENOENT;
    size_t len = (size_t)st.st_size;
    AUTO_FREE char *text = malloc(len + 1);
    if (!text || fd_pread_full(fd, text, len, 0) < 0)
        return -EIO;
    text[len] = '\0';
    *ret = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

/* The certificate first: a key without one would be taken for a CA that was never used. */
static int move_here(int state, int dir, struct err *e)
{
    static const char *const old[] = {"ca.key", "ca.pem", "server.key", "server.pem",
                                      "server.names"};
    AUTO_FREE char *key = NULL, *cert = NULL;
    size_t key_len = 0, cert_len = 0;
    AUTO_CLOSE int from = openat(state, "tls", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return 0;
    if (faccessat(dir, "ca.key", F_OK, 0) < 0 &&
        read_plain(from, "ca.key", &key, &key_len) == 0 &&
        read_plain(from, "ca.pem", &cert, &cert_len) == 0) {
        int r = durable_write(dir, "ca.pem", cert, cert_len, 0644, e);
        if (r == 0)
            r = durable_write(dir, "ca.key", key, key_len, 0600, e);
        explicit_bzero(key, key_len);
        if (r < 0)
            return err_wrap(e, "move the CA to a directory of root's");
        log_info("the CA's key is root's alone now; the network-facing process could read it "
                 "before");
    }
    for (size_t i = 0; i < ARRAY_LEN(old); i++)
        unlinkat(from, old[i], 0);
    fsync(from);
    unlinkat(state, "tls", AT_REMOVEDIR);
    return 0;
}

/* ---- names ------------------------------------------------------------------------------ */

static void add_name(struct ca_config *ca, const char *name)
{
    for (size_t i = 0; i < ca->nnames; i++) {
        if (strcmp(ca->names[i], name) == 0)
            return;
    }
    if (*name && ca->nnames < CA_NAMES_MAX)
        ca->names[ca->nnames++] = name;
}

int certs_ensure(const struct config *c, bool *ret_renewed, struct err *e)
{
    char wildcard[300], lambda[300], host[256] = "", more[sizeof c->tls_names];
    *ret_renewed = false;
    if (c->tls_cert[0])
        return 0;
    AUTO_CLOSE int state = -1, dir = -1;
    int r = durable_dir(AT_FDCWD, c->state, &state, e);
    if (r < 0 || (r = dir = open_own(state, e)) < 0 || (r = move_here(state, dir, e)) < 0)
        return r;
    struct ca_config ca = {.export_dir = state, .now = time(NULL)};
    snprintf(wildcard, sizeof wildcard, "*.lambda-microvm.%s.%s", c->region, c->domain);
    snprintf(lambda, sizeof lambda, "lambda.%s.%s", c->region, c->domain);
    snprintf(more, sizeof more, "%s", c->tls_names);
    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    add_name(&ca, "localhost");
    add_name(&ca, wildcard);
    add_name(&ca, lambda);
    add_name(&ca, c->domain);
    add_name(&ca, "127.0.0.1");
    add_name(&ca, "::1");
    if (strcmp(c->listen, "0.0.0.0") != 0 && strcmp(c->listen, "::") != 0)
        add_name(&ca, c->listen);
    add_name(&ca, host);
    char *rest = more, *name;
    while ((name = strsep(&rest, ", ")))
        add_name(&ca, name);
    return ca_ensure(dir, &ca, ret_renewed, e);
}
