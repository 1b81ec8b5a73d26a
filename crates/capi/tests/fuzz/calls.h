/*
 * What is asked of every call when it is over, and before one that would not end.
 *
 * The rule: each return value is one that the header knows; a result is written on success alone; a handle that can't
 * be good is never taken; nothing is told of a connection after its CLOSED, nor of a loop after its free.
 */

/* Functions that return more than 0, and the most that they may. */
static const struct {
    const char *name;
    int64_t most;
} counts[] = {
    { "echoloop_poll_batch", 16 },
    { "echoloop_selector_wait", 16 },
    { "echoloop_poll", 300 },
    { "echoloop_select", 900 },
    { "echoloop_run_once", 10000000 },
    { "echoloop_dispatch", 1 },
    { "echoloop_next_deadline", 1 },
    { "echoloop_has", 1 },
    { "echoloop_server_report", 1 },
    { "echoloop_fd", 100000 },
    { "echoloop_watch_fd", 100000 },
    { "echoloop_watch_release", 100000 },
    { "echoloop_listener_share", 100000 },
    { "echoloop_udp_share", 100000 },
    { "echoloop_listener_addr", 300 },
    { "echoloop_conn_peer_addr", 300 },
    { "echoloop_conn_local_addr", 300 },
    { "echoloop_conn_target", 300 },
    { "echoloop_conn_attempt", 300 },
    { "echoloop_conn_attempts", 64 },
    { "echoloop_conn_may_send", 1 },
    { "echoloop_conn_origin", 16 },
    { "echoloop_udp_local_addr", 300 },
    { "echoloop_udp_peer_addr", 300 },
    { "echoloop_udp_received", 100000 },
    { "echoloop_server_addr", 300 },
    { "echoloop_server_udp_addr", 300 },
    { "echoloop_ip_text", 100 },
    { "echoloop_lookup_count", 1024 },
    { "echoloop_workers_count", 3 },
    { "echoloop_workers_is_finished", 1 },
    { "echoloop_workers_addr", 300 },
    { "echoloop_workers_udp_addr", 300 },
    { "echoloop_version_number", INT_MAX },
    { "echoloop_dump", INT_MAX },
    { "echoloop_conn_queued", INT64_MAX },
    { "echoloop_udp_queued", INT64_MAX },
    { "echoloop_udp_dropped", INT64_MAX },
    { "echoloop_now_us", INT64_MAX },
    { "echoloop_live_handles", INT64_MAX },
};

static int64_t most_of(const char *name)
{
    size_t i;
    for (i = 0; i < COUNT(counts); i++)
        if (strcmp(counts[i].name, name) == 0)
            return counts[i].most;
    return 0;
}

/* Functions that take a descriptor over. */
static const char *const takers[] = {
    "echoloop_adopt", "echoloop_adopt_listener", "echoloop_udp_adopt", "echoloop_server_inherit",
    "echoloop_workers_inherit",
};

#define RAW(handle) ((uint64_t)(uintptr_t)(handle))

static uint64_t read_all(const uint8_t *data, size_t len)
{
    uint64_t sum = 0;
    size_t i;
    for (i = 0; i < len; i++)
        sum += data[i];
    return sum;
}

/* An event of a batch, or of on_event. */
static void look_at(const echoloop_event *event, uint64_t loop)
{
    CHECK(event->type >= 1 && event->type <= 64, "an event of type %u", event->type);
    if (event->conn != NULL && event->type != ECHOLOOP_EVENT_REFUSED) {
        if (event->type == ECHOLOOP_EVENT_OPENED || event->type == ECHOLOOP_EVENT_CONNECTED
            || event->type == ECHOLOOP_EVENT_ADOPTED) {
            conn_begins(RAW(event->conn), loop);
            keep(K_echoloop_conn, RAW(event->conn));
        }
        conn_told(RAW(event->conn), event->type == ECHOLOOP_EVENT_CLOSED);
    }
    read_all(event->data, event->len * (event->data != NULL));
}

