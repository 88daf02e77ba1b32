/* What arrives from the tun device: frames whose headers lie. */

#include "scene.h"

/* Most of them go to a client, or there would be little to see. */
static void aim(uint8_t *frame, size_t size, size_t header) {
    uint8_t *packet = frame + header;
    if (size < header + 40 || packet[0] & 8)
        return;
    uint8_t number = (uint8_t)(1 + packet[1] % CLIENTS);
    if (packet[0] & 1) {
        packet[0] = 0x60;
        memcpy(packet + 24, (uint8_t[16]){0xFD, 9, [15] = number}, 16);
    } else {
        packet[0] = (uint8_t)(0x45 + (packet[0] >> 7));
        memcpy(packet + 16, (uint8_t[4]){10, 9, 0, number}, 4);
    }
    if (packet[2] & 1) /* the protocol that super-packets are of */
        packet[packet[0] == 0x60 ? 6 : 9] = packet[2] & 2 ? 6 : 17;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t headers[3] = {0, 10, 12};
    input input = {data, size};
    scene scene;
    scene_open(&scene, headers[take_byte(&input) % 3]);
    for (uint8_t number = 1; number <= CLIENTS; number++)
        scene_attach(&scene, number);
    scene_set_filter(&scene, 3);
    scene_set_filter(&scene, 4);
    scene_set_dtls(&scene, 1, false);
    scene_set_dtls(&scene, 2, true);
    scene_set_tls(&scene, 3, true);
    scene_set_tls(&scene, 3, false);
    scene.takes = take_byte(&input);
    while (input.size) {
        uint8_t how = take_byte(&input);
        size_t times = how & 128 ? 1 + (size_t)take_byte(&input) * 64 : 1;
        struct input some = take_some(&input, how & 127 ? how & 127 : 400);
        uint8_t *frame = malloc(some.size * times + 1);
        size_t used = 0;
        for (; times && used + some.size <= LONGEST_FRAME && some.size; times--, used += some.size)
            memcpy(frame + used, some.data, some.size);
        aim(frame, used, scene.engine->device_header);
        uint8_t *exact = malloc(used); /* so that one byte too many is seen */
        memcpy(exact, frame, used);
        free(frame);
        engine_take_frame(scene.turn, exact, used);
        turn_flush(scene.turn);
        free(exact);
    }
    scene_drain_events(&scene);
    scene_close(&scene);
    return 0;
}
