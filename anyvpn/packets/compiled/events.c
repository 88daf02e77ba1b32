/* What the reactor is told: a bounded queue, and an eventfd that wakes it.
 *
 * Whoever is out there can make us say things without end, so each has a bounded share until the
 * reactor has heard them: a tunnel one for what its client says and one for packets that Python has
 * to carry, a stranger's host one among all strangers. A little of its share is a tunnel's own:
 * however many others flood us, its goodbye finds room.
 */

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "engine.h"

/* Ours: of all tunnels, of all strangers, and of each */
enum { MOST_FROM_TUNNELS = 4 << 20, MOST_FROM_STRANGERS = 1 << 20 };
enum { MOST_CONTROLS = 64 << 10, MOST_PACKETS = 1 << 20, MOST_OF_HOST = 64 << 10, OWN_BYTES = 2048 };

bool events_init(events *events) {
    memset(events, 0, sizeof *events);
    events->wake = -1;
    return getrandom(&events->seed, sizeof events->seed, 0) == sizeof events->seed &&
           pthread_mutex_init(&events->lock, NULL) == 0;
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

/* All hosts of an IPv6 network of 64 bits are one; those of IPv4 may come in IPv6's clothes. */
static share *share_of_host(events *events, const peer_path *path) {
    table_key key = host_key(path);
    struct in6_addr host;
    memcpy(&host, path->host, sizeof host);
    if (path->family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&host))
        memset(key.bytes + 8, 0, 8);
    return &events->strangers[key_hash(&key, events->seed) % STRANGERS];
}

/* Whether there is room yet, which is taken. */
static bool take_room(events *events, enum event_type type, tunnel *tunnel, const peer_path *path, size_t room) {
    if (comes_once(type))
        return true;
    bool is_strange = tunnel == NULL, is_control = type == EVENT_CONTROL || type == EVENT_MOVED;
    share *share = is_strange ? share_of_host(events, path) : &tunnel->told[is_control ? CONTROLS : PACKETS];
    size_t most = is_strange ? MOST_OF_HOST : is_control ? MOST_CONTROLS : MOST_PACKETS;
    if (share->round != events->round)
        *share = (struct share){events->round, 0};
    size_t wanted = share->bytes + room;
    if (is_strange || wanted > OWN_BYTES) {
        size_t *together = is_strange ? &events->from_strangers : &events->from_tunnels;
        if (wanted > most || *together + room > (is_strange ? MOST_FROM_STRANGERS : MOST_FROM_TUNNELS))
            return false;
        *together += room;
    }
    share->bytes = wanted;
    return true;
}

event *event_new(size_t size) {
    event *made = malloc(sizeof *made + size);
    if (made != NULL)
        memset(made, 0, sizeof *made);
    return made;
}

bool events_tell(events *events, enum event_type type, tunnel *tunnel, enum channel_name name,
                 uint16_t kind, const peer_path *path, const uint8_t *bytes, size_t size) {
    return events_tell_by(events, event_new(size), type, tunnel, name, kind, path, bytes, size);
}

bool events_tell_by(events *events, event *made, enum event_type type, tunnel *tunnel, enum channel_name name,
                    uint16_t kind, const peer_path *path, const uint8_t *bytes, size_t size) {
    if (made != NULL) {
        made->type = type;
        made->tunnel = tunnel == NULL ? 0 : tunnel->identifier;
        made->name = name;
        made->kind = kind;
        made->size = size;
        if (path != NULL)
            made->path = *path;
        if (size)
            memcpy(made->bytes, bytes, size);
    }
    pthread_mutex_lock(&events->lock);
    bool fits = made != NULL && take_room(events, type, tunnel, path, sizeof *made + size);
    bool is_first = events->first == NULL;
    if (fits) {
        if (is_first)
            events->first = made;
        else
            events->last->next = made;
        events->last = made;
    }
    pthread_mutex_unlock(&events->lock);
    if (!fits) {
        count(&events->dropped, 1);
        if (tunnel != NULL)
            count(&tunnel->counters.queue_full, 1);
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
    events->from_tunnels = events->from_strangers = 0;
    events->round++; /* all shares are whole again */
    pthread_mutex_unlock(&events->lock);
    return first;
}

void events_return(events *events, event *first) {
    event *last = first;
    while (last->next != NULL)
        last = last->next;
    pthread_mutex_lock(&events->lock);
    if (events->first == NULL)
        events->last = last;
    last->next = events->first;
    events->first = first;
    pthread_mutex_unlock(&events->lock);
    wake(events->wake);
}
