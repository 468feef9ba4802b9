// SPDX-License-Identifier: Apache-2.0
/* The installation's certificate authority; see ca.h. */
#include "ca.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "durable.h"
#include "mbed.h"
#include "uuid.h"

#define DAY            86400
#define CA_DAYS        3650
#define SERVER_DAYS    397 /* clients refuse longer ones */
#define RENEW_DAYS     30
#define BACKDATE_DAYS  1 /* clients' clocks differ */
#define ISSUER         "CN=Dormouse CA,O=Dormouse"
#define SERVER_SUBJECT "CN=Dormouse,O=Dormouse"

/* Reads PEM text of a file; -ENOENT without an error text when it is not there. */
static int read_pem(int dir, const char *name, char **ret, size_t *ret_len, struct err *e)
{
    if (faccessat(dir, name, F_OK, 0) < 0 && errno == ENOENT)
        return -ENOENT;
    return fd_read_file(dir, name, 1 << 16, ret, ret_len, e);
}

static int load_key(int dir, const char *name, mbedtls_pk_context *ret, struct err *e)
{
    AUTO_FREE char *pem = NULL;
    size_t len = 0;
    int r = read_pem(dir, name, &pem, &len, e);
    if (r < 0)
        return r;
    int code =
        mbedtls_pk_parse_key(ret, (unsigned char *)pem, len + 1, NULL, 0, mbed_random, NULL);
    explicit_bzero(pem, len);
    return code == 0 ? 0 : (mbed_fail(e, EIO, code, "parse"), err_wrap(e, "'%s'", name));
}

static int load_cert(int dir, const char *name, mbedtls_x509_crt *ret, struct err *e)
{
    AUTO_FREE char *pem = NULL;
    size_t len = 0;
    int r = read_pem(dir, name, &pem, &len, e);
    if (r < 0)
        return r;
    int code = mbedtls_x509_crt_parse(ret, (unsigned char *)pem, len + 1);
    return code == 0 ? 0 : (mbed_fail(e, EIO, code, "parse"), err_wrap(e, "'%s'", name));
}

static int make_key(int dir, const char *name, mbedtls_pk_context *ret, struct err *e)
{
    unsigned char pem[2048];
    int code = mbedtls_pk_setup(ret, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (code == 0)
        code = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*ret), mbed_random,
                                   NULL);
    if (code == 0)
        code = mbedtls_pk_write_key_pem(ret, pem, sizeof pem);
    if (code != 0)
        return mbed_fail(e, EIO, code, "make a key");
    int r = durable_write(dir, name, pem, strlen((char *)pem), 0600, e);
    explicit_bzero(pem, sizeof pem);
    return r;
}

static int set_validity(mbedtls_x509write_cert *w, int64_t now, int days)
{
    char from[24], to[24];
    time_t begin = (time_t)(now - BACKDATE_DAYS * DAY),
           end = (time_t)(now + (int64_t)days * DAY);
    struct tm tm;
    gmtime_r(&begin, &tm);
    strftime(from, sizeof from, "%Y%m%d%H%M%S", &tm);
    gmtime_r(&end, &tm);
    strftime(to, sizeof to, "%Y%m%d%H%M%S", &tm);
    return mbedtls_x509write_crt_set_validity(w, from, to);
}

static int set_serial(mbedtls_x509write_cert *w)
{
    unsigned char serial[16];
    random_fill(serial, sizeof serial);
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40); /* positive, no leading zero */
    return mbedtls_x509write_crt_set_serial_raw(w, serial, sizeof serial);
}

static int write_cert(int dir, const char *name, mbedtls_x509write_cert *w, struct err *e)
{
    unsigned char pem[8192];
    int code = mbedtls_x509write_crt_pem(w, pem, sizeof pem, mbed_random, NULL);
    if (code != 0)
        return mbed_fail(e, EIO, code, "sign a certificate");
    return durable_write(dir, name, pem, strlen((char *)pem), 0644, e);
}

