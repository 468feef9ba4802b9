// SPDX-License-Identifier: Apache-2.0
/*
 * Endpoint tokens; see token.h. The JOSE header depends on the key alone, so a
 * token's header is compared, not parsed; claims are only looked at after the
 * tag was verified, and must be exactly as token_mint() writes them.
 */
#include "token.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mbedtls/gcm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "digest.h"
#include "durable.h"
#include "uuid.h"

#define KEY_LEN     32u
#define IV_LEN      12u
#define TAG_LEN     16u
#define CLAIMS_MAX  1024u
#define FILE_PREFIX "dormouse-token-key-1 "

struct token_key {
    uint8_t key[KEY_LEN];
    char header[160]; /* base64url of the JOSE header */
};

static void key_free_auto(struct token_key **k)
{
    token_key_free(*k);
}

static void set_header(struct token_key *k)
{
    uint8_t hash[32];
    char kid[17], json[96];
    struct digest d;
    digest_begin(&d, DIGEST_SHA256);
    digest_add(&d, "dormouse token kid", 18);
    digest_add(&d, k->key, sizeof k->key);
    digest_end(&d, hash);
    hex_encode(hash, 8, kid);
    snprintf(json, sizeof json, "{\"alg\":\"dir\",\"enc\":\"A256GCM\",\"kid\":\"%s\"}", kid);
    base64url_encode((uint8_t *)json, strlen(json), k->header);
}

static int make_key(int dir, const char *name, struct token_key *k, struct err *e)
{
    char text[sizeof FILE_PREFIX + 2 * KEY_LEN + 2], hex[2 * KEY_LEN + 1];
    random_fill(k->key, sizeof k->key);
    hex_encode(k->key, sizeof k->key, hex);
    snprintf(text, sizeof text, FILE_PREFIX "%s\n", hex);
    int r = durable_write(dir, name, text, strlen(text), 0600, e);
    explicit_bzero(text, sizeof text);
    explicit_bzero(hex, sizeof hex);
    return r;
}

static int load_key(int dir, const char *name, struct token_key *k, struct err *e)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = fd_read_file(dir, name, 4096, &text, &len, e);
    if (r < 0)
        return r;
    size_t prefix = strlen(FILE_PREFIX);
    bool ok = len == prefix + 2 * KEY_LEN + 1 && text[len - 1] == '\n' &&
              memcmp(text, FILE_PREFIX, prefix) == 0;
    if (ok) {
        text[len - 1] = '\0';
        ok = hex_decode(text + prefix, k->key, sizeof k->key);
    }
    explicit_bzero(text, len);
    if (ok)
        return 0;
    err_set(e, EINVAL, "'%s' is not a token key", name);
    return err_hint(e, "remove the file to have a new key made; tokens given out so far end");
}

int token_key_open(struct token_key **ret, const char *path, struct err *e)
{
    AUTO(key_free_auto) struct token_key *k = calloc(1, sizeof *k);
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *parent = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    if (!k || !parent)
        return err_sys(e, ENOMEM, "open the token key");
    AUTO_CLOSE int dir = open(*parent ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, errno, "open the directory of '%s'", path);
    const char *name = slash ? slash + 1 : path;
    int r;
    if (faccessat(dir, name, F_OK, 0) < 0 && errno == ENOENT)
        r = make_key(dir, name, k, e);
    else
        r = load_key(dir, name, k, e);
    if (r < 0)
        return r;
    set_header(k);
    *ret = TAKE_PTR(k);
    return 0;
}

void token_key_free(struct token_key *k)
{
    if (!k)
        return;
    explicit_bzero(k, sizeof *k);
    free(k);
}

static void write_claims(struct buf *b, const struct token_claims *c)
{
    buf_printf(b, "{\"vm\":\"%s\",\"exp\":%" PRIu64 ",\"use\":\"%s\",\"ports\":[", c->vm_id,
               (uint64_t)c->expires, c->shell ? "shell" : "http");
    for (size_t i = 0; i < c->nranges; i++)
        buf_printf(b, "%s[%u,%u]", i ? "," : "", c->ranges[i].start, c->ranges[i].end);
    buf_str(b, "]}");
}

static bool vm_id_valid(const char *s, size_t len)
{
    if (len == 0 || len >= sizeof((struct token_claims *)0)->vm_id)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool ok = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-';
        if (!ok)
            return false;
    }
    return true;
}

