// SPDX-License-Identifier: Apache-2.0
/*
 * The installation's CA and TLS: when certificates are made, kept and renewed,
 * and handshakes of a real client against them.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../api/ca.h"
#include "../../api/certs.h"
#include "../../api/durable.h"
#include "../../api/tls.h"
#include "../../api/uuid.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#define DAY 86400

static char dir[64], tls_dir[80], cert[100], key[100], ca_copy[100];

static int ensure(int64_t now, const char *more_name, bool *renewed)
{
    struct err e = ERR_INIT;
    AUTO_CLOSE int at = -1, to = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct ca_config c = {.export_dir = to,
                          .names = {"localhost", "*.lambda-microvm.r.localhost", "127.0.0.1"},
                          .nnames = 3,
                          .now = now};
    if (more_name)
        c.names[c.nnames++] = more_name;
    int r = durable_dir(AT_FDCWD, tls_dir, &at, &e);
    if (r == 0)
        r = ca_ensure(at, &c, renewed, &e);
    if (r < 0)
        printf("# %s\n", e.msg);
    return r;
}

static char *slurp(const char *name)
{
    char path[160], *text = NULL;
    snprintf(path, sizeof path, "%s/%s", tls_dir, name);
    if (fd_read_file(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
        return strdup("");
    return text;
}

static bool file_is(const char *name, const char *text)
{
    AUTO_FREE char *now = slurp(name);
    return strcmp(now, text) == 0;
}

TEST(certificates)
{
    bool renewed;
    struct stat st;
    int64_t now = time(NULL);
    CHECK(ensure(now, NULL, &renewed) == 0 && renewed);
    AUTO_FREE char *ca = slurp("ca.pem"), *server = slurp("server.pem");
    AUTO_FREE char *server_key = slurp("server.key");
    CHECK(stat(key, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(stat(ca_copy, &st) == 0 && strstr(ca, "BEGIN CERTIFICATE"));
    /* Kept while it is good for a month. */
    CHECK(ensure(now + 366 * DAY, NULL, &renewed) == 0 && !renewed);
    CHECK(file_is("server.pem", server));
    /* Renewed before it ends: the same CA and key. */
    CHECK(ensure(now + 368 * DAY, NULL, &renewed) == 0 && renewed);
    CHECK(!file_is("server.pem", server) && file_is("ca.pem", ca));
    CHECK(file_is("server.key", server_key));
    /* Another name, and the name gone again. */
    CHECK(ensure(now, "box.example.org", &renewed) == 0 && renewed);
    CHECK(ensure(now, "box.example.org", &renewed) == 0 && !renewed);
    CHECK(ensure(now, NULL, &renewed) == 0 && renewed && file_is("ca.pem", ca));
    /* A crash between writing key and certificate. */
    char path[160];
    snprintf(path, sizeof path, "%s/server.pem", tls_dir);
    CHECK(unlink(path) == 0 && ensure(now, NULL, &renewed) == 0 && renewed);
    snprintf(path, sizeof path, "%s/ca.pem", tls_dir);
    CHECK(unlink(path) == 0 && ensure(now, NULL, &renewed) == 0 && renewed);
    CHECK(!file_is("ca.pem", ca)); /* a new CA, and a server certificate of it */
    /* A damaged key is not replaced silently: clients trust this CA. */
    snprintf(path, sizeof path, "%s/ca.key", tls_dir);
    CHECK(truncate(path, 20) == 0);
    struct ca_config c = {.export_dir = -1, .names = {"x"}, .nnames = 1, .now = now};
    struct err e = ERR_INIT;
    AUTO_CLOSE int at = open(tls_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(ca_ensure(at, &c, NULL, &e) < 0 && strstr(e.msg, "ca.key"));
    CHECK(unlink(path) == 0 && ensure(now, NULL, &renewed) == 0 && renewed);
}

