/*
 * Descriptors in C: a library that brings its own callbacks into the program's loop, a loop within a
 * program's poll, and all of it in the child of a fork. Run by tests/descriptors.rs, plainly and under
 * valgrind. Each function is one sentence; a failed check names its line.
 */
#include <echoloop.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE ECHOLOOP_SECONDS(10)
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __func__, __LINE__, #condition, \
                    echoloop_last_error()); \
            exit(1); \
        } \
    } while (0)

/* A "library" that counts the bytes of a pipe, with a timer to give up. */
struct counter {
    int fd;
    echoloop_watch *watch;
    echoloop_timer *timer;
    int bytes, timeouts, ended;
};

static void counter_end(struct counter *counter)
{
    CHECK(echoloop_watch_close(counter->watch) == 0);
    CHECK(echoloop_timer_cancel(counter->timer) == 0);
    counter->ended = 1;
}

static void counter_ready(void *user, echoloop_watch *watch, int readiness)
{
    struct counter *counter = user;
    char bytes[16];
    ssize_t n;
    CHECK(watch == counter->watch && readiness & ECHOLOOP_READABLE);
    n = read(counter->fd, bytes, sizeof bytes);
    CHECK(n >= 0);
    if (n == 0)
        counter_end(counter);
    else
        CHECK(echoloop_timer_rearm(counter->timer, ECHOLOOP_SECONDS(3600)) == 0);
    counter->bytes += (int)n;
}

static void counter_late(void *user, echoloop_timer *timer)
{
    struct counter *counter = user;
    counter->timeouts++;
    CHECK(timer == counter->timer);
    CHECK(echoloop_timer_rearm(timer, ECHOLOOP_SECONDS(3600)) == 0);
}

static void counter_begin(struct counter *counter, echoloop *loop, int fd)
{
    memset(counter, 0, sizeof *counter);
    counter->fd = fd;
    CHECK(echoloop_watch_new(loop, fd, ECHOLOOP_READABLE, NULL, counter, &counter->watch) == 0);
    CHECK(echoloop_watch_set_callback(counter->watch, counter_ready) == 0);
    CHECK(echoloop_timer_new(loop, 0, 0, counter, &counter->timer) == 0);
    CHECK(echoloop_timer_set_callback(counter->timer, counter_late) == 0);
}

static void on_watch(void *user, echoloop_watch *watch, void *watch_user, int readiness)
{
    (void)user, (void)watch, (void)watch_user, (void)readiness;
    CHECK(!"the program is not asked about the library's watch");
}

static void on_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    (void)user, (void)timer, (void)timer_user;
    CHECK(!"the program is not asked about the library's timer");
}

/* A turn, by callbacks or by a batch, when the loop's descriptor asks for one. */
static void turn(echoloop *loop, int by_batch)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_event events[4];
    echoloop_pollfd entry = { 0, ECHOLOOP_READABLE, 0, 0 };
    int i, n;
    entry.fd = echoloop_fd(loop);
    CHECK(echoloop_poll(&entry, 1, PATIENCE) == 1 && entry.readiness == ECHOLOOP_READABLE);
    hooks.on_watch = on_watch;
    hooks.on_timer = on_timer;
    if (!by_batch) {
        CHECK(echoloop_run_once(loop, &hooks, NULL, 0) >= 0);
        return;
    }
    n = echoloop_poll_batch(loop, events, 4, 0);
    CHECK(n >= 0);
    for (i = 0; i < n; i++)
        CHECK(echoloop_dispatch(&events[i]) == 1);
}

static void a_library_lives_in_the_programs_loop(int by_batch)
{
    struct counter counter;
    echoloop *loop = echoloop_new(NULL);
    int64_t deadline_us;
    int fds[2], i;
    CHECK(loop && pipe(fds) == 0);
    counter_begin(&counter, loop, fds[0]);
    while (counter.timeouts == 0)
        turn(loop, by_batch);
    CHECK(echoloop_live_handles() == 3);
    for (i = 1; i <= 3; i++) {
        CHECK(write(fds[1], "12345", 5) == 5);
        while (counter.bytes < 5 * i)
            turn(loop, by_batch);
    }
    close(fds[1]);
    while (!counter.ended)
        turn(loop, by_batch);
    CHECK(counter.bytes == 15 && counter.timeouts == 1);
    CHECK(echoloop_run_once(loop, &(echoloop_hooks)ECHOLOOP_HOOKS_INIT, NULL, 0) == 0);
    CHECK(echoloop_next_deadline(loop, &deadline_us) == 0);
    CHECK(echoloop_live_handles() == 1);
    CHECK(echoloop_free(loop) == 0);
    close(fds[0]);
}

