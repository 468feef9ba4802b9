// SPDX-License-Identifier: Apache-2.0
/* TLS connections over mbedtls; see tls.h. */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <poll.h>
#include <psa/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "mbed.h"

#define TICKET_SECONDS 86400u

/* Everything a handshake needs; counted, because connections outlive a reload. */
struct tls_set {
    unsigned refs;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt cert, client_ca;
    mbedtls_pk_context key;
    mbedtls_ssl_ticket_context tickets;
};

struct tls {
    pthread_mutex_t lock;
    struct tls_set *set;
    struct tls_source from;
    char *paths[2];         /* of tls_open() */
    struct timespec loaded; /* the certificate file's mtime */
};

struct tls_conn {
    struct tls_set *set;
    mbedtls_ssl_context ssl;
    size_t unfinished; /* length of a write that must be repeated as it was */
};

int tls_library_init(struct err *e)
{
    psa_status_t s = psa_crypto_init();
    return s == PSA_SUCCESS ? 0 : err_set(e, EIO, "the crypto library does not start (%d)", s);
}

static void set_unref(struct tls_set *s)
{
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    mbedtls_ssl_config_free(&s->conf);
    mbedtls_ssl_ticket_free(&s->tickets);
    mbedtls_x509_crt_free(&s->cert);
    mbedtls_x509_crt_free(&s->client_ca);
    mbedtls_pk_free(&s->key);
    free(s);
}

static void set_unref_auto(struct tls_set **s)
{
    set_unref(*s);
}

