/* What arrives from the network: datagrams of known and unknown peers, in bursts as GRO makes them. */

#include "scene.h"

/* A record that nobody seals, such as an alert; gives its bytes. */
static size_t put_plain(uint8_t *at, uint8_t type, const input *body) {
    uint8_t header[RECORD_HEADER_BYTES] = {type, 0xFE, 0xFD};
    header[11] = (uint8_t)(body->size >> 8);
    header[12] = (uint8_t)body->size;
    memcpy(at, header, sizeof header);
    if (body->size)
        memcpy(at + sizeof header, body->data, body->size);
    return sizeof header + body->size;
}

/* Some are packets that the client may send. */
static input packet_of(const input *some, uint8_t number) {
    static uint8_t made[1024 + 21];
    if (some->size < 21 || some->data[0] & 1)
        return *some;
    memcpy(made, some->data, some->size);
    memcpy(made, (uint8_t[]){DATA, 0x45}, 2);
    memcpy(made + 13, (uint8_t[]){10, 9, 0, number}, 4);
    return (input){made, some->size};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t room[LONGEST_FRAME], datagrams[LONGEST_FRAME];
    input input = {data, size};
    uint64_t next = 0;
    scene scene;
    scene_open(&scene, 10);
    for (uint8_t number = 1; number <= CLIENTS; number++) {
        scene_attach(&scene, number);
        if (number < CLIENTS)
            scene_set_dtls(&scene, number, number == CLIENTS - 1);
    }
    scene_set_filter(&scene, 2);
    while (input.size) {
        uint8_t how = take_byte(&input), from = take_byte(&input) % 8;
        size_t used = 0, segment = 0;
        for (int count = 1 + (how >> 6) * 3; count > 0 && input.size; count--) {
            uint8_t length = take_byte(&input);
            struct input some = take_some(&input, (how & 8 ? 4u : 1u) * length);
            next += 1;
            uint64_t sequence = how & 4 ? take_byte(&input) * 4001u : next;
            if (used + some.size + RECORD_OVERHEAD + 1 > sizeof room)
                break;
            size_t made = some.size;
            if (how & 1 && length % 4 == 3)
                made = put_plain(room + used, 20 + length % 3, &some);
            else if (how & 1) {
                uint8_t number = how & 2 ? from % CLIENTS : 1;
                struct input packet = packet_of(&some, number);
                made = scene_record(&scene, number, sequence, room + used, &packet);
            } else if (made)
                memcpy(room + used, some.data, made);
            used += made;
            segment = segment ? segment : made;
        }
        if (used) {
            peer_path path = scene_path(from);
            memcpy(datagrams, room, used);
            if (how & 16)
                peers_receive_late(scene.turn, &path, datagrams, used);
            else
                peers_receive(scene.turn, &path, datagrams, used, how & 32 ? segment : used);
        }
        turn_flush(scene.turn); /* what is opened stays where it is until then */
        scene.turn->now += 0.001;
    }
    scene_drain_events(&scene);
    scene_close(&scene);
    return 0;
}
