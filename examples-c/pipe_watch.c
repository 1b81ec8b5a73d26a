/*
 * Watches a pipe: runs a command, and prints each line of its output with the time it came.
 *
 *     make && build/pipe_watch sh -c 'for i in 1 2 3; do echo line $i; sleep 1; done'
 *
 * Any descriptor can be watched: pipes, terminals, devices, sockets of other libraries. A watch is
 * level-triggered: as long as something is left to be read, it is told again.
 */
#include <echoloop.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct program {
    echoloop *loop;
    char line[4096];
    size_t len;
};

static void print_lines(struct program *program)
{
    char *end, *from = program->line;
    size_t left = program->len;
    while ((end = memchr(from, '\n', left)) != NULL || left == sizeof program->line) {
        size_t len = end != NULL ? (size_t)(end - from) : left;
        printf("%8.3f s: %.*s\n", (double)echoloop_now_us(program->loop) / 1e6, (int)len, from);
        len += end != NULL;
        from += len;
        left -= len;
    }
    memmove(program->line, from, left);
    program->len = left;
}

static void on_output(void *user, echoloop_watch *watch, int readiness)
{
    struct program *program = user;
    char *room = program->line + program->len;
    ssize_t n = read(echoloop_watch_fd(watch), room, sizeof program->line - program->len);
    (void)readiness; /* An end or an error is readable too: read(2) tells which. */
    if (n > 0) {
        program->len += (size_t)n;
        print_lines(program);
    } else {
        echoloop_watch_close(watch);
        echoloop_stop(program->loop);
    }
}

int main(int argc, char **argv)
{
    static struct program program;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_watch *watch;
    int ends[2], status = 0;
    pid_t child;
    if (argc < 2 || pipe(ends) < 0 || (child = fork()) < 0) {
        fprintf(stderr, "usage: pipe_watch COMMAND [ARGUMENT...]\n");
        return 2;
    }
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    program.loop = echoloop_new(NULL);
    if (echoloop_watch_new(program.loop, ends[0], ECHOLOOP_READABLE, NULL, &program, &watch) < 0
        || echoloop_watch_set_callback(watch, on_output) < 0
        || echoloop_run(program.loop, &hooks, NULL) < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(program.loop);
    close(ends[0]); /* It was lent to the loop. */
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
