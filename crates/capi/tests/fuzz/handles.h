/*
 * Handles: where those that are passed come from, and what becomes of those that are made.
 *
 * The rule: what is noted as dead was ended by a call that succeeded, so that every call with it must fail.
 */

/* Handles that threads show to each other. */
static uint64_t shown[KINDS][16];

static void show(int kind, uint64_t handle)
{
    __atomic_store_n(&shown[kind][below(16)], handle, __ATOMIC_RELAXED);
}

static int is_dead(uint64_t handle)
{
    int i, n = here->n_dead < (int)COUNT(here->dead) ? here->n_dead : (int)COUNT(here->dead);
    for (i = 0; i < n; i++)
        if (here->dead[i] == handle)
            return 1;
    return 0;
}

static void forget(int kind, uint64_t handle)
{
    int i;
    for (i = 0; i < here->n_living[kind]; i++)
        if (here->living[kind][i] == handle)
            here->living[kind][i] = here->living[kind][--here->n_living[kind]];
}

static void bury(int kind, uint64_t handle)
{
    forget(kind, handle);
    here->dead[here->n_dead++ % (int)COUNT(here->dead)] = handle;
}

/* Takes one from a list of what is to be freed. */
static void strike(uint64_t *list, int *n, uint64_t handle)
{
    int i;
    for (i = 0; i < *n; i++)
        if (list[i] == handle) {
            list[i] = list[--*n];
            return;
        }
}

static void strike_loop(uint64_t handle)
{
    int i;
    for (i = 0; i < here->n_loops; i++)
        if (here->loops[i] == handle) {
            here->loops[i] = here->loops[--here->n_loops];
            here->loop_kinds[i] = here->loop_kinds[here->n_loops];
            return;
        }
}

static void keep(int kind, uint64_t handle);

static uint64_t other_kind(int kind)
{
    int tries, other;
    for (tries = 0; tries < 20; tries++) {
        other = 1 + below(KINDS - 1);
        if (other != kind && here->n_living[other] > 0)
            return here->living[other][below(here->n_living[other])];
    }
    return 0;
}

/* A handle for an argument of this kind; the frame knows how it was chosen. */
static uint64_t in_handle(int kind)
{
    struct frame *frame = here->top;
    uint64_t handle = 0;
    int draw = below(100), n = here->n_living[kind];
    enum how how = draw < 66   ? LIVING
                   : draw < 76 ? STALE
                   : draw < 82 ? FOREIGN
                   : draw < 88 ? OTHER_KIND
                   : draw < 92 ? NOTHING
                   : draw < 97 ? FLIPPED
                               : RANDOM;
    if (how == LIVING && n == 0)
        how = NOTHING;
    switch (how) {
    case LIVING:
        handle = here->living[kind][below(n)];
        break;
    case STALE:
        handle = here->dead[below((int)COUNT(here->dead))];
        break;
    case FOREIGN:
        handle = __atomic_load_n(&shown[kind][below(16)], __ATOMIC_RELAXED);
        break;
    case OTHER_KIND:
        handle = other_kind(kind);
        break;
    case FLIPPED:
        if (n > 0)
            handle = here->living[kind][below(n)] ^ (uint64_t)1 << below(64);
        break;
    case RANDOM:
        handle = any();
        break;
    case NOTHING:
        break;
    }
    frame->handles[frame->n_handles] = handle;
    frame->how[frame->n_handles++] = how;
    return handle;
}

/* Where a handle is to be written; NULL now and then. */
static void *out_handle(int kind)
{
    if (one_in(16))
        return NULL;
    return out_block(sizeof(void *), kind);
}

/* Whether one of the handles that were passed can't be good, by all that is known. */
static int has_bad_handle(const struct frame *frame)
{
    int i;
    for (i = 0; i < frame->n_handles; i++) {
        uint64_t handle = frame->handles[i];
        switch (frame->how[i]) {
        case STALE:
            if (handle == 0 || is_dead(handle))
                return 1;
            break;
        case NOTHING:
        case OTHER_KIND:
        case RANDOM:
            return 1;
        default:
            break;
        }
    }
    return 0;
}

