/*
 * Structs that are passed: options of every size with members of every value, hooks, events.
 *
 * The rule: a struct is as long as it says, not a byte longer, so that a sanitizer sees who reads on; and pointers in
 * it are NULL or good.
 */

/* Fills a struct of options: mostly defaults, some members odd, or all of them. */
static void fill_members(void *to, size_t size)
{
    unsigned char *bytes = to;
    size_t at;
    int odd = below(6); /* Of 6 members. */
    memset(bytes, 0, size);
    if (one_in(2))
        odd = 0;
    for (at = sizeof(size_t); at + 8 <= size; at += 8) {
        int64_t value = number();
        int32_t half[2];
        if (below(6) >= odd)
            continue;
        half[0] = (int32_t)value;
        half[1] = below(2);
        memcpy(bytes + at, one_in(2) ? (void *)&value : (void *)half, 8);
    }
}

/* The struct as it is passed: cut, or with a tail. */
static const void *passed(const void *filled, size_t real)
{
    size_t size = some_size(real), known = size < real ? size : real;
    unsigned char *bytes;
    if (size > 4096 || size < sizeof size)
        known = sizeof size; /* Nothing else of it may be read. */
    bytes = block(size > 4096 || size < sizeof size ? sizeof size : size);
    memcpy(bytes, filled, known);
    memcpy(bytes, &size, sizeof size);
    if (size > real && size <= 4096)
        memset(bytes + real, one_in(2), size - real);
    return bytes;
}


/* A resolver: on a thread of the loop, where there is no context. Nobody but this machine. */
static int resolve(void *user, const char *host, echoloop_answer *answer)
{
    echoloop_ip ip;
    (void)user;
    if (strcmp(host, "nobody.invalid") == 0)
        return ECHOLOOP_EAI(EAI_NONAME);
    if (echoloop_ip_parse("127.0.0.1:0", &ip) < 0)
        return -EINVAL;
    return echoloop_answer_add(answer, &ip);
}

static const echoloop_options *in_echoloop_options(void)
{
    echoloop_options options;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_options(&options);
    options.resolve = one_in(2) ? resolve : NULL;
    return passed(&options, sizeof options);
}

static const echoloop_conn_options *in_echoloop_conn_options(void)
{
    echoloop_conn_options options;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_conn_options(&options);
    if (one_in(4)) {
        options.high_mark = 1 + below(2000);
        options.low_mark = 0;
    }
    return passed(&options, sizeof options);
}

static const char *in_device(void)
{
    return one_in(4) ? in_text("iface") : NULL;
}

static const echoloop_listen_options *in_echoloop_listen_options(void)
{
    echoloop_listen_options options;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_listen_options(&options);
    options.device = in_device();
    options.conn = in_echoloop_conn_options();
    return passed(&options, sizeof options);
}

static const echoloop_connect_options *in_echoloop_connect_options(void)
{
    echoloop_connect_options options;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_connect_options(&options);
    options.device = in_device();
    options.local = one_in(4) ? in_text("local") : NULL;
    options.conn = in_echoloop_conn_options();
    return passed(&options, sizeof options);
}

static const echoloop_server_options *in_echoloop_server_options(void)
{
    echoloop_server_options options;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_server_options(&options);
    options.loop = in_echoloop_options();
    options.listen = in_echoloop_listen_options();
    return passed(&options, sizeof options);
}

static const echoloop_watch_options *in_echoloop_watch_options(void)
{
    echoloop_watch_options options;
    const void *result;
    size_t size;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_watch_options(&options);
    if (one_in(2))
        options.mode = below(3);
    result = passed(&options, sizeof options);
    memcpy(&size, result, sizeof size);
    here->top->owned = options.owned != 0 && size >= sizeof options;
    return result;
}

static const echoloop_udp_options *in_echoloop_udp_options(void)
{
    echoloop_udp_options options;
    if (one_in(3))
        return NULL;
    fill_members(&options, sizeof options);
    no_pointers_echoloop_udp_options(&options);
    options.connect = one_in(4) ? "127.0.0.1:1" : NULL;
    options.device = in_device();
    options.multicast_interface = one_in(4) ? in_text("iface") : NULL;
    return passed(&options, sizeof options);
}

static const echoloop_hooks *in_echoloop_hooks(void)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    int skipped = one_in(4);
    if (one_in(24) && (!is("echoloop_server_run") || here->epoch % 2 == 0)) {
        here->blind |= is("echoloop_server_run");
        here->top->without_hooks = 1;
        return NULL;
    }
#define HOOK(member, function) hooks.member = skipped && one_in(3) ? NULL : function
    HOOK(on_open, on_open);
    HOOK(on_data, on_data);
    HOOK(on_congested, on_conn);
    HOOK(on_drained, on_conn);
    HOOK(on_end_of_stream, on_conn);
    HOOK(on_timer, on_timer);
    HOOK(on_post, on_word);
    HOOK(on_tick, on_nothing);
    HOOK(on_error, on_error);
    HOOK(on_refused, on_refused);
    HOOK(on_datagrams, on_datagrams);
    HOOK(on_watch, on_watch);
    HOOK(on_signal, on_signal);
    HOOK(on_resolved, on_resolved);
    HOOK(on_event, on_event);
#undef HOOK
    /* Without these, nobody would know which connections there are. */
    hooks.on_open = on_open;
    hooks.on_close = on_close;
    if (one_in(8)) {
        const void *result = passed(&hooks, sizeof hooks);
        size_t size;
        memcpy(&size, result, sizeof size);
        if (size < sizeof size || size > offsetof(echoloop_hooks, on_close))
            return result;
    }
    return memcpy(block(sizeof hooks), &hooks, sizeof hooks);
}

