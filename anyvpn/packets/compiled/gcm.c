/* AES-GCM by Intel's multi-buffer library, which takes a third of libcrypto's time for a packet.
 *
 * It is used where its header was there when this was compiled, and loaded when it is first needed:
 * where it is not installed, or another version than the header's, or where the processor has no
 * instructions for AES, libcrypto does it all.
 *
 * Source: intel-ipsec-mb.h, NIST SP 800-38D.
 */

#include <openssl/crypto.h>

#include "engine.h"

static bool is_wanted = true;

void gcm_want(bool wanted) {
    is_wanted = wanted;
}

#if __has_include(<intel-ipsec-mb.h>)

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <intel-ipsec-mb.h>

struct gcm {
    _Alignas(64) struct gcm_key_data key; /* the header asks for that on some systems only */
    bool is_256;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static IMB_MGR *library; /* a table of functions, which no call changes; NULL: there is none */

static void load(void) {
    char name[] = "libIPSec_MB.so.0";
    name[sizeof name - 2] += IMB_VERSION_NUM >> 16; /* the major version */
    void *loaded = dlopen(name, RTLD_NOW | RTLD_LOCAL);
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
    else
        release(made);
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
    uint8_t tag[TAG_BYTES];
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