/* What both kinds have in common. */
static int begin_cert(mbedtls_x509write_cert *w, mbedtls_pk_context *subject,
                      mbedtls_pk_context *issuer, const char *name, int64_t now, int days)
{
    mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(w, subject);
    mbedtls_x509write_crt_set_issuer_key(w, issuer);
    int r = mbedtls_x509write_crt_set_issuer_name(w, ISSUER);
    if (r == 0)
        r = mbedtls_x509write_crt_set_subject_name(w, name);
    if (r == 0)
        r = set_serial(w);
    if (r == 0)
        r = set_validity(w, now, days);
    if (r == 0)
        r = mbedtls_x509write_crt_set_subject_key_identifier(w);
    if (r == 0)
        r = mbedtls_x509write_crt_set_authority_key_identifier(w);
    return r;
}

static int make_ca(int dir, int64_t now, mbedtls_pk_context *key, struct err *e)
{
    AUTO(mbedtls_x509write_crt_free) mbedtls_x509write_cert w;
    mbedtls_x509write_crt_init(&w);
    int r = make_key(dir, "ca.key", key, e);
    if (r < 0)
        return r;
    int code = begin_cert(&w, key, key, ISSUER, now, CA_DAYS);
    if (code == 0)
        code = mbedtls_x509write_crt_set_basic_constraints(&w, 1, 0);
    if (code == 0)
        code = mbedtls_x509write_crt_set_key_usage(&w, MBEDTLS_X509_KU_KEY_CERT_SIGN |
                                                           MBEDTLS_X509_KU_CRL_SIGN);
    if (code != 0)
        return mbed_fail(e, EIO, code, "make the CA certificate");
    return write_cert(dir, "ca.pem", &w, e);
}

/* One subject alternative name: an address when it parses as one, else a DNS name. */
static void fill_san(mbedtls_x509_san_list *san, const char *name, uint8_t address[16])
{
    mbedtls_x509_buf *value = &san->node.san.unstructured_name;
    san->node.type = MBEDTLS_X509_SAN_IP_ADDRESS;
    value->p = address;
    if (inet_pton(AF_INET, name, address) == 1) {
        value->len = 4;
    } else if (inet_pton(AF_INET6, name, address) == 1) {
        value->len = 16;
    } else {
        san->node.type = MBEDTLS_X509_SAN_DNS_NAME;
        value->p = (unsigned char *)(uintptr_t)name;
        value->len = strlen(name);
    }
}

static int set_names(mbedtls_x509write_cert *w, const struct ca_config *c)
{
    mbedtls_x509_san_list list[CA_NAMES_MAX];
    uint8_t addresses[CA_NAMES_MAX][16];
    memset(list, 0, sizeof list);
    for (size_t i = 0; i < c->nnames; i++) {
        fill_san(&list[i], c->names[i], addresses[i]);
        if (i > 0)
            list[i - 1].next = &list[i];
    }
    return mbedtls_x509write_crt_set_subject_alternative_name(w, list);
}

static int set_server_usage(mbedtls_x509write_cert *w)
{
    mbedtls_asn1_sequence server_auth = {
        .buf = {.tag = MBEDTLS_ASN1_OID,
                .len = MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH),
                .p = (unsigned char *)(uintptr_t)MBEDTLS_OID_SERVER_AUTH},
    };
    int code = mbedtls_x509write_crt_set_basic_constraints(w, 0, -1);
    if (code == 0)
        code = mbedtls_x509write_crt_set_key_usage(w, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    if (code == 0)
        code = mbedtls_x509write_crt_set_ext_key_usage(w, &server_auth);
    return code;
}

static int make_server(int dir, const struct ca_config *c, mbedtls_pk_context *ca_key,
                       const char *names, struct err *e)
{
    AUTO(mbedtls_x509write_crt_free) mbedtls_x509write_cert w;
    AUTO(mbedtls_pk_free) mbedtls_pk_context key;
    mbedtls_x509write_crt_init(&w);
    mbedtls_pk_init(&key);
    /* The key stays over renewals, so no moment exists at which key and certificate differ. */
    int r = load_key(dir, "server.key", &key, e);
    if (r == -ENOENT)
        r = make_key(dir, "server.key", &key, e);
    if (r < 0)
        return r;
    int code = begin_cert(&w, &key, ca_key, SERVER_SUBJECT, c->now, SERVER_DAYS);
    if (code == 0)
        code = set_names(&w, c);
    if (code == 0)
        code = set_server_usage(&w);
    if (code != 0)
        return mbed_fail(e, EIO, code, "make the server certificate");
    r = write_cert(dir, "server.pem", &w, e);
    return r < 0 ? r : durable_write(dir, "server.names", names, strlen(names), 0644, e);
}