int token_mint(const struct token_key *k, const struct token_claims *c, char *ret, size_t cap,
               struct err *e)
{
    AUTO(buf_free) struct buf claims = BUF_INIT, text = BUF_INIT;
    AUTO(mbedtls_gcm_free) mbedtls_gcm_context gcm;
    uint8_t iv[IV_LEN], tag[TAG_LEN], sealed[CLAIMS_MAX];
    char b64[4 * ((CLAIMS_MAX + 2) / 3) + 1];
    mbedtls_gcm_init(&gcm);
    if (!vm_id_valid(c->vm_id, strnlen(c->vm_id, sizeof c->vm_id)) || c->expires < 0 ||
        c->nranges > TOKEN_RANGES_MAX)
        return err_set(e, EINVAL, "these claims cannot be put into a token");
    write_claims(&claims, c);
    if (claims.bad || claims.len > sizeof sealed)
        return err_set(e, EOVERFLOW, "too many port ranges for one token");
    random_fill(iv, sizeof iv);
    int code = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, k->key, 8 * KEY_LEN);
    if (code == 0)
        code = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, claims.len, iv, sizeof iv,
                                         (const uint8_t *)k->header, strlen(k->header),
                                         claims.data, sealed, sizeof tag, tag);
    if (code != 0)
        return err_set(e, EIO, "the token could not be encrypted (%d)", code);
    buf_str(&text, k->header);
    base64url_encode(iv, sizeof iv, b64);
    buf_printf(&text, "..%s.", b64);
    base64url_encode(sealed, claims.len, b64);
    buf_printf(&text, "%s.", b64);
    base64url_encode(tag, sizeof tag, b64);
    buf_str(&text, b64);
    if (!buf_cstr(&text) || text.len >= cap)
        return err_set(e, EOVERFLOW, "the token is too long");
    memcpy(ret, text.data, text.len + 1);
    return 0;
}

/* Steps over a literal. */
static bool eat(const char **p, const char *literal)
{
    size_t len = strlen(literal);
    if (strncmp(*p, literal, len) != 0)
        return false;
    *p += len;
    return true;
}

static bool eat_number(const char **p, uint64_t max, uint64_t *ret)
{
    size_t len = strspn(*p, "0123456789");
    if (!parse_u64n(*p, len, 0, max, ret))
        return false;
    *p += len;
    return true;
}

static bool read_claims(const char *p, struct token_claims *c)
{
    uint64_t v, w;
    memset(c, 0, sizeof *c);
    if (!eat(&p, "{\"vm\":\""))
        return false;
    size_t len = strcspn(p, "\"");
    if (!vm_id_valid(p, len))
        return false;
    memcpy(c->vm_id, p, len);
    p += len;
    if (!eat(&p, "\",\"exp\":") || !eat_number(&p, (uint64_t)1 << 52, &v))
        return false;
    c->expires = (double)v;
    c->shell = eat(&p, ",\"use\":\"shell\"");
    if ((!c->shell && !eat(&p, ",\"use\":\"http\"")) || !eat(&p, ",\"ports\":["))
        return false;
    while (*p != ']') {
        if (c->nranges == TOKEN_RANGES_MAX || (c->nranges > 0 && !eat(&p, ",")) ||
            !eat(&p, "[") || !eat_number(&p, 65535, &v) || !eat(&p, ",") ||
            !eat_number(&p, 65535, &w) || !eat(&p, "]"))
            return false;
        c->ranges[c->nranges].start = (uint16_t)v;
        c->ranges[c->nranges++].end = (uint16_t)w;
    }
    return eat(&p, "]}") && *p == '\0';
}

/* Decrypts into ret, NUL-terminated. */
static bool unseal(const struct token_key *k, const char *text, char ret[CLAIMS_MAX + 1])
{
    AUTO(mbedtls_gcm_free) mbedtls_gcm_context gcm;
    uint8_t iv[IV_LEN], tag[TAG_LEN], sealed[CLAIMS_MAX];
    size_t iv_len, tag_len, len, header = strlen(k->header);
    mbedtls_gcm_init(&gcm);
    if (strncmp(text, k->header, header) != 0 || strncmp(text + header, "..", 2) != 0)
        return false;
    const char *iv_text = text + header + 2, *dot = strchr(iv_text, '.');
    const char *sealed_text = dot ? dot + 1 : NULL, *end = dot ? strchr(dot + 1, '.') : NULL;
    if (!end || !base64url_decode(iv_text, (size_t)(dot - iv_text), iv, sizeof iv, &iv_len) ||
        !base64url_decode(sealed_text, (size_t)(end - sealed_text), sealed, sizeof sealed,
                          &len) ||
        !base64url_decode(end + 1, strlen(end + 1), tag, sizeof tag, &tag_len) ||
        iv_len != sizeof iv || tag_len != sizeof tag)
        return false;
    if (mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, k->key, 8 * KEY_LEN) != 0 ||
        mbedtls_gcm_auth_decrypt(&gcm, len, iv, sizeof iv, (const uint8_t *)k->header, header,
                                 tag, sizeof tag, sealed, (uint8_t *)ret) != 0)
        return false;
    ret[len] = '\0';
    return true;
}

int token_verify(const struct token_key *k, const char *text, double now,
                 struct token_claims *ret, struct err *e)
{
    char claims[CLAIMS_MAX + 1];
    if (strnlen(text, TOKEN_TEXT_MAX + 1) > TOKEN_TEXT_MAX || !unseal(k, text, claims) ||
        !read_claims(claims, ret))
        return err_set(e, EACCES, "the token is not one of this installation");
    if (now >= ret->expires)
        return err_set(e, EACCES, "the token has expired");
    return 0;
}

bool token_allows(const struct token_claims *c, uint16_t port)
{
    for (size_t i = 0; i < c->nranges; i++) {
        if (port >= c->ranges[i].start && port <= c->ranges[i].end)
            return true;
    }
    return false;
}