static bool there(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/box/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* A CA that lay where the network-facing process could read it goes to a directory of ours, and
 * clients go on trusting it; what somebody else has put there is not believed. */
TEST(own_directory)
{
    static struct config c;
    struct err e = ERR_INIT;
    struct stat st;
    bool renewed = false;
    char path[200], to[200];
    snprintf(c.state, sizeof c.state, "%s/box", dir);
    snprintf(c.domain, sizeof c.domain, "localhost");
    snprintf(c.region, sizeof c.region, "r");
    snprintf(path, sizeof path, "%s/box/tls", dir);
    AUTO_CLOSE int old = -1;
    struct ca_config ca = {.export_dir = -1, .names = {"x"}, .nnames = 1, .now = time(NULL)};
    CHECK(durable_dir(AT_FDCWD, path, &old, &e) == 0 && ca_ensure(old, &ca, NULL, &e) == 0);
    AUTO_FREE char *before = NULL, *after = NULL, *copy = NULL;
    CHECK(fd_read_file(old, "ca.pem", 65536, &before, NULL, NULL) == 0);
    CHECK(certs_ensure(&c, &renewed, &e) == 0 && renewed);
    CHECK(!there("tls") && there("ca/ca.key") && there("ca/server.key"));
    snprintf(path, sizeof path, "%s/box/ca/ca.pem", dir);
    CHECK(fd_read_file(AT_FDCWD, path, 65536, &after, NULL, NULL) == 0);
    CHECK_STR(after, before);
    snprintf(path, sizeof path, "%s/box/ca.pem", dir);
    CHECK(fd_read_file(AT_FDCWD, path, 65536, &copy, NULL, NULL) == 0);
    CHECK_STR(copy, before);
    snprintf(path, sizeof path, "%s/box/ca", dir);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0700);
    CHECK(certs_ensure(&c, &renewed, &e) == 0 && !renewed);

    CHECK(chmod(path, 0755) == 0 && certs_ensure(&c, &renewed, &e) == -EPERM);
    snprintf(to, sizeof to, "%s/box/elsewhere", dir);
    CHECK(chmod(path, 0700) == 0 && rename(path, to) == 0 && symlink(to, path) == 0);
    CHECK(certs_ensure(&c, &renewed, &e) < 0);
    CHECK(unlink(path) == 0);
    /* A trap in the place of the copy is not waited for. */
    snprintf(to, sizeof to, "%s/box/ca.pem", dir);
    CHECK(unlink(to) == 0 && mkfifo(to, 0600) == 0);
    CHECK(certs_ensure(&c, &renewed, &e) == 0 && renewed);
    CHECK(lstat(to, &st) == 0 && S_ISREG(st.st_mode));
    snprintf(c.tls_cert, sizeof c.tls_cert, "/no/such/file");
    CHECK(certs_ensure(&c, &renewed, &e) == 0 && !renewed);
}

/* ---- handshakes ------------------------------------------------------------------------ */

static int rng(void *ctx, unsigned char *data, size_t len)
{
    (void)ctx;
    random_fill(data, len);
    return 0;
}

static int client_send(void *ctx, const unsigned char *data, size_t len)
{
    ssize_t n = send(*(int *)ctx, data, len, MSG_NOSIGNAL);
    return n < 0 ? MBEDTLS_ERR_NET_SEND_FAILED : (int)n;
}

static int client_recv(void *ctx, unsigned char *data, size_t cap)
{
    ssize_t n = recv(*(int *)ctx, data, cap, 0);
    return n < 0 ? MBEDTLS_ERR_NET_RECV_FAILED : (int)n;
}

struct client {
    const char *name, *alpn;
    mbedtls_x509_crt *own; /* or NULL: shows no certificate */
    mbedtls_pk_context *own_key;
    mbedtls_ssl_protocol_version max;
    /* results */
    int code;
    char got[8];
    const char *version;
    uint32_t verify;
};

static void client_run(struct client *c, int fd)
{
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt ca;
    const char *protocols[2] = {c->alpn, NULL};
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&conf);
    mbedtls_x509_crt_init(&ca);
    mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_rng(&conf, rng, NULL);
    mbedtls_ssl_conf_max_tls_version(&conf, c->max);
    if (c->alpn)
        mbedtls_ssl_conf_alpn_protocols(&conf, protocols);
    mbedtls_x509_crt_parse_file(&ca, ca_copy);
    mbedtls_ssl_conf_ca_chain(&conf, &ca, NULL);
    mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_REQUIRED);
    if (c->own)
        mbedtls_ssl_conf_own_cert(&conf, c->own, c->own_key);
    c->code = mbedtls_ssl_setup(&ssl, &conf);
    mbedtls_ssl_set_hostname(&ssl, c->name);
    mbedtls_ssl_set_bio(&ssl, &fd, client_send, client_recv, NULL);
    if (c->code == 0)
        c->code = mbedtls_ssl_handshake(&ssl);
    if (c->code == 0) {
        mbedtls_ssl_write(&ssl, (const unsigned char *)"ping", 4);
        do {
            c->code = mbedtls_ssl_read(&ssl, (unsigned char *)c->got, sizeof c->got - 1);
        } while (c->code == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET);
    }
    c->version = mbedtls_ssl_get_version(&ssl);
    c->verify = mbedtls_ssl_get_verify_result(&ssl);
    mbedtls_ssl_free(&ssl);
    mbedtls_ssl_config_free(&conf);
    mbedtls_x509_crt_free(&ca);
}

