/*
 * A chat room: every line goes to all others, and who reads slowly holds up nobody.
 *
 *     make && build/chat 127.0.0.1:7008
 *     nc 127.0.0.1 7008        (in two terminals)
 *
 * A member with more than the high mark in its queue is sent nothing until it has read, and is then told
 * what it has missed. So the room's memory is bounded, whoever stops reading.
 */
#include <echoloop.h>

#include <signal.h>
#include <stdio.h>

enum { MOST = 1000, MARK = 256 << 10 };

struct member {
    echoloop_conn *conn;
    unsigned long missed; /* Bytes. */
};
static struct member members[MOST], *end = members;

/* The member, or the end of the list. */
static struct member *find(const echoloop_conn *conn)
{
    struct member *member = members;
    while (member < end && member->conn != conn)
        member++;
    return member;
}

static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    (void)user, (void)listener;
    if (end == members + MOST) {
        echoloop_conn_abort(conn);
        return;
    }
    end->conn = conn;
    end++->missed = 0;
}

/* Whole lines are told; the beginning of one is offered again. max_unread bounds how long it can be. */
static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    struct member *member;
    (void)user;
    while (len > 0 && data[len - 1] != '\n')
        len--;
    for (member = members; member < end; member++) {
        if (member->conn == conn)
            continue;
        if (echoloop_conn_queued(member->conn) > MARK || echoloop_conn_send(member->conn, data, len) < 0)
            member->missed += len;
    }
    return len;
}

static void on_drained(void *user, echoloop_conn *conn)
{
    struct member *member = find(conn);
    char text[64];
    int len = snprintf(text, sizeof text, "* you have missed %lu bytes\n", member->missed);
    (void)user;
    if (member == end || member->missed == 0)
        return;
    echoloop_conn_send(conn, text, (size_t)len);
    member->missed = 0;
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    struct member *member = find(conn);
    (void)user, (void)reason, (void)unsent;
    if (member < end)
        *member = *--end;
}

static void on_signal(void *loop, echoloop_signal *signal, int number)
{
    (void)signal, (void)number;
    echoloop_stop(loop);
}

int main(int argc, char **argv)
{
    echoloop *loop = echoloop_new(NULL);
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_listener *listener;
    echoloop_signal *signal;
    char where[ECHOLOOP_ADDR_MAX];
    int ran = -1;
    hooks.on_open = on_open;
    hooks.on_data = on_data;
    hooks.on_drained = on_drained;
    hooks.on_close = on_close;
    hooks.on_signal = on_signal;
    if (echoloop_listen(loop, argc > 1 ? argv[1] : "127.0.0.1:7008", NULL, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && echoloop_signal_watch(loop, SIGINT, &signal) == 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        ran = echoloop_run(loop, &hooks, loop);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(loop);
    return ran < 0;
}
