/*
 * What makes each callback be called, and the walk into it.
 *
 * The rule: the objects of the world are left as they are; what a callback is about is made for it.
 */

static echoloop_conn *another(void)
{
    echoloop_conn *conn;
    CHECK(echoloop_connect(w->loop, w->addr, NULL, &conn) == 0);
    return conn;
}

static void open_one(void)
{
    another();
}

static void send_some(void)
{
    CHECK(echoloop_conn_send(another(), "x", 1) == 0);
}

/* Above its high mark before it is made, and below its low mark soon after. */
static void send_much(void)
{
    static char much[20000];
    echoloop_conn_options small = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_connect_options options = ECHOLOOP_CONNECT_OPTIONS_INIT;
    echoloop_conn *conn;
    small.high_mark = 1000;
    options.conn = &small;
    CHECK(echoloop_connect(w->loop, w->addr, &options, &conn) == 0);
    CHECK(echoloop_conn_send(conn, much, sizeof much) == 0);
}

static void shut_down_writing(void)
{
    CHECK(echoloop_conn_shutdown_write(another()) == 0);
}

static void abort_one(void)
{
    CHECK(echoloop_conn_abort(another()) == 0);
}

static void start_timer(void)
{
    echoloop_timer *timer;
    CHECK(echoloop_timer_new(w->loop, 0, 0, NULL, &timer) == 0);
}

static void start_own_timer(void)
{
    echoloop_timer *timer;
    CHECK(echoloop_timer_new(w->loop, 0, 0, NULL, &timer) == 0);
    CHECK(echoloop_timer_set_callback(timer, own_timer) == 0);
}

static void post(void)
{
    CHECK(echoloop_remote_post(w->remote, NULL) == 0);
}

static void nothing_more(void)
{
}

static void open_many(void)
{
    int i;
    for (i = 0; i < 8; i++)
        another();
}

static void send_datagram(void)
{
    echoloop_udp *from, *to;
    echoloop_ip ip;
    char addr[ECHOLOOP_ADDR_MAX];
    CHECK(echoloop_udp_bind(w->loop, "127.0.0.1:0", NULL, &from) == 0);
    CHECK(echoloop_udp_bind(w->loop, "127.0.0.1:0", NULL, &to) == 0);
    CHECK(echoloop_udp_local_addr(to, addr, sizeof addr) > 0 && echoloop_ip_parse(addr, &ip) == 0);
    CHECK(echoloop_udp_send_to(from, &ip, "x", 1) == 0);
}

static void watch_one(void)
{
    echoloop_watch *watch;
    CHECK(echoloop_watch_new(w->loop, w->gate[1], ECHOLOOP_WRITABLE, NULL, NULL, &watch) == 0);
}

static void watch_with_callback(void)
{
    echoloop_watch *watch;
    CHECK(echoloop_watch_new(w->loop, w->gate[1], ECHOLOOP_WRITABLE, NULL, NULL, &watch) == 0);
    CHECK(echoloop_watch_set_callback(watch, own_watch) == 0);
}

static void send_signal(void)
{
    raise(SIGUSR1);
}

static void resolve_one(void)
{
    echoloop_lookup *lookup;
    CHECK(echoloop_resolve(w->loop, "127.0.0.1", -1, NULL, &lookup) == 0);
}

static void ask_resolver(void)
{
    echoloop_lookup *lookup;
    CHECK(echoloop_resolve(w->loop, "act", -1, NULL, &lookup) == 0);
}

static void stop(void)
{
    CHECK(echoloop_stop(w->loop) == 0);
}

static void be_slow(void)
{
    CHECK(echoloop_set_slow_handler(w->loop, 0, on_slow, NULL) == 0);
    start_timer();
    start_timer();
}

static void write_log(void)
{
    CHECK(echoloop_set_log(ECHOLOOP_LOG_DEBUG, on_log, NULL) == 0);
    CHECK(echoloop_server_drain(w->server) == 0);
    CHECK(echoloop_set_log(ECHOLOOP_LOG_OFF, NULL, NULL) == 0);
}

static void post_to_workers(void)
{
    echoloop_remote *remote;
    CHECK(w->workers != NULL && echoloop_workers_remote(w->workers, 0, &remote) == 0);
    CHECK(echoloop_remote_post(remote, NULL) == 0);
    CHECK(echoloop_remote_free(remote) == 0);
}

static const struct {
    const char *name;
    void (*provoke)(void);
    int of_server; /* A plain loop does not call it. */
} callbacks[] = {
    { "on_open", open_one, 0 },
    { "on_data", send_some, 0 },
    { "on_congested", send_much, 0 },
    { "on_drained", send_much, 0 },
    { "on_end_of_stream", shut_down_writing, 0 },
    { "on_close", abort_one, 0 },
    { "on_timer", start_timer, 0 },
    { "on_post", post, 0 },
    { "on_tick", nothing_more, 1 },
    { "on_error", send_some, 0 },
    { "on_refused", open_many, 1 },
    { "on_datagrams", send_datagram, 0 },
    { "on_watch", watch_one, 0 },
    { "on_signal", send_signal, 0 },
    { "on_resolved", resolve_one, 0 },
    { "on_event", stop, 0 },
    { "a timer's own callback", start_own_timer, 0 },
    { "a watch's own callback", watch_with_callback, 0 },
    { "a timer's own callback, dispatched", start_own_timer, 0 },
    { "a watch's own callback, dispatched", watch_with_callback, 0 },
    { "the callback for slow handlers", be_slow, 0 },
    { "the callback for the log", write_log, 1 },
    { "a resolver", ask_resolver, 0 },
    { "on_post of the workers", post_to_workers, 0 },
};

static void in_callback_of(size_t k)
{
    echoloop_hooks hooks = all_hooks();
    int tries, theirs = strcmp(callbacks[k].name, "on_post of the workers") == 0;
    if (theirs && row->theirs == NOT_THERE)
        return;
    acted = 0;
    owner = pthread_self();
    wanted = callbacks[k].name;
    if (row->callback == YES && !theirs)
        prepare();
    callbacks[k].provoke();
    for (tries = 0; !was_called() && tries < 5000; tries++)
        if (strstr(wanted, "dispatched") != NULL)
            dispatch_all();
        else
            echoloop_run_once(w->loop, &hooks, NULL, 1000);
    CHECK(was_called());
}
