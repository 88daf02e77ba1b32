/* What the reactor is told: a bounded queue, and an eventfd that wakes it.
 *
 * What strangers can make us say has a share of its own, so that a flood of garbage never costs
 * a client its goodbye.
 */

#include <stdlib.h>
#include <unistd.h>

#include "engine.h"

/* Ours */
enum { MOST_BYTES = 4 << 20, MOST_FROM_STRANGERS = 1 << 20 };

bool events_init(events *events) {
    memset(events, 0, sizeof *events);
    events->wake = -1;
    return pthread_mutex_init(&events->lock, NULL) == 0;
}

void events_clear(events *events) {
    for (event *each = events_take(events), *next; each != NULL; each = next) {
        next = each->next;
        free(each);
    }
    pthread_mutex_destroy(&events->lock);
}

static void wake(int descriptor) {
    uint64_t one = 1;
    if (descriptor >= 0 && write(descriptor, &one, sizeof one) < 0)
        return; /* it is readable already: that is what was wanted */
}

static bool comes_once(enum event_type type) {
    switch (type) {
    case EVENT_WAITING: case EVENT_SPENT: case EVENT_LOST_DEVICE: case EVENT_LOST_SOCKET:
    case EVENT_LOST_STREAM: case EVENT_HANDSHAKE: case EVENT_OLD_KEYS:
        return true;
    default:
        return false;
    }
}

bool events_tell(events *events, enum event_type type, uint64_t tunnel, enum channel_name name,
                 uint16_t kind, const peer_path *path, const uint8_t *bytes, size_t size) {
    bool is_strange = type == EVENT_DATAGRAM;
    size_t room = sizeof(event) + size;
    event *made = malloc(room);
    if (made == NULL) {
        count(&events->dropped, 1);
        return false;
    }
    memset(made, 0, sizeof *made);
    made->type = type;
    made->tunnel = tunnel;
    made->name = name;
    made->kind = kind;
    made->size = size;
    if (path != NULL)
        made->path = *path;
    if (size)
        memcpy(made->bytes, bytes, size);
    pthread_mutex_lock(&events->lock);
    bool fits = comes_once(type) || (events->bytes + room <= MOST_BYTES &&
                                     (!is_strange || events->from_strangers + room <= MOST_FROM_STRANGERS));
    bool is_first = events->first == NULL;
    if (fits) {
        events->bytes += room;
        events->from_strangers += is_strange ? room : 0;
        if (is_first)
            events->first = made;
        else
            events->last->next = made;
        events->last = made;
    }
    pthread_mutex_unlock(&events->lock);
    if (!fits) {
        count(&events->dropped, 1);
        free(made);
    } else if (is_first) {
        wake(events->wake);
    }
    return fits;
}

event *events_take(events *events) {
    pthread_mutex_lock(&events->lock);
    event *first = events->first;
    events->first = events->last = NULL;
    events->bytes = events->from_strangers = 0;
    pthread_mutex_unlock(&events->lock);
    return first;
}
