/*
 * All callbacks, each of which makes calls of its own.
 *
 * The rule: nothing is told of a connection after its CLOSED, of a loop after its free, of what was ended.
 */

static void some_calls(int most);

/* Inside a callback: the run it belongs to, and whatever else it likes to do. */
static void in_callback(struct run *run)
{
    CHECK(run == NULL || !run->freed, "a callback after its loop's free");
    here->depth++;
    if (here->depth < 5)
        some_calls(3);
    here->depth--;
}

static void told(struct run *run, echoloop_conn *conn, int closed)
{
    conn_told(RAW(conn), closed);
    in_callback(run);
}

static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    conn_begins(RAW(conn), ((struct run *)user)->loop);
    keep(K_echoloop_conn, RAW(conn));
    (void)listener;
    told(user, conn, 0);
}

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    read_all(data, len);
    told(user, conn, 0);
    read_all(data, len);
    return one_in(4) ? (size_t)number() : len;
}

static void on_conn(void *user, echoloop_conn *conn)
{
    told(user, conn, 0);
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    (void)unsent;
    CHECK(strlen(echoloop_close_reason(reason)) > 1, "the reason %d", reason);
    told(user, conn, 1);
    bury(K_echoloop_conn, RAW(conn));
}

static void on_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    (void)timer_user;
    CHECK(!is_dead(RAW(timer)), "a timer that was cancelled");
    in_callback(user);
}

static void own_timer(void *user, echoloop_timer *timer)
{
    (void)user;
    CHECK(!is_dead(RAW(timer)), "a timer that was cancelled");
    in_callback(NULL);
}

static void on_word(void *user, void *word)
{
    (void)word;
    in_callback(user);
}

static void on_nothing(void *user)
{
    in_callback(user);
}

static void on_error(void *user, int status, const char *text)
{
    CHECK(status < 0 && strlen(text) > 3, "on_error(%d, %s)", status, text);
    in_callback(user);
}

static void on_refused(void *user, echoloop_conn *conn, int why)
{
    (void)conn;
    CHECK(why >= 1 && why <= 3, "refused: %d", why);
    in_callback(user);
}

static void on_datagrams(void *user, echoloop_udp *udp, const echoloop_datagram *datagrams, size_t n)
{
    size_t i;
    (void)udp;
    for (i = 0; i < n; i++)
        read_all(datagrams[i].data, datagrams[i].len);
    in_callback(user);
    for (i = 0; i < n; i++)
        read_all(datagrams[i].data, datagrams[i].len);
}

static void on_watch(void *user, echoloop_watch *watch, void *watch_user, int readiness)
{
    (void)watch_user;
    CHECK(readiness > 0 && readiness < 128, "ready for %d", readiness);
    CHECK(!is_dead(RAW(watch)), "a watch that was closed");
    in_callback(user);
}

static void own_watch(void *user, echoloop_watch *watch, int readiness)
{
    (void)user;
    /* What is dispatched may be made up. */
    CHECK(is("echoloop_dispatch") || (readiness > 0 && readiness < 128), "ready for %d", readiness);
    CHECK(!is_dead(RAW(watch)), "a watch that was closed");
    in_callback(NULL);
}

static void on_signal(void *user, echoloop_signal *signal, int number)
{
    (void)signal;
    CHECK(number > 0, "signal %d", number);
    in_callback(user);
}

static void on_resolved(void *user, echoloop_lookup *lookup, void *lookup_user, int status, size_t n)
{
    echoloop_ip ip;
    size_t i;
    (void)lookup_user;
    CHECK(status <= 0 && (status == 0 || n == 0), "resolved: %d, %lu", status, (unsigned long)n);
    for (i = 0; i < n; i++)
        CHECK(echoloop_lookup_addr(lookup, i, &ip) == 0, "address %lu", (unsigned long)i);
    in_callback(user);
}

static void on_event(void *user, const echoloop_event *event)
{
    look_at(event, ((struct run *)user)->loop);
    in_callback(user);
}