/* A batch: all events are looked at, and kept for echoloop_dispatch(). */
static void take_events(const struct frame *frame, int n)
{
    int i;
    CHECK((size_t)n <= frame->length, "%d events, where %lu have room", n, (unsigned long)frame->length);
    memcpy(here->events, frame->outs[0].block + CANARY, (size_t)n * sizeof here->events[0]);
    here->n_events = n;
    for (i = 0; i < n; i++)
        look_at(&here->events[i], frame->handles[0]);
}

/* A connection that was given away; what it had left is read. */
static void take_given(const struct frame *frame)
{
    echoloop_given given;
    memcpy(&given, frame->outs[0].block + CANARY, frame->outs[0].size < sizeof given ? frame->outs[0].size : sizeof given);
    read_all(given.unread, given.unread_len);
    read_all(given.unsent, given.unsent_len);
    own(given.fd);
}

/* What the library made, or gave back. */
static void take_in(struct frame *frame, int64_t result)
{
    int i;
    for (i = 0; i < frame->n_outs; i++) {
        uint64_t handle;
        if (frame->outs[i].kind == NO_KIND || is("echoloop_conn_origin")) /* A listener that may be closed by now. */
            continue;
        memcpy(&handle, frame->outs[i].block + CANARY, sizeof handle);
        if (handle == 0)
            continue;
        if (is("echoloop_connect") || is("echoloop_adopt"))
            conn_begins(handle, frame->handles[0]);
        keep(frame->outs[i].kind, handle);
        if (frame->outs[i].kind == K_echoloop_remote) {
            CHECK(here->n_remotes < (int)COUNT(here->remotes), "remotes");
            here->remotes[here->n_remotes++] = handle;
        }
        if (frame->outs[i].kind == K_echoloop_workers) {
            CHECK(here->n_workers < (int)COUNT(here->workers), "workers");
            here->workers[here->n_workers++] = handle;
        }
        if (frame->outs[i].kind == K_echoloop_selector) {
            CHECK(here->n_selectors < (int)COUNT(here->selectors), "selectors");
            here->selectors[here->n_selectors++] = handle;
        }
        if (frame->outs[i].kind == K_echoloop_udp && here->n_udp < (int)COUNT(here->udp_addrs))
            if (echoloop_udp_local_addr((echoloop_udp *)(uintptr_t)handle, here->udp_addrs[here->n_udp], 128) > 0)
                here->n_udp++;
        if (frame->outs[i].kind == K_echoloop_listener && here->n_addrs < (int)COUNT(here->addrs))
            if (echoloop_listener_addr((echoloop_listener *)(uintptr_t)handle, here->addrs[here->n_addrs], 128) > 0)
                here->n_addrs++;
    }
    if (is("echoloop_give_away"))
        take_given(frame);
    if (is("echoloop_poll_batch"))
        take_events(frame, (int)result);
    if (is_one_of(takers, COUNT(takers)) || (is("echoloop_watch_new") && frame->owned))
        disown(frame->fd);
    if (is("echoloop_watch_release") || is("echoloop_listener_share") || is("echoloop_udp_share"))
        own((int)result);
    note_success(frame);
}

static void pop(struct frame *frame)
{
    int i;
    for (i = 0; i < frame->n_outs; i++)
        free(frame->outs[i].block);
    for (i = 0; i < frame->n_blocks; i++)
        free(frame->blocks[i]);
    here->top = frame->below;
}

static void count_call(const struct frame *frame, int64_t result)
{
    const char *c;
    here->calls++;
    for (c = frame->name; *c != '\0'; c++)
        here->hash = here->hash * 31 + (uint64_t)(unsigned char)*c;
    here->hash = mixed(here->hash ^ (uint64_t)(result > 0 ? 1 : result));
    if (here->told)
        fprintf(stderr, "%ld/%d %s(%#llx) = %lld %s\n", here->step, here->depth, frame->name,
                (unsigned long long)(frame->n_handles ? frame->handles[0] : 0), (long long)result,
                result < 0 ? echoloop_errname((int)result) : "");
}

