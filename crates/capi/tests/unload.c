/*
 * Lets the library go with dlclose(3) while something of it is to run still: the handler of a signal, a
 * thread that resolves a name, the handlers of fork(2). Run by tests/unload.rs with the library's path.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "echoloop.h"

static int asked[2], answer[2], answered[2];

/* Says that it was called, and returns when it is told to. */
static int resolve(void *user, const char *host, echoloop_answer *to)
{
    char byte = 0;
    (void)user, (void)host, (void)to;
    if (write(asked[1], &byte, 1) != 1 || read(answer[0], &byte, 1) != 1)
        return -1;
    return write(answered[1], &byte, 1) == 1 ? ECHOLOOP_EAI(2) : -1;
}

/* A pointer to data and one to a function are of one size here, by POSIX. */
static void find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
}

int main(int argc, char **argv)
{
    echoloop *(*new)(const echoloop_options *);
    int (*free_loop)(echoloop *);
    int (*watch)(echoloop *, int, echoloop_signal **);
    int (*look_up)(echoloop *, const char *, int64_t, void *, echoloop_lookup **);
    echoloop_options options = ECHOLOOP_OPTIONS_INIT;
    char byte = 0;
    int round, status = 0;
    if (argc != 2 || pipe(asked) < 0 || pipe(answer) < 0 || pipe(answered) < 0)
        return 2;
    for (round = 0; round < 3; round++) {
        echoloop *loop;
        echoloop_signal *of_signal;
        echoloop_lookup *lookup;
        pid_t pid;
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            printf("%s\n", dlerror());
            return 3;
        }
        find(library, "echoloop_new", &new);
        find(library, "echoloop_free", &free_loop);
        find(library, "echoloop_signal_watch", &watch);
        find(library, "echoloop_resolve", &look_up);
        options.resolve = resolve;
        loop = new(&options);
        if (!loop || watch(loop, SIGUSR1, &of_signal))
            return 4;
        /* Not at first: a thread of the library's keeps it where it is. */
        if (round > 0
            && (look_up(loop, "name.invalid", 0, NULL, &lookup) || read(asked[0], &byte, 1) != 1))
            return 4;
        free_loop(loop);
        dlclose(library);
        raise(SIGUSR1);
        pid = fork();
        if (pid == 0)
            _exit(0);
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 5;
        if (round > 0 && (write(answer[1], &byte, 1) != 1 || read(answered[0], &byte, 1) != 1))
            return 6;
    }
    puts("all is well");
    return 0;
}