/* Connections: each is told to have ended once. */

/* What the handles of a server and of its loop have in common: all but the kind. */
#define LOOP_OF(handle) ((handle) & ~(uint64_t)0x1e)

static int place_of(uint64_t conn)
{
    int i = (int)(mixed(conn) % CONNS);
    while (here->conns[i] != 0 && here->conns[i] != conn)
        i = (i + 1) % CONNS;
    return i;
}

static void conn_begins(uint64_t conn, uint64_t loop)
{
    int i = place_of(conn);
    if (here->conns[i] == conn)
        return; /* Asked for here, and now it is made. */
    CHECK(++here->n_conns < CONNS - 1, "too many connections in one epoch");
    here->conns[i] = conn;
    here->conn_loops[i] = LOOP_OF(loop);
}

/* With their loop its connections end, and no CLOSED is told. */
static void conns_are_gone(uint64_t loop)
{
    int i;
    for (i = 0; i < CONNS; i++)
        if (here->conns[i] != 0 && here->conn_loops[i] == LOOP_OF(loop))
            here->conn_loops[i] = 0;
}

/* An event tells of a connection. */
static void conn_told(uint64_t conn, int closed)
{
    int i = place_of(conn);
    if (here->told)
        fprintf(stderr, "    %#llx is told%s\n", (unsigned long long)conn, closed ? ", closed" : "");
    if (here->blind && closed && here->conns[i] == conn)
        here->conn_loops[i] = 0;
    if (here->blind)
        return;
    CHECK(here->conns[i] == conn, "an event of the connection %#llx, that nobody opened", (unsigned long long)conn);
    CHECK(here->conn_loops[i] != 0, "an event of the connection %#llx after its CLOSED", (unsigned long long)conn);
    if (closed)
        here->conn_loops[i] = 0;
}

/* Functions after which their handle is dead. */
static const char *const ends[] = {
    "echoloop_free",        "echoloop_server_free",  "echoloop_listener_close", "echoloop_timer_cancel",
    "echoloop_watch_close", "echoloop_remote_free",  "echoloop_watch_release",  "echoloop_udp_close",
    "echoloop_signal_close", "echoloop_lookup_cancel", "echoloop_selector_free", "echoloop_workers_free",
};

static int kind_of(uint64_t handle)
{
    int kind, i;
    for (kind = 1; kind < KINDS; kind++)
        for (i = 0; i < here->n_living[kind]; i++)
            if (here->living[kind][i] == handle)
                return kind;
    return 0;
}

/* What follows from a call that succeeded. */
static void note_success(struct frame *frame)
{
    uint64_t handle = frame->handles[0];
    int kind;
    if (frame->n_handles == 0 || !is_one_of(ends, COUNT(ends)))
        return;
    kind = kind_of(handle);
    bury(kind, handle);
    if (is("echoloop_free") || is("echoloop_server_free")) {
        struct frame *outer;
        strike_loop(handle);
        conns_are_gone(handle);
        for (outer = frame; outer != NULL; outer = outer->below)
            if (outer->run != NULL && LOOP_OF(outer->run->loop) == LOOP_OF(handle))
                outer->run->freed = 1;
    }
    if (is("echoloop_remote_free"))
        strike(here->remotes, &here->n_remotes, handle);
    if (is("echoloop_workers_free"))
        strike(here->workers, &here->n_workers, handle);
    if (is("echoloop_selector_free"))
        strike(here->selectors, &here->n_selectors, handle);
}

/* A handle was made by a call or came with an event. */
static void keep(int kind, uint64_t handle)
{
    int i;
    CHECK((handle & 1) == 1, "the handle %#llx is even", (unsigned long long)handle);
    for (i = 0; i < here->n_living[kind]; i++)
        if (here->living[kind][i] == handle)
            return;
    CHECK(!is_dead(handle), "the handle %#llx was dead, and is given out again", (unsigned long long)handle);
    if (here->n_living[kind] < PER_KIND)
        i = here->n_living[kind]++;
    else
        i = below(PER_KIND);
    here->living[kind][i] = handle;
    show(kind, handle);
}