struct serving {
    struct tls *tls;
    int fd, result;
    char sni[256];
};

static void *serve(void *arg)
{
    struct serving *s = arg;
    struct conn *c;
    char data[8];
    if (tls_conn(s->tls, s->fd, &c, NULL) < 0)
        abort();
    s->result = tls_handshake(c, clock_ms() + 5000, NULL);
    if (s->result == 0) {
        ssize_t n = conn_read(c, data, sizeof data, clock_ms() + 5000);
        s->result = n == 4 ? conn_write(c, "pong", 4, 5000) : (int)n;
    }
    snprintf(s->sni, sizeof s->sni, "%s", c->sni);
    conn_finish(c);
    conn_close(c);
    return NULL;
}

static struct serving meet(struct tls *t, struct client *c)
{
    struct serving s = {.tls = t};
    int pair[2];
    pthread_t thread;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        abort();
    s.fd = pair[0];
    pthread_create(&thread, NULL, serve, &s);
    client_run(c, pair[1]);
    close(pair[1]);
    pthread_join(thread, NULL);
    return s;
}

TEST(handshakes)
{
    struct tls *t = NULL;
    struct err e = ERR_INIT;
    CHECK(tls_open(&t, cert, key, &e) == 0);
    struct client c = {
        .name = "localhost", .alpn = "http/1.1", .max = MBEDTLS_SSL_VERSION_TLS1_3};
    struct serving s = meet(t, &c);
    CHECK(c.code == 4 && c.verify == 0 && s.result == 0);
    CHECK_STR(c.version ? c.version : "", "TLSv1.3");
    CHECK_STR(s.sni, "localhost");
    c = (struct client){.name = "A.lambda-microvm.r.localhost",
                        .max = MBEDTLS_SSL_VERSION_TLS1_2};
    s = meet(t, &c);
    CHECK(c.code == 4 && c.verify == 0);
    CHECK_STR(c.version ? c.version : "", "TLSv1.2");
    CHECK_STR(s.sni, "a.lambda-microvm.r.localhost");
    /* A name that the certificate does not have; a protocol that we do not speak. */
    c = (struct client){.name = "example.org", .max = MBEDTLS_SSL_VERSION_TLS1_3};
    meet(t, &c);
    CHECK(c.code < 0);
    c = (struct client){.name = "localhost", .alpn = "h2", .max = MBEDTLS_SSL_VERSION_TLS1_3};
    meet(t, &c);
    CHECK(c.code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
    tls_close(t);
}

TEST(reload)
{
    struct tls *t = NULL;
    struct err e = ERR_INIT;
    bool reloaded = true, renewed;
    CHECK(tls_open(&t, cert, key, &e) == 0);
    CHECK(tls_reload_if_changed(t, &reloaded, &e) == 0 && !reloaded);
    CHECK(ensure(time(NULL), "new.example.org", &renewed) == 0 && renewed);
    CHECK(tls_reload_if_changed(t, &reloaded, &e) == 0 && reloaded);
    struct client c = {.name = "new.example.org", .max = MBEDTLS_SSL_VERSION_TLS1_3};
    meet(t, &c);
    CHECK(c.code == 4 && c.verify == 0);
    /* A file that is no certificate: said, and the old one goes on. */
    int fd = open(cert, O_WRONLY | O_TRUNC);
    CHECK(fd_write_full(fd, "nonsense", 8) == 0);
    close(fd);
    CHECK(tls_reload(t, &e) < 0 && e.num != 0);
    meet(t, &c);
    CHECK(c.code == 4);
    tls_close(t);
    CHECK(tls_open(&t, cert, key, &e) < 0);
    CHECK(tls_open(&t, "/nonexistent", key, &e) == -ENOENT);
}

/* ---- clients with certificates ----------------------------------------------------------- */

struct identity {
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;
};

/* One signed by the CA whose key this is. */
static void make_identity(struct identity *i, const char *ca_key)
{
    mbedtls_x509write_cert w;
    mbedtls_pk_context issuer;
    unsigned char der[4096];
    mbedtls_x509write_crt_init(&w);
    mbedtls_pk_init(&issuer);
    mbedtls_x509_crt_init(&i->crt);
    mbedtls_pk_init(&i->key);
    mbedtls_pk_setup(&i->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(i->key), rng, NULL);
    CHECK(mbedtls_pk_parse_keyfile(&issuer, ca_key, NULL, rng, NULL) == 0);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, &i->key);
    mbedtls_x509write_crt_set_issuer_key(&w, &issuer);
    mbedtls_x509write_crt_set_issuer_name(&w, "CN=Dormouse CA,O=Dormouse");
    mbedtls_x509write_crt_set_subject_name(&w, "CN=operator");
    mbedtls_x509write_crt_set_serial_raw(&w, (unsigned char[]){0x41, 1}, 2);
    mbedtls_x509write_crt_set_validity(&w, "20200101000000", "20400101000000");
    int n = mbedtls_x509write_crt_der(&w, der, sizeof der, rng, NULL);
    CHECK(n > 0 &&
          mbedtls_x509_crt_parse_der(&i->crt, der + sizeof der - (size_t)n, (size_t)n) == 0);
    mbedtls_x509write_crt_free(&w);
    mbedtls_pk_free(&issuer);
}