static int on_sni(void *ctx, mbedtls_ssl_context *ssl, const unsigned char *name, size_t len)
{
    const struct tls_source *from = ctx;
    struct conn *c = mbedtls_ssl_get_user_data_p(ssl);
    if (len >= sizeof c->sni)
        return -1;
    for (size_t i = 0; i < len; i++)
        c->sni[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    c->sni[len] = '\0';
    if (from->client_ca && from->open_to_all && from->open_to_all(from->ctx, c->sni))
        mbedtls_ssl_set_hs_authmode(ssl, MBEDTLS_SSL_VERIFY_NONE);
    return 0;
}

static int set_configure(struct tls_set *s, const struct tls_source *from, struct err *e)
{
    static const char *const protocols[] = {"http/1.1", NULL};
    int r =
        mbedtls_ssl_config_defaults(&s->conf, MBEDTLS_SSL_IS_SERVER,
                                    MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (r != 0)
        return mbed_fail(e, EPROTO, r, "set up TLS");
    mbedtls_ssl_conf_rng(&s->conf, mbed_random, NULL);
    mbedtls_ssl_conf_min_tls_version(&s->conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(&s->conf, MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_tls13_key_exchange_modes(
        &s->conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL |
                      MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_EPHEMERAL);
    mbedtls_ssl_conf_sni(&s->conf, on_sni, (void *)(uintptr_t)from);
    r = mbedtls_ssl_conf_alpn_protocols(&s->conf, (const char **)(uintptr_t)protocols);
    if (r == 0)
        r = mbedtls_ssl_conf_own_cert(&s->conf, &s->cert, &s->key);
    if (r == 0 && from->client_ca) {
        /* No tickets: one that was made for a name without client certificates must not open
         * the door that needs them. */
        mbedtls_ssl_conf_authmode(&s->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
        mbedtls_ssl_conf_ca_chain(&s->conf, &s->client_ca, NULL);
        return 0;
    }
    if (r == 0)
        r = mbedtls_ssl_ticket_setup(&s->tickets, mbed_random, NULL, MBEDTLS_CIPHER_AES_256_GCM,
                                     TICKET_SECONDS);
    if (r != 0)
        return mbed_fail(e, EPROTO, r, "set up TLS");
    mbedtls_ssl_conf_session_tickets_cb(&s->conf, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse, &s->tickets);
    return 0;
}

static int read_file(const struct tls_source *from, enum tls_file which, size_t limit,
                     char **ret, size_t *ret_len, struct timespec *ret_time, struct err *e)
{
    static const char *const names[] = {"certificate", "key", "client CA"};
    AUTO_CLOSE int fd = -1;
    struct stat st;
    int r = from->open(from->ctx, which, &fd, e);
    if (r < 0)
        return err_wrap(e, "the TLS %s", names[which]);
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "read the TLS %s", names[which]);
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > limit)
        return err_set(e, EINVAL, "the TLS %s is no file of 1 to %zu bytes", names[which],
                       limit);
    size_t len = (size_t)st.st_size;
    AUTO_FREE char *data = malloc(len + 1);
    if (!data)
        return err_sys(e, ENOMEM, "read the TLS %s", names[which]);
    r = fd_pread_full(fd, data, len, 0);
    if (r < 0) {
        explicit_bzero(data, len);
        return err_sys(e, -r, "read the TLS %s", names[which]);
    }
    data[len] = '\0';
    if (ret_time)
        *ret_time = st.st_mtim;
    *ret = TAKE_PTR(data);
    *ret_len = len + 1; /* the library wants the zero of PEM text */
    return 0;
}

static int load_cert(const struct tls_source *from, enum tls_file which, mbedtls_x509_crt *ret,
                     struct timespec *ret_time, struct err *e)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = read_file(from, which, 1 << 20, &text, &len, ret_time, e);
    if (r < 0)
        return r;
    int code = mbedtls_x509_crt_parse(ret, (unsigned char *)text, len);
    return code == 0 ? 0
                     : mbed_fail(e, EPROTO, code,
                                 which == TLS_CERT ? "read the TLS certificate"
                                                   : "read the CA of clients");
}

static int load_key(const struct tls_source *from, mbedtls_pk_context *ret, struct err *e)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = read_file(from, TLS_KEY, 1 << 16, &text, &len, NULL, e);
    if (r < 0)
        return r;
    int code =
        mbedtls_pk_parse_key(ret, (unsigned char *)text, len, NULL, 0, mbed_random, NULL);
    explicit_bzero(text, len);
    return code == 0 ? 0 : mbed_fail(e, EPROTO, code, "read the TLS key");
}

static int set_load(struct tls_set **ret, const struct tls_source *from,
                    struct timespec *ret_time, struct err *e)
{
    AUTO(set_unref_auto) struct tls_set *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "set up TLS");
    s->refs = 1;
    mbedtls_ssl_config_init(&s->conf);
    mbedtls_x509_crt_init(&s->cert);
    mbedtls_x509_crt_init(&s->client_ca);
    mbedtls_pk_init(&s->key);
    mbedtls_ssl_ticket_init(&s->tickets);
    int r = load_cert(from, TLS_CERT, &s->cert, ret_time, e);
    if (r == 0)
        r = load_key(from, &s->key, e);
    if (r == 0 && from->client_ca)
        r = load_cert(from, TLS_CLIENT_CA, &s->client_ca, NULL, e);
    if (r < 0)
        return r;
    if (mbedtls_pk_check_pair(&s->cert.pk, &s->key, mbed_random, NULL) != 0)
        return err_set(e, EINVAL, "the TLS key is not the one of the TLS certificate");
    r = set_configure(s, from, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

static int open_path(void *ctx, enum tls_file which, int *ret_fd, struct err *e)
{
    char *const *paths = ctx;
    *ret_fd = open(paths[which], O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? err_sys(e, errno, "open '%s'", paths[which]) : 0;
}

static int tls_new(struct tls **ret, struct err *e)
{
    *ret = calloc(1, sizeof **ret);
    if (!*ret)
        return err_sys(e, ENOMEM, "set up TLS");
    pthread_mutex_init(&(*ret)->lock, NULL);
    return 0;
}

static int open_first(struct tls *t, struct tls **ret, struct err *e)
{
    int r = tls_reload(t, e);
    if (r < 0) {
        tls_close(t);
        return r;
    }
    *ret = t;
    return 0;
}

int tls_open_from(struct tls **ret, const struct tls_source *from, struct err *e)
{
    struct tls *t;
    int r = tls_new(&t, e);
    if (r < 0)
        return r;
    t->from = *from;
    return open_first(t, ret, e);
}

int tls_open(struct tls **ret, const char *cert_path, const char *key_path, struct err *e)
{
    struct tls *t;
    int r = tls_new(&t, e);
    if (r < 0)
        return r;
    t->paths[TLS_CERT] = strdup(cert_path);
    t->paths[TLS_KEY] = strdup(key_path);
    t->from = (struct tls_source){.open = open_path, .ctx = t->paths};
    if (!t->paths[TLS_CERT] || !t->paths[TLS_KEY]) {
        tls_close(t);
        return err_sys(e, ENOMEM, "set up TLS");
    }
    return open_first(t, ret, e);
}

void tls_close(struct tls *t)
{
    if (!t)
        return;
    set_unref(t->set);
    pthread_mutex_destroy(&t->lock);
    free(t->paths[TLS_CERT]);
    free(t->paths[TLS_KEY]);
    free(t);
}

int tls_reload(struct tls *t, struct err *e)
{
    struct timespec time;
    struct tls_set *fresh = NULL;
    int r = set_load(&fresh, &t->from, &time, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&t->lock);
    struct tls_set *old = t->set;
    t->set = fresh;
    t->loaded = time;
    pthread_mutex_unlock(&t->lock);
    set_unref(old);
    return 0;
}

int tls_reload_if_changed(struct tls *t, bool *ret_reloaded, struct err *e)
{
    struct stat st;
    AUTO_CLOSE int fd = -1;
    int r = t->from.open(t->from.ctx, TLS_CERT, &fd, e);
    if (r < 0)
        return err_wrap(e, "the TLS certificate");
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "read the TLS certificate");
    bool same =
        st.st_mtim.tv_sec == t->loaded.tv_sec && st.st_mtim.tv_nsec == t->loaded.tv_nsec;
    if (ret_reloaded)
        *ret_reloaded = !same;
    return same ? 0 : tls_reload(t, e);
}

static int bio_send(void *ctx, const unsigned char *data, size_t len)
{
    const struct conn *c = ctx;
    ssize_t n;
    do {
        n = send(c->fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_NET_SEND_FAILED;
}

static int bio_recv(void *ctx, unsigned char *data, size_t cap)
{
    const struct conn *c = ctx;
    ssize_t n;
    do {
        n = recv(c->fd, data, cap, 0);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_NET_RECV_FAILED;
}

/* A library result as bytes or -errno; notes what to wait for. */
static ssize_t step_result(struct conn *c, int r)
{
    if (r >= 0)
        return r;
    switch (r) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        c->want = POLLIN;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        c->want = POLLOUT;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
    case MBEDTLS_ERR_SSL_CONN_EOF:
        return 0;
    case MBEDTLS_ERR_NET_RECV_FAILED:
    case MBEDTLS_ERR_NET_SEND_FAILED:
        return -ECONNRESET;
    default:
        return -EPROTO;
    }
}

static ssize_t tls_try_read(struct conn *c, void *data, size_t cap)
{
    struct tls_conn *t = c->impl;
    return step_result(c, mbedtls_ssl_read(&t->ssl, data, cap));
}

static ssize_t tls_try_write(struct conn *c, const void *data, size_t len)
{
    struct tls_conn *t = c->impl;
    if (len == 0)
        return 0;
    /* The record of an unfinished write is already made: the library reports whatever length
     * it is called with, so it must be the one of that record. */
    if (t->unfinished)
        len = t->unfinished;
    ssize_t n = step_result(c, mbedtls_ssl_write(&t->ssl, data, len));
    t->unfinished = n == -EAGAIN ? MIN(len, (size_t)16384) : 0;
    return n;
}

static bool tls_pending(struct conn *c)
{
    struct tls_conn *t = c->impl;
    return mbedtls_ssl_check_pending(&t->ssl) != 0;
}

static int tls_finish(struct conn *c)
{
    struct tls_conn *t = c->impl;
    mbedtls_ssl_close_notify(&t->ssl); /* when the socket takes it at once; else never mind */
    return shutdown(c->fd, SHUT_WR) < 0 ? -errno : 0;
}

static void tls_free(struct conn *c)
{
    struct tls_conn *t = c->impl;
    mbedtls_ssl_free(&t->ssl);
    set_unref(t->set);
    free(t);
}

static const struct conn_ops tls_ops = {
    .try_read = tls_try_read,
    .try_write = tls_try_write,
    .pending = tls_pending,
    .finish = tls_finish,
    .free = tls_free,
};

static struct tls_set *set_ref(struct tls *t)
{
    pthread_mutex_lock(&t->lock);
    struct tls_set *s = t->set;
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&t->lock);
    return s;
}

int tls_handshake(struct conn *c, int64_t deadline, struct err *e)
{
    struct tls_conn *t = c->impl;
    for (;;) {
        int code = mbedtls_ssl_handshake(&t->ssl);
        if (code == 0)
            return 0;
        if (step_result(c, code) != -EAGAIN)
            return mbed_fail(e, EPROTO, code, "TLS handshake");
        int r = conn_wait(c, c->want, deadline);
        if (r < 0)
            return err_sys(e, -r, "TLS handshake");
    }
}

int tls_conn(struct tls *t, int fd, struct conn **ret, struct err *e)
{
    struct conn *c;
    int r = conn_plain(&c, fd, e);
    if (r < 0)
        return r;
    struct tls_conn *tc = calloc(1, sizeof *tc);
    if (!tc) {
        conn_close(c);
        return err_sys(e, ENOMEM, "begin TLS");
    }
    tc->set = set_ref(t);
    mbedtls_ssl_init(&tc->ssl);
    c->impl = tc;
    c->ops = &tls_ops;
    int code = mbedtls_ssl_setup(&tc->ssl, &tc->set->conf);
    if (code != 0) {
        conn_close(c);
        return mbed_fail(e, EPROTO, code, "begin TLS");
    }
    mbedtls_ssl_set_user_data_p(&tc->ssl, c);
    mbedtls_ssl_set_bio(&tc->ssl, c, bio_send, bio_recv, NULL);
    *ret = c;
    return 0;
}
