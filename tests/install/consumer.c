/*
 * A program outside the repository, in C and in C++: it sends itself a message through an echoing
 * loop, and says of which version the header and the library are.
 */
#include <echoloop.h>

#include <stdio.h>

static const char MESSAGE[] = "hello";

struct talk {
    echoloop *loop;
    echoloop_conn *client;
    size_t back;
};

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    struct talk *talk = (struct talk *)user;

    if (conn != talk->client) {
        echoloop_conn_send(conn, data, len);
    } else {
        talk->back += len;
        if (talk->back == sizeof MESSAGE)
            echoloop_stop(talk->loop);
    }
    return len;
}

static void on_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    (void)timer;
    (void)timer_user;
    echoloop_stop(((struct talk *)user)->loop); /* Too late: what came back is not the message. */
}

int main(void)
{
    struct talk talk = { echoloop_new(NULL), NULL, 0 };
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_listener *listener;
    echoloop_timer *timer;
    char addr[ECHOLOOP_ADDR_MAX];

    hooks.on_data = on_data;
    hooks.on_timer = on_timer;
    if (echoloop_listen(talk.loop, "127.0.0.1:0", NULL, &listener) < 0
        || echoloop_listener_addr(listener, addr, sizeof addr) < 0
        || echoloop_connect(talk.loop, addr, NULL, &talk.client) < 0
        || echoloop_conn_send(talk.client, MESSAGE, sizeof MESSAGE) < 0
        || echoloop_timer_new(talk.loop, ECHOLOOP_SECONDS(10), 0, NULL, &timer) < 0
        || echoloop_run(talk.loop, &hooks, &talk) < 0) {
        fprintf(stderr, "%s\n", echoloop_last_error());
        return 1;
    }
    echoloop_free(talk.loop);
    printf("header %s library %s\n", ECHOLOOP_VERSION, echoloop_version());
    return talk.back == sizeof MESSAGE && echoloop_live_handles() == 0 ? 0 : 1;
}
