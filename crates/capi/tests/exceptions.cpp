// A C++ exception leaves a callback: exceptions BORDER. The process has to end there, with a message; run by
// tests/exceptions.rs for every border by which the library calls the program.
#include <echoloop.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <unistd.h>

static const char *border;

static void leave(const char *name)
{
    if (std::strcmp(border, name) == 0)
        throw std::runtime_error(name);
}

static void on_post(void *, void *) { leave("hook"); }
static size_t on_data(void *, echoloop_conn *, const uint8_t *, size_t len) { leave("on_data"); return len; }
static void on_event(void *, const echoloop_event *) { leave("on_event"); }
static void on_timer(void *, echoloop_timer *) { leave("timer"); leave("dispatch"); }
static void on_watch(void *, echoloop_watch *, int) { leave("watch"); }
static void on_slow(void *, const echoloop_event *, int64_t) { leave("slow handler"); }
static void on_log(void *, int, const char *, const char *) { leave("log"); }
static int resolve(void *, const char *, echoloop_answer *) { leave("resolver"); return -1; }
static void *on_start(void *, size_t, echoloop *) { leave("start of a worker"); return nullptr; }
static void on_end(void *, size_t) { leave("end of a worker"); }

#define MUST(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, echoloop_last_error()); \
            return 2; \
        } \
    } while (0)

static int serve()
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_options options = ECHOLOOP_OPTIONS_INIT;
    echoloop_server_options drained = ECHOLOOP_SERVER_OPTIONS_INIT;
    echoloop_listener *listener;
    echoloop_conn *conn;
    echoloop_timer *timer;
    echoloop_watch *watch;
    echoloop_lookup *lookup;
    echoloop_remote *remote;
    echoloop_workers *workers;
    echoloop_event events[16];
    char addr[ECHOLOOP_ADDR_MAX];
    int ends[2];
    hooks.on_post = on_post;
    hooks.on_data = on_data;
    hooks.on_event = on_event;
    options.resolve = resolve;
    drained.drain_deadline_us = 1000;
    echoloop *loop = echoloop_new(&options);
    MUST(loop != nullptr);
    MUST(echoloop_listen(loop, "127.0.0.1:0", nullptr, &listener) == 0);
    MUST(echoloop_listener_addr(listener, addr, sizeof addr) > 0);
    MUST(echoloop_connect(loop, addr, nullptr, &conn) == 0 && echoloop_conn_send(conn, "x", 1) == 0);
    MUST(echoloop_timer_new(loop, 0, 1000, nullptr, &timer) == 0);
    MUST(echoloop_timer_set_callback(timer, on_timer) == 0);
    MUST(pipe(ends) == 0);
    MUST(echoloop_watch_new(loop, ends[1], ECHOLOOP_WRITABLE, nullptr, nullptr, &watch) == 0);
    MUST(echoloop_watch_set_callback(watch, on_watch) == 0);
    MUST(echoloop_resolve(loop, "somebody", -1, nullptr, &lookup) == 0);
    MUST(echoloop_remote_new(loop, &remote) == 0 && echoloop_remote_post(remote, nullptr) == 0);
    if (std::strcmp(border, "slow handler") == 0)
        MUST(echoloop_set_slow_handler(loop, 0, on_slow, nullptr) == 0);
    if (std::strcmp(border, "log") == 0) {
        MUST(echoloop_set_log(ECHOLOOP_LOG_DEBUG, on_log, nullptr) == 0);
        echoloop_server *server = echoloop_server_new(nullptr);
        MUST(server != nullptr && echoloop_server_drain(server) == 0);
    }
    if (std::strstr(border, "worker") != nullptr) {
        MUST(echoloop_workers_new(&drained, &workers) == 0);
        MUST(echoloop_workers_listen(workers, "127.0.0.1:0") == 0);
        MUST(echoloop_workers_start(workers, 1, 0, &hooks, on_start, on_end, nullptr) == 0);
        MUST(echoloop_workers_free(workers) == 0);
    }
    for (int turn = 0; turn < 5000; turn++) {
        if (std::strcmp(border, "dispatch") == 0) {
            int n = echoloop_poll_batch(loop, events, 16, 1000);
            for (int i = 0; i < n; i++)
                echoloop_dispatch(&events[i]);
        } else {
            MUST(echoloop_run_once(loop, &hooks, nullptr, 1000) >= 0);
        }
        if (turn == 10)
            MUST(echoloop_stop(loop) == 0); // Told to on_event.
    }
    return 0;
}

int main(int, char **argv)
{
    border = argv[1];
    try {
        return serve();
    } catch (const std::exception &thrown) {
        std::printf("%s went through the library\n", thrown.what());
        return 1;
    }
}
