/* AES-GCM by Intel's multi-buffer library, which takes a third of libcrypto's time for a packet.
 *
 * It is used where its header was there when this was compiled, and loaded when it is first needed:
 * where it is not installed, or another version than the header's, where the processor has no
 * instructions for AES, or OpenSSL is in FIPS mode, libcrypto does it all.
 *
 * Source: intel-ipsec-mb.h, NIST SP 800-38D.
 */

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "engine.h"

static bool is_wanted = true;

void gcm_want(bool wanted) {
    is_wanted = wanted;
}

#if __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>
#endif

#if defined(IMB_VERSION_NUM) && IMB_VERSION_NUM >> 16 == 1 /* others have another interface */

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct gcm {
    _Alignas(64) struct gcm_key_data key; /* the header asks for that on some systems only */
    bool is_256;
};

/* From NIST's "The Galois/Counter Mode of Operation", test cases 2 and 14 */
static const uint8_t tag_128[] = {0xab, 0x6e, 0x47, 0xd4, 0x2c, 0xec, 0x13, 0xbd,
                                  0xf5, 0x3a, 0x67, 0xb2, 0x12, 0x57, 0xbd, 0xdf};
static const uint8_t tag_256[] = {0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0,
                                  0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static IMB_MGR *library; /* a table of functions, which no call changes; NULL: there is none */

/* Whether it does what NIST's first vectors say (zeros for all but the tag), and takes no forged tag. */
static bool is_right(enum cipher cipher, const uint8_t tag[TAG_BYTES]) {
    static const uint8_t zeros[32];
    uint8_t data[TAG_BYTES + TAG_BYTES] = {0}, opened[TAG_BYTES];
    gcm *made = gcm_new(cipher, zeros);
    if (made == NULL)
        return false;
    gcm_seal(made, zeros, NULL, 0, data, TAG_BYTES);
    bool right = memcmp(data + TAG_BYTES, tag, TAG_BYTES) == 0 &&
                 gcm_open(made, zeros, NULL, 0, data, TAG_BYTES, opened) && memcmp(opened, zeros, TAG_BYTES) == 0;
    data[sizeof data - 1] ^= 1;
    right = right && !gcm_open(made, zeros, NULL, 0, data, TAG_BYTES, opened);
    gcm_free(made);
    return right;
}

static void load(void) {
    if (EVP_default_properties_is_fips_enabled(NULL))
        return; /* whoever wants validated ciphers has libcrypto's */
    void *loaded = dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);
    if (loaded == NULL)
        return;
    unsigned (*version)(void) = (unsigned (*)(void))dlsym(loaded, "imb_get_version");
    IMB_MGR *(*allocate)(uint64_t) = (IMB_MGR * (*)(uint64_t)) dlsym(loaded, "alloc_mb_mgr");
    void (*init)(IMB_MGR *, IMB_ARCH *) = (void (*)(IMB_MGR *, IMB_ARCH *))dlsym(loaded, "init_mb_mgr_auto");
    void (*release)(IMB_MGR *) = (void (*)(IMB_MGR *))dlsym(loaded, "free_mb_mgr");
    /* The table is laid out as the header says in the same minor version */
    bool is_known = version != NULL && version() >> 8 == IMB_VERSION_NUM >> 8;
    if (!is_known || allocate == NULL || init == NULL || release == NULL)
        return;
    IMB_MGR *made = allocate(0);
    if (made == NULL)
        return;
    init(made, NULL);
    const uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
    if ((made->features & needed) == needed && !(made->features & IMB_FEATURE_AESNI_EMU))
        library = made;
    if (library == NULL || !is_right(AES_128_GCM, tag_128) || !is_right(AES_256_GCM, tag_256)) {
        library = NULL;
        release(made);
    }
}

const char *gcm_library(void) {
    pthread_once(&once, load);
    return library != NULL && is_wanted ? "libipsec-mb " IMB_VERSION_STR : NULL;
}

gcm *gcm_new(enum cipher cipher, const uint8_t *key) {
    void *room = NULL;
    errno = posix_memalign(&room, _Alignof(gcm), sizeof(gcm));
    if (errno)
        return NULL;
    gcm *made = room;
    made->is_256 = cipher == AES_256_GCM;
    if (made->is_256)
        IMB_AES256_GCM_PRE(library, key, &made->key);
    else
        IMB_AES128_GCM_PRE(library, key, &made->key);
    return made;
}

void gcm_free(gcm *gcm) {
    if (gcm != NULL)
        OPENSSL_cleanse(gcm, sizeof *gcm);
    free(gcm);
}

void gcm_seal(const gcm *gcm, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
              size_t covered_size, uint8_t *data, size_t size) {
    struct gcm_context_data context;
    aes_gcm_enc_dec_t seal = gcm->is_256 ? library->gcm256_enc : library->gcm128_enc;
    seal(&gcm->key, &context, data, data, size, nonce, covered, covered_size, data + size, TAG_BYTES);
}

bool gcm_open(const gcm *gcm, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
              size_t covered_size, const uint8_t *data, size_t size, uint8_t *out) {
    struct gcm_context_data context;
    uint8_t tag[TAG_BYTES] = {0};
    aes_gcm_enc_dec_t open = gcm->is_256 ? library->gcm256_dec : library->gcm128_dec;
    open(&gcm->key, &context, out, data, size, nonce, covered, covered_size, tag, TAG_BYTES);
    return CRYPTO_memcmp(tag, data + size, TAG_BYTES) == 0;
}

#else

const char *gcm_library(void) {
    return NULL;
}

gcm *gcm_new(enum cipher cipher, const uint8_t *key) {
    (void)cipher, (void)key;
    return NULL;
}

void gcm_free(gcm *gcm) {
    (void)gcm;
}

void gcm_seal(const gcm *gcm, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
              size_t covered_size, uint8_t *data, size_t size) {
    (void)gcm, (void)nonce, (void)covered, (void)covered_size, (void)data, (void)size;
}

bool gcm_open(const gcm *gcm, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
              size_t covered_size, const uint8_t *data, size_t size, uint8_t *out) {
    (void)gcm, (void)nonce, (void)covered, (void)covered_size, (void)data, (void)size, (void)out;
    return false;
}

#endif