static void wait_for_child(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void in_a_child_nothing_disturbs_the_parent(void)
{
    echoloop *loop = echoloop_new(NULL);
    echoloop_selector *selector;
    echoloop_watch *watch;
    echoloop_ready ready;
    echoloop_event event;
    int64_t deadline_us;
    int fds[2], n, tries;
    pid_t child;
    CHECK(loop && pipe(fds) == 0 && echoloop_selector_new(&selector) == 0);
    CHECK(echoloop_watch_new(loop, fds[0], ECHOLOOP_READABLE, NULL, NULL, &watch) == 0);
    CHECK(echoloop_selector_register(selector, fds[0], ECHOLOOP_READABLE, 0, 7) == 0);
    CHECK(echoloop_live_handles() == 3);
    child = fork();
    if (child == 0) {
        CHECK(echoloop_watch_modify(watch, 0) == ECHOLOOP_EFORKED);
        CHECK(echoloop_watch_close(watch) == ECHOLOOP_EFORKED);
        CHECK(echoloop_fd(loop) == ECHOLOOP_EFORKED);
        CHECK(echoloop_next_deadline(loop, &deadline_us) == ECHOLOOP_EFORKED);
        CHECK(echoloop_selector_register(selector, 0, 1, 0, 0) == ECHOLOOP_EFORKED);
        CHECK(echoloop_selector_modify(selector, fds[0], 0) == ECHOLOOP_EFORKED);
        CHECK(echoloop_selector_unregister(selector, fds[0]) == ECHOLOOP_EFORKED);
        CHECK(echoloop_selector_wait(selector, &ready, 1, 0) == ECHOLOOP_EFORKED);
        CHECK(echoloop_selector_wake(selector) == ECHOLOOP_EFORKED);
        CHECK(echoloop_selector_free(selector) == 0);
        CHECK(echoloop_selector_free(selector) == ECHOLOOP_EBADHANDLE);
        CHECK(echoloop_selector_new(&selector) == 0); /* One of its own works. */
        CHECK(echoloop_selector_register(selector, fds[1], ECHOLOOP_WRITABLE, 0, 8) == 0);
        CHECK(echoloop_selector_wait(selector, &ready, 1, -1) == 1 && ready.key == 8);
        CHECK(echoloop_selector_free(selector) == 0);
        CHECK(echoloop_free(loop) == 0);
        CHECK(echoloop_live_handles() == 0);
        exit(0);
    }
    wait_for_child(child);
    CHECK(echoloop_selector_wait(selector, &ready, 1, 0) == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(echoloop_selector_wait(selector, &ready, 1, PATIENCE) == 1);
    CHECK(ready.fd == fds[0] && ready.readiness == ECHOLOOP_READABLE && ready.key == 7);
    for (n = 0, tries = 0; n == 0 && tries < 100; tries++)
        n = echoloop_poll_batch(loop, &event, 1, ECHOLOOP_MS(100));
    CHECK(n == 1 && event.type == ECHOLOOP_EVENT_WATCH && event.source.watch == watch);
    CHECK(echoloop_selector_free(selector) == 0);
    CHECK(echoloop_free(loop) == 0);
    close(fds[0]);
    close(fds[1]);
}

static void select_takes_arrays(void)
{
    int fds[2], readers[2], writers[1], failed;
    CHECK(pipe(fds) == 0);
    readers[0] = fds[0];
    readers[1] = -1;
    writers[0] = fds[1];
    CHECK(echoloop_select(readers, 2, writers, 1, NULL, 0, -1) == 1);
    CHECK(readers[0] == -1 && readers[1] == -1 && writers[0] == fds[1]);
    close(fds[0]);
    close(fds[1]);
    failed = echoloop_select(NULL, 0, writers, 1, NULL, 0, -1);
    CHECK(failed == -EBADF && writers[0] == fds[1]);
}

static int open_descriptors(void)
{
    int fd, n = 0;
    for (fd = 0; fd < 256; fd++) {
        int copy = dup(fd);
        if (copy >= 0) {
            close(copy);
            n++;
        }
    }
    return n;
}

int main(void)
{
    int before = open_descriptors();
    a_library_lives_in_the_programs_loop(0);
    a_library_lives_in_the_programs_loop(1);
    in_a_child_nothing_disturbs_the_parent();
    select_takes_arrays();
    CHECK(echoloop_live_handles() == 0);
    CHECK(open_descriptors() == before);
    return 0;
}
