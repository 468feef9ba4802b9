// SPDX-License-Identifier: Apache-2.0
/* TLS connections to servers; see tls_client.h. */
#include "tls_client.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <poll.h>
#include <psa/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../api/mbed.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"

#define CA_MAX (4u << 20)

struct tls_client {
    mbedtls_ssl_config conf;
    mbedtls_x509_crt roots, cert; /* cert, key: our own, or empty */
    mbedtls_pk_context key;
    const char *ca; /* for messages */
};

struct tls_stream {
    mbedtls_ssl_context ssl;
};

static int load_roots(struct tls_client *t, struct err *e)
{
    static const char *const system[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/cert.pem"};
    AUTO_FREE char *text = NULL;
    size_t len;
    for (size_t i = 0; i < ARRAY_LEN(system) && !t->ca; i++) {
        if (access(system[i], R_OK) == 0)
            t->ca = system[i];
    }
    if (!t->ca) {
        err_set(e, ENOENT, "no certificate authority is known");
        return err_hint(e, "set AWS_CA_BUNDLE or give --ca FILE; `make up` writes one: "
                           ". build/run/env");
    }
    int r = fd_read_file(AT_FDCWD, t->ca, CA_MAX, &text, &len, e);
    if (r < 0) {
        err_wrap(e, "read the certificate authority");
        return err_hint(e, "set AWS_CA_BUNDLE, or give --ca FILE, to the host's ca.pem");
    }
    r = mbedtls_x509_crt_parse(&t->roots, (unsigned char *)text, len + 1);
    if (r < 0) {
        mbed_fail(e, EPROTO, r, "read the certificate authority");
        return err_wrap(e, "'%.200s'", t->ca);
    }
    return 0;
}

int tls_client_open(struct tls_client **ret, const char *ca, struct err *e)
{
    if (psa_crypto_init() != PSA_SUCCESS)
        return err_set(e, EIO, "the crypto library does not start");
    struct tls_client *t = calloc(1, sizeof *t);
    if (!t)
        return err_sys(e, ENOMEM, "set up TLS");
    t->ca = ca;
    mbedtls_ssl_config_init(&t->conf);
    mbedtls_x509_crt_init(&t->roots);
    mbedtls_x509_crt_init(&t->cert);
    mbedtls_pk_init(&t->key);
    int r =
        mbedtls_ssl_config_defaults(&t->conf, MBEDTLS_SSL_IS_CLIENT,
                                    MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    r = r != 0 ? mbed_fail(e, EPROTO, r, "set up TLS") : load_roots(t, e);
    if (r < 0) {
        tls_client_close(t);
        return r;
    }
    mbedtls_ssl_conf_rng(&t->conf, mbed_random, NULL);
    mbedtls_ssl_conf_min_tls_version(&t->conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_authmode(&t->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&t->conf, &t->roots, NULL);
    *ret = t;
    return 0;
}

int tls_client_identity(struct tls_client *t, const char *cert, const char *key, struct err *e)
{
    int r = mbedtls_x509_crt_parse_file(&t->cert, cert);
    if (r != 0)
        return mbed_fail(e, EINVAL, r, "read the client certificate"),
               err_wrap(e, "'%s'", cert);
    r = mbedtls_pk_parse_keyfile(&t->key, key, NULL, mbed_random, NULL);
    if (r != 0)
        return mbed_fail(e, EINVAL, r, "read the client key"), err_wrap(e, "'%s'", key);
    r = mbedtls_ssl_conf_own_cert(&t->conf, &t->cert, &t->key);
    return r == 0 ? 0 : mbed_fail(e, EINVAL, r, "use the client certificate");
}

void tls_client_close(struct tls_client *t)
{
    if (!t)
        return;
    mbedtls_ssl_config_free(&t->conf);
    mbedtls_x509_crt_free(&t->roots);
    mbedtls_x509_crt_free(&t->cert);
    mbedtls_pk_free(&t->key);
    free(t);
}

/* ---- the library's transport ------------------------------------------------------- */

static int bio_send(void *ctx, const unsigned char *data, size_t len)
{
    ssize_t n = send(*(int *)ctx, data, len, MSG_NOSIGNAL);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_NET_SEND_FAILED;
}

static int bio_recv(void *ctx, unsigned char *data, size_t len)
{
    ssize_t n = recv(*(int *)ctx, data, len, 0);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ
                                             : MBEDTLS_ERR_NET_RECV_FAILED;
}

/* -EAGAIN with `want` set, 0 when the peer has ended, or -EIO. */
static int step_failed(struct conn *c, int code)
{
    switch (code) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        c->want = POLLIN;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        c->want = POLLOUT;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
    case MBEDTLS_ERR_SSL_CONN_EOF:
    case 0:
        return 0;
    case MBEDTLS_ERR_NET_SEND_FAILED:
    case MBEDTLS_ERR_NET_RECV_FAILED:
    case MBEDTLS_ERR_NET_CONN_RESET:
        return -ECONNRESET;
    default:
        return -EPROTO;
    }
}

static ssize_t stream_try_read(struct conn *c, void *data, size_t cap)
{
    struct tls_stream *s = c->impl;
    for (;;) {
        int n = mbedtls_ssl_read(&s->ssl, data, cap);
        if (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            continue; /* sessions are not kept */
        return n > 0 ? n : step_failed(c, n);
    }
}

static ssize_t stream_try_write(struct conn *c, const void *data, size_t len)
{
    struct tls_stream *s = c->impl;
    int n = mbedtls_ssl_write(&s->ssl, data, len);
    if (n > 0)
        return n;
    int r = step_failed(c, n);
    return r == 0 ? -EPIPE : r;
}

static bool stream_pending(struct conn *c)
{
    struct tls_stream *s = c->impl;
    return mbedtls_ssl_check_pending(&s->ssl);
}

static int stream_finish(struct conn *c)
{
    struct tls_stream *s = c->impl;
    mbedtls_ssl_close_notify(&s->ssl);
    return 0;
}

static void stream_free(struct conn *c)
{
    struct tls_stream *s = c->impl;
    mbedtls_ssl_free(&s->ssl);
    free(s);
}

static const struct conn_ops stream_ops = {
    .try_read = stream_try_read,
    .try_write = stream_try_write,
    .pending = stream_pending,
    .finish = stream_finish,
    .free = stream_free,
};

/* ---- handshake --------------------------------------------------------------------- */

/* Why the certificate was refused, in one line. */
static int not_trusted(const struct tls_client *t, struct tls_stream *s, const char *name,
                       struct err *e)
{
    char text[300] = "";
    uint32_t why = mbedtls_ssl_get_verify_result(&s->ssl);
    mbedtls_x509_crt_verify_info(text, sizeof text, "", why);
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)(text[i] == '\n' ? i + 1 < len ? ';' : '\0' : text[i]);
    err_set(e, EKEYREJECTED, "the certificate of '%.100s' is not trusted: %.200s", name, text);
    return err_hint(e,
                    "trust the authority that signed it: set AWS_CA_BUNDLE or --ca to the "
                    "host's ca.pem (now: %.90s)",
                    t->ca);
}

static int handshake(struct tls_client *t, struct conn *c, const char *name, int64_t deadline,
                     struct err *e)
{
    struct tls_stream *s = c->impl;
    for (;;) {
        int n = mbedtls_ssl_handshake(&s->ssl);
        if (n == 0)
            return 0;
        int r = step_failed(c, n);
        if (r == -EAGAIN) {
            r = conn_wait(c, c->want, deadline);
            if (r == -ETIMEDOUT)
                return err_set(e, ETIMEDOUT, "'%.100s' does not finish the TLS handshake",
                               name);
            if (r < 0)
                return err_sys(e, -r, "wait for '%.100s'", name);
        } else if (n == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
            return not_trusted(t, s, name, e);
        } else if (r == 0 || r == -ECONNRESET) {
            return err_set(e, ECONNRESET,
                           "'%.100s' closed the connection during the TLS "
                           "handshake",
                           name);
        } else {
            mbed_fail(e, EPROTO, n, "TLS handshake");
            return err_wrap(e, "'%.100s'", name);
        }
    }
}

int tls_connect(struct tls_client *t, int fd, const char *name, int64_t deadline,
                struct conn **ret, struct err *e)
{
    struct conn *c = calloc(1, sizeof *c);
    struct tls_stream *s = calloc(1, sizeof *s);
    if (!c || !s) {
        free(c);
        free(s);
        close(fd);
        return err_sys(e, ENOMEM, "open a connection");
    }
    mbedtls_ssl_init(&s->ssl);
    c->ops = &stream_ops;
    c->impl = s;
    c->fd = fd;
    int r = fd_set_nonblock(fd, 1);
    if (r < 0) {
        err_sys(e, -r, "make a socket non-blocking");
    } else if ((r = mbedtls_ssl_setup(&s->ssl, &t->conf)) != 0 ||
               (r = mbedtls_ssl_set_hostname(&s->ssl, name)) != 0) {
        r = mbed_fail(e, EPROTO, r, "set up TLS");
    } else {
        mbedtls_ssl_set_bio(&s->ssl, &c->fd, bio_send, bio_recv, NULL);
        r = handshake(t, c, name, deadline, e);
    }
    if (r < 0) {
        conn_close(c);
        return r;
    }
    *ret = c;
    return 0;
}
