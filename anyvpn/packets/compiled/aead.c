/* One direction's AEAD, which keeps the key, whatever the record around it: libcrypto's, or gcm.c's. */

#include <openssl/crypto.h>

#include "engine.h"

static const EVP_CIPHER *evp_cipher(enum cipher cipher) {
    switch (cipher) {
    case AES_128_GCM:
        return EVP_aes_128_gcm();
    case AES_256_GCM:
        return EVP_aes_256_gcm();
    case CHACHA20_POLY1305:
        return EVP_chacha20_poly1305();
    }
    return NULL;
}

size_t cipher_key_bytes(enum cipher cipher) {
    return cipher == AES_128_GCM ? 16 : 32;
}

bool aead_init(aead *aead, enum cipher cipher, const uint8_t *key, bool seals) {
    if (cipher != CHACHA20_POLY1305 && gcm_library() != NULL) {
        aead->gcm = gcm_new(cipher, key);
        return aead->gcm != NULL;
    }
    aead->context = EVP_CIPHER_CTX_new();
    return aead->context != NULL &&
           EVP_CipherInit_ex(aead->context, evp_cipher(cipher), NULL, key, NULL, seals) == 1;
}

void aead_clear(aead *aead) {
    EVP_CIPHER_CTX_free(aead->context); /* which forgets the key */
    aead->context = NULL;
    gcm_free(aead->gcm);
    aead->gcm = NULL;
}

bool aead_seal(aead *aead, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
               size_t covered_size, uint8_t *data, size_t size) {
    if (aead->gcm != NULL) {
        gcm_seal(aead->gcm, nonce, covered, covered_size, data, size);
        return true;
    }
    int done = 0, rest = 0;
    return EVP_EncryptInit_ex(aead->context, NULL, NULL, NULL, nonce) == 1 &&
           EVP_EncryptUpdate(aead->context, NULL, &done, covered, (int)covered_size) == 1 &&
           EVP_EncryptUpdate(aead->context, data, &done, data, (int)size) == 1 &&
           EVP_EncryptFinal_ex(aead->context, data + size, &rest) == 1 &&
           EVP_CIPHER_CTX_ctrl(aead->context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, data + size) == 1;
}

bool aead_open(aead *aead, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
               size_t covered_size, const uint8_t *data, size_t size, uint8_t *out) {
    if (aead->gcm != NULL)
        return gcm_open(aead->gcm, nonce, covered, covered_size, data, size, out);
    int done = 0, rest = 0;
    uint8_t tag[TAG_BYTES];
    memcpy(tag, data + size, TAG_BYTES);
    return EVP_DecryptInit_ex(aead->context, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(aead->context, NULL, &done, covered, (int)covered_size) == 1 &&
           (!size || EVP_DecryptUpdate(aead->context, out, &done, data, (int)size) == 1) &&
           EVP_CIPHER_CTX_ctrl(aead->context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) == 1 &&
           EVP_DecryptFinal_ex(aead->context, out + size, &rest) == 1;
}