static int64_t cert_end(const mbedtls_x509_crt *crt)
{
    const mbedtls_x509_time *t = &crt->valid_to;
    struct tm tm = {
        .tm_year = t->year - 1900,
        .tm_mon = t->mon - 1,
        .tm_mday = t->day,
        .tm_hour = t->hour,
        .tm_min = t->min,
        .tm_sec = t->sec,
    };
    return timegm(&tm);
}

/* Present, signed by this CA, for these names, and good for a while. */
static bool server_is_good(int dir, const struct ca_config *c, mbedtls_x509_crt *ca,
                           const char *names)
{
    AUTO_FREE char *old = NULL;
    AUTO(mbedtls_x509_crt_free) mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    uint32_t flags;
    if (read_pem(dir, "server.names", &old, NULL, NULL) < 0 || strcmp(old, names) != 0 ||
        load_cert(dir, "server.pem", &crt, NULL) < 0 ||
        faccessat(dir, "server.key", R_OK, 0) < 0)
        return false;
    if (cert_end(&crt) < c->now + (int64_t)RENEW_DAYS * DAY)
        return false;
    int code = mbedtls_x509_crt_verify(&crt, ca, NULL, NULL, &flags, NULL, NULL);
    return code == 0;
}

/* The directory may be a stranger's: what is there is read only if it is a plain file. */
static bool has_copy(int dir, const char *pem, size_t len)
{
    char there[8192];
    struct stat st;
    AUTO_CLOSE int fd = openat(dir, "ca.pem", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)len &&
           len <= sizeof there && fd_pread_full(fd, there, len, 0) == 0 &&
           memcmp(there, pem, len) == 0;
}

static int export_ca(int dir, int to, struct err *e)
{
    AUTO_FREE char *pem = NULL;
    size_t len = 0;
    int r = fd_read_file(dir, "ca.pem", 1 << 16, &pem, &len, e);
    if (r < 0 || has_copy(to, pem, len))
        return r;
    return durable_write(to, "ca.pem", pem, len, 0644, e);
}

int ca_ensure(int dir, const struct ca_config *c, bool *ret_renewed, struct err *e)
{
    AUTO(mbedtls_pk_free) mbedtls_pk_context key;
    AUTO(mbedtls_x509_crt_free) mbedtls_x509_crt ca;
    AUTO(buf_free) struct buf names = BUF_INIT;
    mbedtls_pk_init(&key);
    mbedtls_x509_crt_init(&ca);
    for (size_t i = 0; i < c->nnames; i++)
        buf_printf(&names, "%s\n", c->names[i]);
    if (!buf_cstr(&names))
        return err_sys(e, ENOMEM, "prepare certificates");
    int r = load_key(dir, "ca.key", &key, e);
    if (r == 0)
        r = load_cert(dir, "ca.pem", &ca, e);
    /* A key without its certificate is what a crash between the two writes leaves. */
    bool fresh = r == -ENOENT || (r == 0 && cert_end(&ca) < c->now + (int64_t)RENEW_DAYS * DAY);
    if (r < 0 && r != -ENOENT)
        return r;
    if (fresh) {
        mbedtls_pk_free(&key);
        mbedtls_pk_init(&key);
        mbedtls_x509_crt_free(&ca);
        mbedtls_x509_crt_init(&ca);
        r = make_ca(dir, c->now, &key, e);
        if (r == 0)
            r = load_cert(dir, "ca.pem", &ca, e);
        if (r < 0)
            return r;
    }
    bool renew = !server_is_good(dir, c, &ca, (const char *)names.data);
    if (renew) {
        r = make_server(dir, c, &key, (const char *)names.data, e);
        if (r < 0)
            return r;
    }
    if (ret_renewed)
        *ret_renewed = renew;
    return c->export_dir >= 0 ? export_ca(dir, c->export_dir, e) : 0;
}