/* The end of a call that returns a number. */
static int64_t leave(struct frame *frame, int64_t result)
{
    if (result == SKIPPED) {
        pop(frame);
        return result;
    }
    count_call(frame, result);
    CHECK(result <= most_of(frame->name), "%s returned %lld", frame->name, (long long)result);
    CHECK(result >= 0 || (result > INT_MIN && strcmp(echoloop_errname((int)result), "UNKNOWN") != 0),
          "%s returned %lld, which is no status", frame->name, (long long)result);
    CHECK(result != ECHOLOOP_EPANIC, "%s met a bug inside", frame->name);
    CHECK(result < 0 || !has_bad_handle(frame), "%s took a handle that can't be good (%d %d)", frame->name,
          frame->how[0], frame->how[1]);
    if (result < 0 && !is("echoloop_last_status"))
        CHECK(echoloop_last_status() == result, "%s returned %lld, and the last status is %d", frame->name,
              (long long)result, echoloop_last_status());
    check_outs(frame, result < 0);
    if (result >= 0)
        take_in(frame, result);
    else if (result == ECHOLOOP_EBADHANDLE && frame->n_handles == 1 && frame->how[0] == LIVING)
        forget(kind_of(frame->handles[0]), frame->handles[0]);
    pop(frame);
    return result;
}

static int64_t leave_text(struct frame *frame, const char *text)
{
    count_call(frame, 0);
    CHECK(text != NULL && strlen(text) < 4096, "%s returned no text", frame->name);
    pop(frame);
    return 0;
}

static int64_t leave_handle(struct frame *frame, int kind, uint64_t handle)
{
    count_call(frame, handle != 0);
    CHECK(handle != 0 || echoloop_last_status() < 0, "%s returned NULL without a status", frame->name);
    CHECK(handle == 0 || !has_bad_handle(frame), "%s took a handle that can't be good", frame->name);
    if (handle != 0) {
        keep(kind, handle);
        if (is("echoloop_new") || is("echoloop_server_new")) {
            CHECK(here->n_loops < (int)COUNT(here->loops), "loops");
            here->loop_kinds[here->n_loops] = kind;
            here->loops[here->n_loops++] = handle;
        }
    }
    pop(frame);
    return handle != 0;
}

/* What stops a run: a timer, again and again, since a server's first stop only begins its drain. */
static void stopper(void *loop, echoloop_timer *timer)
{
    (void)timer;
    echoloop_stop(loop);
}

/* What may be asked of workers where. Their threads make no call the same each time, and a callback of theirs must not
   wait for others. */
static int may_ask(const struct frame *frame)
{
    static const char *const waits[] = { "echoloop_workers_join", "echoloop_workers_free",
                                         "echoloop_workers_counters_get", "echoloop_workers_loop_counters_get" };
    echoloop_workers *workers = (echoloop_workers *)(uintptr_t)frame->handles[0];
    if (is("echoloop_workers_start"))
        return threads > 0 && here->worker_of == 0 && here->depth == 0;
    if (here->worker_of != 0 && is_one_of(waits, COUNT(waits)))
        return frame->handles[0] == here->worker_of;
    if (is("echoloop_workers_join")) { /* The last stop cuts what is left. */
        echoloop_workers_stop(workers);
        echoloop_workers_stop(workers);
        echoloop_workers_stop(workers);
    }
    return 1;
}

/* Before a call: a run without a stop would be the end of this. */
static int ready(struct frame *frame)
{
    echoloop *loop = (echoloop *)(uintptr_t)frame->handles[0];
    echoloop_timer *timer;
    if (strncmp(frame->name, "echoloop_workers_", 17) == 0)
        return may_ask(frame);
    if (!is("echoloop_run") && !is("echoloop_server_run"))
        return 1;
    if (frame->without_hooks) { /* No callback is called, so it has to have ended before it begins. */
        echoloop_server_drain((echoloop_server *)(uintptr_t)frame->handles[0]);
        echoloop_server_drain((echoloop_server *)(uintptr_t)frame->handles[0]);
        return 1;
    }
    if (is("echoloop_server_run"))
        loop = echoloop_server_loop((echoloop_server *)(uintptr_t)frame->handles[0]);
    /* Where this fails, so does the run. */
    return echoloop_timer_new(loop, 0, 100, loop, &timer) < 0 || echoloop_timer_set_callback(timer, stopper) == 0;
}