static void drop_identity(struct identity *i)
{
    mbedtls_x509_crt_free(&i->crt);
    mbedtls_pk_free(&i->key);
}

static int open_file(void *ctx, enum tls_file which, int *ret_fd, struct err *e)
{
    const char *const names[] = {cert, key, ca_copy};
    (void)ctx;
    *ret_fd = open(names[which], O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? err_sys(e, errno, "open") : 0;
}

static bool is_endpoint(void *ctx, const char *name)
{
    (void)ctx;
    return strstr(name, ".lambda-microvm.") != NULL;
}

/* A good certificate, a stranger's, none; for the API and for an endpoint. */
TEST(client_certificates)
{
    struct tls *t = NULL;
    struct err e = ERR_INIT;
    bool renewed;
    char other[100], ca_key[160];
    struct identity good, stranger;
    const struct tls_source from = {
        .open = open_file, .client_ca = true, .open_to_all = is_endpoint};
    CHECK(ensure(time(NULL), NULL, &renewed) == 0);
    snprintf(other, sizeof other, "%s/other", dir);
    struct ca_config oc = {.export_dir = -1, .names = {"x"}, .nnames = 1, .now = time(NULL)};
    AUTO_CLOSE int at = -1;
    CHECK(durable_dir(AT_FDCWD, other, &at, &e) == 0 && ca_ensure(at, &oc, NULL, &e) == 0);
    snprintf(ca_key, sizeof ca_key, "%s/ca.key", tls_dir);
    make_identity(&good, ca_key);
    snprintf(ca_key, sizeof ca_key, "%s/ca.key", other);
    make_identity(&stranger, ca_key);
    CHECK(tls_open_from(&t, &from, &e) == 0);
    static const mbedtls_ssl_protocol_version versions[] = {MBEDTLS_SSL_VERSION_TLS1_3,
                                                            MBEDTLS_SSL_VERSION_TLS1_2};
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct client c = {.name = "localhost", .max = versions[v]};
        struct serving s = meet(t, &c);
        CHECK(s.result < 0 && c.code < 0);
        c = (struct client){
            .name = "localhost", .max = versions[v], .own = &good.crt, .own_key = &good.key};
        s = meet(t, &c);
        CHECK(s.result == 0 && c.code == 4);
        c = (struct client){.name = "localhost",
                            .max = versions[v],
                            .own = &stranger.crt,
                            .own_key = &stranger.key};
        s = meet(t, &c);
        CHECK(s.result < 0 && c.code < 0);
        c = (struct client){.name = "a.lambda-microvm.r.localhost", .max = versions[v]};
        s = meet(t, &c);
        CHECK(s.result == 0 && c.code == 4);
    }
    tls_close(t);
    drop_identity(&good);
    drop_identity(&stranger);
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int main(void)
{
    snprintf(dir, sizeof dir, "/tmp/dormouse-test-tls.XXXXXX");
    if (!mkdtemp(dir) || tls_library_init(NULL) < 0)
        return 1;
    snprintf(tls_dir, sizeof tls_dir, "%s/tls", dir);
    snprintf(cert, sizeof cert, "%s/server.pem", tls_dir);
    snprintf(key, sizeof key, "%s/server.key", tls_dir);
    snprintf(ca_copy, sizeof ca_copy, "%s/ca.pem", dir);
    RUN(certificates);
    RUN(own_directory);
    RUN(handshakes);
    RUN(client_certificates);
    RUN(reload);
    nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS);
    return TAP_DONE();
}