static const echoloop_ip *in_echoloop_ip(void)
{
    echoloop_ip *ip;
    if (one_in(16))
        return NULL;
    ip = block(sizeof *ip);
    memset(ip, 0, sizeof *ip);
    if (echoloop_ip_parse(here->n_udp > 0 && !one_in(4) ? here->udp_addrs[below(here->n_udp)] : "127.0.0.1:1", ip) < 0)
        fail("an address of a UDP socket does not parse");
    if (one_in(8))
        ip->version = (uint8_t)below(9);
    if (one_in(8))
        ip->reserved = (uint8_t)below(3);
    return ip;
}

static const echoloop_event *in_echoloop_event(void)
{
    echoloop_event *event;
    if (one_in(16))
        return NULL;
    event = block(sizeof *event);
    memset(event, 0, sizeof *event);
    if (here->n_events > 0 && !one_in(4))
        *event = here->events[below(here->n_events)];
    else
        event->source.timer = (echoloop_timer *)(uintptr_t)in_handle(one_in(2) ? K_echoloop_timer : K_echoloop_watch);
    if (one_in(8))
        event->type = (uint32_t)below(30);
    /* A handle of an event is not one of the call: whether the call is good is not known. */
    here->top->n_handles = 0;
    return event;
}

static echoloop_pollfd *in_pollfds(size_t n)
{
    echoloop_pollfd *fds = out_array(sizeof *fds, n);
    size_t i;
    for (i = 0; fds != NULL && i < n; i++) {
        fds[i].fd = a_descriptor();
        fds[i].interest = in_int("interest");
        fds[i].readiness = below(1000);
        fds[i].reserved = 0;
    }
    if (fds != NULL)
        note_out();
    return fds;
}

static echoloop_timer_fn in_echoloop_timer_fn(void)
{
    return one_in(4) ? NULL : own_timer;
}

static echoloop_watch_fn in_echoloop_watch_fn(void)
{
    return one_in(4) ? NULL : own_watch;
}

/* A worker has a context of its own, and in it what it makes. */
static void *on_start(void *user, size_t worker, echoloop *loop)
{
    struct run *run = calloc(1, sizeof *run);
    CHECK(here == NULL && run != NULL, "the start of a worker");
    here = context(16 + (int)worker);
    begin_step((long)(uintptr_t)user);
    here->worker_of = (uint64_t)(uintptr_t)user;
    here->own_run = run;
    run->loop = RAW(loop);
    begin_epoch();
    keep(K_echoloop, RAW(loop));
    in_callback(run);
    return run;
}

static void on_end(void *user, size_t worker)
{
    (void)worker;
    CHECK(here != NULL && user == here->own_run, "the end of a worker");
    in_callback(NULL);
    here->blind = 1; /* What is left of its own loop ends now. */
    end_epoch(0);
    free(user);
    discard(here);
    here = NULL;
}

static echoloop_worker_start_fn in_echoloop_worker_start_fn(void)
{
    return here->top->without_hooks ? NULL : on_start;
}

static echoloop_worker_end_fn in_echoloop_worker_end_fn(void)
{
    return here->top->without_hooks ? NULL : on_end;
}

/* On any thread, in the middle of any call. */
static void on_log(void *user, int level, const char *target, const char *text)
{
    (void)user;
    CHECK(level >= ECHOLOOP_LOG_ERROR && level <= ECHOLOOP_LOG_TRACE && strlen(target) > 0, "level %d", level);
    CHECK(strstr(target, "panic") == NULL && strstr(text, "panicked") == NULL, "%s: %s", target, text);
    if (here != NULL)
        in_callback(NULL);
}

static echoloop_log_fn in_echoloop_log_fn(void)
{
    return one_in(2) ? NULL : on_log;
}

static void on_slow(void *user, const echoloop_event *event, int64_t took_us)
{
    (void)user;
    CHECK(event != NULL && took_us >= 0, "a slow handler");
    in_callback(NULL);
}

static echoloop_slow_fn in_echoloop_slow_fn(void)
{
    return one_in(4) ? NULL : on_slow;
}

/* In place of the C library's: no name is ever asked for outside. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    struct {
        struct addrinfo info;
        struct sockaddr_in address;
    } *made;
    (void)service;
    if (node == NULL || strcmp(node, "localhost") != 0)
        return EAI_NONAME;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return EAI_MEMORY;
    made->address.sin_family = AF_INET;
    made->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    made->info.ai_family = AF_INET;
    made->info.ai_socktype = hints != NULL ? hints->ai_socktype : SOCK_STREAM;
    made->info.ai_addr = (struct sockaddr *)&made->address;
    made->info.ai_addrlen = sizeof made->address;
    *result = &made->info;
    return 0;
}

void freeaddrinfo(struct addrinfo *result)
{
    free(result);
}

/* In place of the C library's, where one thread is alone: a clock that a call moves on, so that a seed sees the same
   timers fire whatever else the machine does. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static uint64_t micros = 1000000000;
    if (threads > 0 || here == NULL)
        return (int)syscall(SYS_clock_gettime, clock, now);
    micros += 20;
    now->tv_sec = (time_t)(micros / 1000000);
    now->tv_nsec = (long)(micros % 1000000 * 1000);
    return 0;
}
