/*
 * What the test programs of the adapters share: checks that end the program with the line that
 * failed, and a loop that must be empty at the end.
 */
#ifndef CHECK_H
#define CHECK_H

#include <echoloop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);            \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

static echoloop *loop;

/* A line for the test that runs this program and does something to the server now. */
static inline void say(const char *text)
{
    puts(text);
    fflush(stdout);
}

static inline void run(void)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    CHECK(echoloop_run(loop, &hooks, NULL) == 0);
}

/* One turn, and how much happened in it. */
static inline int turn(int64_t timeout_us)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    int count = echoloop_run_once(loop, &hooks, NULL, timeout_us);
    CHECK(count >= 0);
    return count;
}

static inline void stop(void)
{
    CHECK(echoloop_stop(loop) == 0);
}

/* Calls act once, from the loop. */
static inline void later(int64_t delay_us, echoloop_timer_fn act, void *user)
{
    echoloop_timer *timer;
    CHECK(echoloop_timer_new(loop, delay_us, 0, user, &timer) == 0);
    CHECK(echoloop_timer_set_callback(timer, act) == 0);
}

/* The scenario that argv[1] names. */
struct scenario {
    const char *name;
    void (*play)(char **arguments);
};

/* Plays it on a loop that has nothing left in it afterwards. */
static inline int play(const struct scenario *scenarios, size_t count, int argc, char **argv)
{
    size_t i;
    CHECK(argc > 1);
    for (i = 0; i < count; i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0)
            continue;
        loop = echoloop_new(NULL);
        CHECK(loop != NULL);
        scenarios[i].play(argv + 2);
        if (loop != NULL) {
            CHECK(echoloop_live_handles() == 1);
            echoloop_free(loop);
        }
        CHECK(echoloop_live_handles() == 0);
        return 0;
    }
    fprintf(stderr, "no scenario %s\n", argv[1]);
    return 2;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

#endif
