/* An engine without threads and without Python, whose sends and writes are only looked at. */

#ifndef ANYVPN_FUZZ_SCENE_H
#define ANYVPN_FUZZ_SCENE_H

#include <stdlib.h>

#include "engine.h"

typedef struct input {
    const uint8_t *data;
    size_t size;
} input;

static inline uint8_t take_byte(input *input) {
    if (!input->size)
        return 0;
    input->size--;
    return *input->data++;
}

static inline input take_some(input *from, size_t size) {
    input some = {from->data, size < from->size ? size : from->size};
    from->data += some.size;
    from->size -= some.size;
    return some;
}

typedef struct scene {
    engine *engine;
    turn *turn;
    unsigned takes; /* how many bytes the streams' peers take yet, in KB */
    unsigned bursts; /* sent so far */
} scene;

enum { CLIENTS = 4, MTU = 1400 };

/* Client `number` has 10.9.0.number and fd09::number, and a network each. */
bool scene_open(scene *scene, size_t device_header); /* false: no memory; what follows does nothing without it */
void scene_close(scene *scene);
void scene_attach(scene *scene, uint8_t number);
void scene_set_filter(scene *scene, uint8_t number);
void scene_set_dtls(scene *scene, uint8_t number, bool is_foreign);
void scene_set_tls(scene *scene, uint8_t number, bool is_tls13);
peer_path scene_path(uint8_t number);
/* What the peer would have sealed; gives the bytes written. */
size_t scene_record(const scene *scene, uint8_t number, uint64_t sequence, uint8_t *at, const input *payload);
size_t scene_tls_record(stream *stream, uint8_t type, uint8_t *at, const input *payload);
void scene_drain_events(scene *scene);

#endif
