/*
 * Every callback there is.
 *
 * The rule: the function is called once in each, with the objects of the world, which are not those that the callback
 * is about.
 */

/* What is called now, of `callbacks`. */
static const char *wanted;
static int acted;
/* The thread that the loop is of. */
static pthread_t owner;

static int was_called(void)
{
    return __atomic_load_n(&acted, __ATOMIC_ACQUIRE);
}

/* In the callback `name`: calls the function if this is where it is to be called. */
static void act(const char *name, int expected)
{
    if (was_called() || strcmp(wanted, name) != 0)
        return;
    if (expected == YES && row->thread != YES && strncmp(fn, "echoloop_lookup_", 16) == 0)
        make_lookup(); /* One that is not answered yet. */
    compare(expected, function->call());
    __atomic_store_n(&acted, 1, __ATOMIC_RELEASE);
}

static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    (void)user;
    (void)conn;
    (void)listener;
    act("on_open", row->callback);
}

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    (void)conn;
    (void)data;
    act("on_data", row->callback);
    return strcmp(wanted, "on_error") == 0 ? len + 1 : len;
}

static void on_congested(void *user, echoloop_conn *conn)
{
    (void)user;
    (void)conn;
    act("on_congested", row->callback);
}

static void on_drained(void *user, echoloop_conn *conn)
{
    (void)user;
    (void)conn;
    act("on_drained", row->callback);
}

static void on_end_of_stream(void *user, echoloop_conn *conn)
{
    (void)user;
    (void)conn;
    act("on_end_of_stream", row->callback);
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    (void)user;
    (void)conn;
    (void)reason;
    (void)unsent;
    act("on_close", row->callback);
}

static void on_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    (void)user;
    (void)timer;
    (void)timer_user;
    act("on_timer", row->callback);
}

static void own_timer(void *user, echoloop_timer *timer)
{
    (void)user;
    (void)timer;
    act("a timer's own callback", row->callback);
    act("a timer's own callback, dispatched", row->callback);
}

static void on_post(void *user, void *word)
{
    (void)user;
    (void)word;
    act("on_post", row->callback);
    act("on_post of the workers", row->theirs);
}

static void on_tick(void *user)
{
    (void)user;
    act("on_tick", row->callback);
}

static void on_error(void *user, int status, const char *text)
{
    (void)user;
    (void)status;
    (void)text;
    act("on_error", row->callback);
}

static void on_refused(void *user, echoloop_conn *conn, int why)
{
    (void)user;
    (void)conn;
    (void)why;
    act("on_refused", row->callback);
}

static void on_datagrams(void *user, echoloop_udp *udp, const echoloop_datagram *datagrams, size_t n)
{
    (void)user;
    (void)udp;
    (void)datagrams;
    (void)n;
    act("on_datagrams", row->callback);
}

static void on_watch(void *user, echoloop_watch *watch, void *watch_user, int readiness)
{
    (void)user;
    (void)watch;
    (void)watch_user;
    (void)readiness;
    act("on_watch", row->callback);
}

static void own_watch(void *user, echoloop_watch *watch, int readiness)
{
    (void)user;
    (void)watch;
    (void)readiness;
    act("a watch's own callback", row->callback);
    act("a watch's own callback, dispatched", row->callback);
}

static void on_signal(void *user, echoloop_signal *signal, int number)
{
    (void)user;
    (void)signal;
    (void)number;
    act("on_signal", row->callback);
}

static void on_resolved(void *user, echoloop_lookup *lookup, void *lookup_user, int status, size_t n)
{
    (void)user;
    (void)lookup;
    (void)lookup_user;
    (void)status;
    (void)n;
    act("on_resolved", row->callback);
}

static void on_event(void *user, const echoloop_event *event)
{
    (void)user;
    (void)event;
    act("on_event", row->callback);
}

static void on_slow(void *user, const echoloop_event *event, int64_t took_us)
{
    (void)user;
    (void)event;
    (void)took_us;
    act("the callback for slow handlers", row->slow);
}

static void on_log(void *user, int level, const char *target, const char *text)
{
    (void)user;
    (void)level;
    (void)target;
    (void)text;
    if (pthread_equal(pthread_self(), owner)) /* Not of what workers write. */
        act("the callback for the log", row->log);
}

/* On a thread of the loop's. */
static int resolve(void *user, const char *host, echoloop_answer *answer)
{
    (void)user;
    if (strcmp(host, "act") == 0) {
        w->answer = answer;
        act("a resolver", calls("echoloop_answer_add") ? YES : row->thread);
        w->answer = NULL;
    }
    return ECHOLOOP_EAI(EAI_NONAME);
}

static echoloop_hooks all_hooks(void)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    hooks.on_open = on_open;
    hooks.on_data = on_data;
    hooks.on_congested = on_congested;
    hooks.on_drained = on_drained;
    hooks.on_end_of_stream = on_end_of_stream;
    hooks.on_close = on_close;
    hooks.on_timer = on_timer;
    hooks.on_post = on_post;
    hooks.on_tick = on_tick;
    hooks.on_error = on_error;
    hooks.on_refused = on_refused;
    hooks.on_datagrams = on_datagrams;
    hooks.on_watch = on_watch;
    hooks.on_signal = on_signal;
    hooks.on_resolved = on_resolved;
    hooks.on_event = on_event;
    return hooks;
}

/* One turn by a batch, whose events are dispatched. */
static int dispatch_all(void)
{
    echoloop_event events[16];
    int i, n = echoloop_poll_batch(w->loop, events, COUNT(events), 1000);
    for (i = 0; i < n; i++)
        if (events[i].type == ECHOLOOP_EVENT_TIMER || events[i].type == ECHOLOOP_EVENT_WATCH)
            echoloop_dispatch(&events[i]);
    return n;
}
