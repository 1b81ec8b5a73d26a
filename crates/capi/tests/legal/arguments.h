/*
 * Good arguments for every function, and the ends of calls.
 *
 * The rule: what a function takes as a handle is of the world; what it makes or gives is ended at once, or with the world.
 */

static void enter(struct frame *frame, const char *name)
{
    frame->name = name;
    asked_conns = n_results = 0;
    taken_fd = -1;
}

static int ready(struct frame *frame)
{
    (void)frame;
    return 1;
}

static uint64_t in_handle(int kind)
{
    switch (kind) {
    case K_echoloop:
        return RAW(w->loop);
    case K_echoloop_server:
        return RAW(w->server);
    case K_echoloop_conn:
        if (calls("echoloop_conn_peer_credentials"))
            return RAW(w->unix_conn);
        return RAW(asked_conns++ == 0 ? w->client : w->second);
    case K_echoloop_listener:
        return RAW(w->listener);
    case K_echoloop_timer:
        return RAW(w->timer);
    case K_echoloop_watch:
        return RAW(w->watch);
    case K_echoloop_udp:
        return RAW(w->udp);
    case K_echoloop_lookup:
        return RAW(w->lookup);
    case K_echoloop_signal:
        return RAW(w->signal);
    case K_echoloop_remote:
        return RAW(calls("echoloop_hand_over") ? w->remote_elsewhere : w->remote);
    case K_echoloop_selector:
        return RAW(w->selector);
    case K_echoloop_workers:
        return RAW(w->workers);
    case K_echoloop_answer:
        return RAW(w->answer);
    default:
        fprintf(stderr, "%s: tests/legal/world.h has no object of kind %d\n", fn, kind);
        exit(1);
    }
}

static void *out_handle(int kind)
{
    (void)kind;
    return &results[n_results++];
}

static void *out_plain(size_t size)
{
    memset(&results[n_results], 0, size);
    return &results[n_results++];
}

static void *out_sized(size_t size)
{
    memset(&results[n_results], 0, size);
    results[n_results].size = size;
    return &results[n_results++];
}

static void *out_array(size_t item, size_t length)
{
    CHECK(item * length <= sizeof results[0]);
    return &results[n_results++];
}

static void *out_bytes(size_t capacity)
{
    return out_array(1, capacity);
}

static size_t in_length(const char *name)
{
    if (strcmp(name, "len") == 0 || calls("echoloop_poll_batch") || strncmp(name, "n", 1) == 0)
        return 1;
    return calls("echoloop_inherited") || calls("echoloop_selector_wait") ? 4 : 4096;
}

static size_t in_index(void)
{
    return calls("echoloop_udp_send_segments") || calls("echoloop_workers_start");
}

static const void *in_bytes(size_t len)
{
    (void)len;
    return "x";
}

static void *in_user(void)
{
    return NULL;
}

static void *in_descriptors(size_t n)
{
    (void)n;
    memcpy(&results[n_results], &w->gate[1], sizeof w->gate[1]);
    return &results[n_results++];
}

static echoloop_pollfd *in_pollfds(size_t n)
{
    echoloop_pollfd fd = { 0, ECHOLOOP_WRITABLE, 0, 0 };
    (void)n;
    fd.fd = w->gate[1];
    return memcpy(&results[n_results++], &fd, sizeof fd);
}

static int64_t in_i64(const char *name)
{
    if (strcmp(name, "timeout_us") == 0)
        return 0;
    return strcmp(name, "count") == 0 ? 3 : ECHOLOOP_SECONDS(3600);
}

static uint64_t in_u64(void)
{
    return 1;
}

static int in_int(const char *name)
{
    if (strcmp(name, "fd") != 0)
        return strcmp(name, "number") == 0 ? SIGUSR2 : strcmp(name, "mode") == 0 || strcmp(name, "level") == 0 || strcmp(name, "spread") == 0 ? 0 : 1;
    if (strncmp(fn, "echoloop_selector_", 18) == 0)
        return w->gate[0];
    if (calls("echoloop_adopt_listener") || calls("echoloop_server_inherit")
        || calls("echoloop_workers_inherit"))
        return taken_fd = a_socket(SOCK_STREAM, 1);
    if (calls("echoloop_udp_adopt"))
        return taken_fd = a_socket(SOCK_DGRAM, 0);
    return calls("echoloop_adopt") ? (taken_fd = a_pair()) : a_pair();
}

static const char *in_text(const char *name)
{
    if (strcmp(name, "group") == 0)
        return "239.255.7.7";
    if (strcmp(name, "iface") == 0)
        return strstr(fn, "_source") != NULL ? "127.0.0.1" : "lo";
    if (calls("echoloop_connect"))
        return w->addr;
    if (strcmp(name, "host") == 0 || strcmp(name, "source") == 0)
        return "127.0.0.1";
    return calls("echoloop_has") ? "udp" : calls("echoloop_ip_parse") ? "127.0.0.1:7" : "127.0.0.1:0";
}

static const echoloop_ip *in_echoloop_ip(void)
{
    CHECK(echoloop_ip_parse(w->udp_addr, (echoloop_ip *)&results[n_results]) == 0);
    return (echoloop_ip *)&results[n_results++];
}

static const echoloop_event *in_echoloop_event(void)
{
    echoloop_event event;
    memset(&event, 0, sizeof event);
    event.type = ECHOLOOP_EVENT_TIMER;
    event.source.timer = w->timer;
    return memcpy(&results[n_results++], &event, sizeof event);
}

static const echoloop_hooks *in_echoloop_hooks(void)
{
    static const echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    return &hooks;
}

/* Options are left out. */
#define IN_OPTIONS(type) \
    static const type *in_##type(void) \
    { \
        return NULL; \
    }
IN_OPTIONS(echoloop_options)
IN_OPTIONS(echoloop_conn_options)
IN_OPTIONS(echoloop_listen_options)
IN_OPTIONS(echoloop_connect_options)
IN_OPTIONS(echoloop_server_options)
IN_OPTIONS(echoloop_watch_options)
IN_OPTIONS(echoloop_udp_options)

static echoloop_timer_fn in_echoloop_timer_fn(void)
{
    return NULL;
}

static echoloop_watch_fn in_echoloop_watch_fn(void)
{
    return NULL;
}

static echoloop_slow_fn in_echoloop_slow_fn(void)
{
    return nothing;
}

static echoloop_worker_start_fn in_echoloop_worker_start_fn(void)
{
    return NULL;
}

static echoloop_worker_end_fn in_echoloop_worker_end_fn(void)
{
    return NULL;
}

static echoloop_log_fn in_echoloop_log_fn(void)
{
    return NULL;
}

/* The ends of calls; what they made and gave is ended with the world, or here. */

static int64_t leave(struct frame *frame, int64_t result)
{
    (void)frame;
    if (calls("echoloop_last_status"))
        return 0; /* What it returns is another call's. */
    if (result < 0)
        return result;
    if (taken_fd >= 0)
        taken(taken_fd);
    if (calls("echoloop_watch_release") || calls("echoloop_listener_share") || calls("echoloop_udp_share"))
        close((int)result);
    if (calls("echoloop_give_away")) {
        echoloop_given given;
        memcpy(&given, &results[0], sizeof given);
        close(given.fd);
    }
    if (calls("echoloop_selector_new"))
        echoloop_selector_free((echoloop_selector *)results[0].pointer);
    if (calls("echoloop_workers_new"))
        echoloop_workers_free((echoloop_workers *)results[0].pointer);
    if (calls("echoloop_remote_new") || calls("echoloop_workers_remote"))
        echoloop_remote_free((echoloop_remote *)results[0].pointer);
    return result;
}

static int64_t leave_text(struct frame *frame, const char *text)
{
    (void)frame;
    return text != NULL ? 0 : -1;
}

static int64_t leave_handle(struct frame *frame, int kind, uint64_t handle)
{
    (void)frame;
    if (handle == 0)
        return echoloop_last_status();
    if (calls("echoloop_new"))
        echoloop_free((echoloop *)(uintptr_t)handle);
    if (calls("echoloop_server_new"))
        echoloop_server_free((echoloop_server *)(uintptr_t)handle);
    (void)kind;
    return 0;
}
