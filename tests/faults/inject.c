/* Runs a program in which one system call fails: the NTH time that it is made, and K times in all.
 *
 *   cc -std=c99 -D_GNU_SOURCE -Wall -Wextra -o inject inject.c
 *   inject recvfrom ECONNRESET 3 LOG -- echoloop serve --listen 127.0.0.1:7007
 *   inject -s ioctl -f 0-2 write short 1+20 LOG -- echoloop serve
 *
 * WHAT is the name of an errno, or `short`: one byte, message or report instead of as many as were asked for. -s CALL
 * counts from the first time that CALL is made (the loader's own calls come before), -f A-B only calls about the
 * descriptors from A to B, -k KIND only those about tcp, udp or unix sockets with a name. LOG gets `pid N`, a line
 * `hit CALL WHAT fd=N kind=KIND peer=PORT` each time, and at the end `seen N hits N started 0|1 end CODE`, CODE as a shell has it.
 *
 * By seccomp(2) and ptrace(2): only the calls of interest stop, all others run at full speed, and it reaches what a
 * preloaded library does not, for rustix makes its system calls itself. The rule: never tell what no kernel would.
 * close(2) is made and then answered with the error, since Linux gives the descriptor back either way. brk(2) answers
 * with the break that is, as the kernel does when memory lacks. EPOLL_CTL_DEL needs nothing and never fails. After `EAGAIN`
 * or a short count epoll(7) is made to report anew (EPOLL_CTL_MOD), since to an edge-triggered program both say that
 * it will. Left out: machines other than x86-64. */
#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct user_regs_struct Regs;

#define CALL(name) {#name, SYS_##name}
static const struct { const char *name; long number; } calls[] = {
    CALL(accept4), CALL(bind), CALL(brk), CALL(clone), CALL(clone3), CALL(close), CALL(connect), CALL(epoll_create1),
    CALL(epoll_ctl), CALL(epoll_pwait), CALL(epoll_pwait2), CALL(epoll_wait), CALL(eventfd2), CALL(fcntl),
    CALL(fstat), CALL(futex), CALL(getpeername), CALL(getrandom), CALL(getsockname), CALL(getsockopt), CALL(ioctl),
    CALL(listen), CALL(lseek), CALL(madvise), CALL(mmap), CALL(mprotect), CALL(mremap), CALL(munmap), CALL(newfstatat),
    CALL(openat), CALL(pipe2), CALL(poll), CALL(prctl), CALL(prlimit64), CALL(read), CALL(readv), CALL(recvfrom),
    CALL(recvmmsg), CALL(recvmsg), CALL(rename), CALL(rt_sigaction), CALL(sched_getaffinity), CALL(sendmmsg),
    CALL(sendmsg), CALL(sendto), CALL(setsockopt), CALL(shutdown), CALL(sigaltstack), CALL(socket), CALL(socketpair), CALL(statx),
    CALL(timerfd_create), CALL(timerfd_settime), CALL(unlink), CALL(unlinkat), CALL(write), CALL(writev),
};

/* What each descriptor is registered for, as far as epoll_ctl(2) was seen. */
static struct { int epoll; struct epoll_event event; } registered[65536];

static FILE *log_file;
static long target, marker = -1;
static const char *call_name, *what, *wanted;
static int error; /* 0: short */
static unsigned long nth, times = 1, seen, hits;
static int counting, server, least = -1, most = 65535;

static void die(const char *why)
{
    fprintf(stderr, "inject: %s: %s\n", why, strerror(errno));
    exit(125);
}

static long number_of(const char *name)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].number;
    errno = ENOSYS;
    die(name);
    return -1;
}

static int errno_of(const char *name)
{
    for (int e = 1; e < 134; e++) {
        const char *its = strerrorname_np(e);
        if (its && strcmp(its, name) == 0)
            return e;
    }
    errno = EINVAL;
    die(name);
    return -1;
}

/* Whether epoll_ctl(2) is to be seen, to make epoll(7) report anew. */
static int nudges(void)
{
    return error == 0 || error == EAGAIN;
}

static void run(char **argv, int go)
{
    char byte;
    if (read(go, &byte, 1) != 1)
        _exit(125);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)target, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)marker, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nudges() ? SYS_epoll_ctl : (unsigned)target, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(125);
    execvp(argv[0], argv);
    _exit(127);
}

static Regs registers(pid_t tid)
{
    Regs regs = {0};
    if (ptrace(PTRACE_GETREGS, tid, 0, &regs) && errno != ESRCH)
        die("PTRACE_GETREGS");
    return regs;
}

static void set_registers(pid_t tid, const Regs *regs)
{
    ptrace(PTRACE_SETREGS, tid, 0, regs); /* It fails when the thread has just been killed. */
}

static int peek(pid_t tid, unsigned long from, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)from, size};
    return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

static int poke(pid_t tid, unsigned long to, void *from, size_t size)
{
    struct iovec here = {from, size}, there = {(void *)to, size};
    return process_vm_writev(tid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Lets the thread run to the end of its system call. A signal that comes meanwhile is sent again. */
static void finish_call(pid_t tid)
{
    for (;;) {
        int status;
        if (ptrace(PTRACE_SYSCALL, tid, 0, 0) || waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
            return;
        int sig = WSTOPSIG(status);
        struct __ptrace_syscall_info info = {0};
        if (sig == (SIGTRAP | 0x80)) {
            ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
            if (info.op == PTRACE_SYSCALL_INFO_EXIT)
                return;
        } else if (status >> 16 == 0) {
            syscall(SYS_tgkill, server, tid, sig);
        }
    }
}

/* Makes epoll(7) report what the descriptor is ready for, as if it had become so just now. */
static void report_anew(pid_t tid, int fd)
{
    if (fd < 0 || fd >= 65536 || registered[fd].epoll == 0)
        return;
    Regs after = registers(tid), ask = after;
    unsigned long room = (after.rsp - 1024) & ~15ul; /* Beyond the red zone. */
    if (!poke(tid, room, &registered[fd].event, sizeof registered[fd].event))
        return;
    ask.rip -= 2; /* Once more the instruction `syscall`. */
    ask.rax = SYS_epoll_ctl;
    ask.rdi = (unsigned long)registered[fd].epoll;
    ask.rsi = EPOLL_CTL_MOD;
    ask.rdx = (unsigned long)fd;
    ask.r10 = room;
    set_registers(tid, &ask);
    finish_call(tid);
    set_registers(tid, &after);
}

/* What the server has under this number: `tcp`, `udp`, `unix`, `pair` (a Unix socket without a name) or `other`; and
 * the port of its peer, or 0. */
static const char *kind_of(int fd, int *port)
{
    int domain = 0, type = 0, pidfd = (int)syscall(SYS_pidfd_open, server, 0);
    int copy = pidfd < 0 || fd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer, number = sizeof domain;
    if (getpeername(copy, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET)
        *port = ntohs(peer.sin_port);
    int got = getsockopt(copy, SOL_SOCKET, SO_DOMAIN, &domain, &number);
    if (got == 0)
        getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &number);
    size = sizeof peer;
    int named = getsockname(copy, (struct sockaddr *)&peer, &size) == 0 && size > sizeof peer.sin_family;
    close(copy);
    close(pidfd);
    if (got != 0 || (domain != AF_INET && domain != AF_UNIX))
        return "other";
    if (domain == AF_UNIX)
        return named ? "unix" : "pair";
    return type == SOCK_STREAM ? "tcp" : "udp";
}

static int descriptor_of(const Regs *regs)
{
    switch (target) {
    case SYS_epoll_ctl: return (int)regs->rdx;
    case SYS_openat: case SYS_newfstatat: case SYS_mmap: case SYS_brk: case SYS_munmap: case SYS_mprotect:
    case SYS_mremap: case SYS_madvise: case SYS_clone: case SYS_clone3: case SYS_rt_sigaction: case SYS_prctl:
    case SYS_prlimit64: case SYS_getrandom: case SYS_socket: case SYS_socketpair: case SYS_eventfd2:
    case SYS_epoll_create1: case SYS_timerfd_create: case SYS_pipe2: case SYS_sigaltstack: case SYS_futex:
    case SYS_sched_getaffinity: case SYS_poll: case SYS_unlink: case SYS_unlinkat: case SYS_rename: case SYS_statx: return -1;
    default: return (int)regs->rdi;
    }
}

/* Makes the call with a count of one; false when that is what was asked for anyway. */
static int shorten(pid_t tid, Regs *regs)
{
    struct msghdr message = {0};
    struct iovec vector;
    unsigned long at = 0, old = regs->rdx;
    switch (target) {
    case SYS_recvmsg: case SYS_sendmsg:
        if (!peek(tid, regs->rsi, &message, sizeof message) || message.msg_iovlen == 0)
            return 0;
        at = (unsigned long)message.msg_iov;
        break;
    case SYS_readv: case SYS_writev:
        at = regs->rsi;
        break;
    default:
        if (old <= 1)
            return 0;
        regs->rdx = 1;
        set_registers(tid, regs);
    }
    size_t long_before = message.msg_iovlen;
    if (at) {
        if (!peek(tid, at, &vector, sizeof vector) || vector.iov_len == 0)
            return 0;
        struct iovec one = {vector.iov_base, 1};
        size_t entries = 1;
        poke(tid, at, &one, sizeof one);
        if (target == SYS_recvmsg || target == SYS_sendmsg)
            poke(tid, regs->rsi + offsetof(struct msghdr, msg_iovlen), &entries, sizeof entries);
        else
            regs->rdx = 1;
        set_registers(tid, regs);
    }
    if (target == SYS_epoll_wait)
        return 1; /* It blocks, which must not stop us; and a C function may leave its argument changed. */
    finish_call(tid);
    Regs after = registers(tid);
    after.rdx = old;
    set_registers(tid, &after);
    if (at)
        poke(tid, at, &vector, sizeof vector);
    if (at && (target == SYS_recvmsg || target == SYS_sendmsg))
        poke(tid, regs->rsi + offsetof(struct msghdr, msg_iovlen), &long_before, sizeof long_before);
    return 1;
}

static void hit(pid_t tid, Regs *regs, const char *kind, int peer)
{
    int fd = descriptor_of(regs);
    unsigned long asked = regs->rdi;
    if (error == 0) {
        if (!shorten(tid, regs))
            return;
    } else if (target == SYS_brk) {
        Regs after;
        regs->rdi = 0;
        set_registers(tid, regs);
        finish_call(tid);
        after = registers(tid);
        after.rdi = asked;
        set_registers(tid, &after);
    } else if (target == SYS_close) {
        finish_call(tid);
        Regs after = registers(tid);
        after.rax = (unsigned long)-error;
        set_registers(tid, &after);
    } else {
        regs->orig_rax = (unsigned long)-1; /* seccomp(2): the call is skipped. */
        regs->rax = (unsigned long)-error;
        set_registers(tid, regs);
        finish_call(tid);
    }
    hits++;
    fprintf(log_file, "hit %s %s fd=%d kind=%s peer=%d\n", call_name, what, fd, kind, peer);
    if (nudges() && target != SYS_epoll_wait)
        report_anew(tid, fd);
}

static void note_registration(pid_t tid, const Regs *regs)
{
    unsigned long fd = regs->rdx;
    if (fd >= 65536)
        return;
    registered[fd].epoll = 0;
    if (regs->rsi != EPOLL_CTL_DEL && peek(tid, regs->r10, &registered[fd].event, sizeof registered[fd].event))
        registered[fd].epoll = (int)regs->rdi;
}

static void on_call(pid_t tid)
{
    Regs regs = registers(tid);
    long number = (long)regs.orig_rax;
    counting |= number == marker;
    if (number == SYS_epoll_ctl)
        note_registration(tid, &regs);
    if (number != target || !counting)
        return;
    if (number == SYS_epoll_ctl && regs.rsi == EPOLL_CTL_DEL)
        return;
    int fd = descriptor_of(&regs);
    if (fd < least || fd > most)
        return;
    int peer = 0, due = seen + 1 >= nth && hits < times;
    const char *its = wanted || due ? kind_of(fd, &peer) : "";
    if (wanted && strcmp(wanted, its) != 0)
        return;
    seen++;
    if (due)
        hit(tid, &regs, its, peer);
}

static int watch(void)
{
    int end = 125;
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == ECHILD)
            return end;
        if (tid < 0)
            continue;
        if (!WIFSTOPPED(status)) {
            if (tid == server)
                end = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        if (status >> 16 == PTRACE_EVENT_SECCOMP)
            on_call(tid);
        int sig = status >> 16 || WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_CONT, tid, 0, sig);
    }
}

int main(int argc, char **argv)
{
    int at = 1, go[2];
    for (; argc > at + 1 && argv[at][0] == '-'; at += 2)
        if (strcmp(argv[at], "-s") == 0)
            marker = number_of(argv[at + 1]);
        else if (strcmp(argv[at], "-k") == 0)
            wanted = argv[at + 1];
        else if (strcmp(argv[at], "-f") != 0 || sscanf(argv[at + 1], "%d-%d", &least, &most) != 2)
            break;
    if (argc < at + 6 || strcmp(argv[at + 4], "--") != 0) {
        fprintf(stderr, "usage: inject [-s CALL] [-f A-B] [-k KIND] CALL ERRNO|short NTH[+K] LOG -- PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    call_name = argv[at];
    what = argv[at + 1];
    target = number_of(call_name);
    error = strcmp(what, "short") == 0 ? 0 : errno_of(what);
    char *more;
    nth = strtoul(argv[at + 2], &more, 10);
    if (*more == '+')
        times = strtoul(more + 1, NULL, 10);
    counting = marker < 0;
    log_file = fopen(argv[at + 3], "we");
    if (!log_file || pipe(go))
        die(argv[at + 3]);
    setvbuf(log_file, NULL, _IOLBF, 0);
    server = fork();
    if (server < 0)
        die("fork");
    if (server == 0) {
        close(go[1]);
        run(argv + at + 5, go[0]);
    }
    close(go[0]);
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD;
    if (ptrace(PTRACE_SEIZE, server, 0, options))
        die("PTRACE_SEIZE");
    fprintf(log_file, "pid %d\n", server);
    if (write(go[1], "", 1) != 1)
        die("pipe");
    close(go[1]);
    int end = watch();
    fprintf(log_file, "seen %lu hits %lu started %d end %d\n", seen, hits, counting, end);
    return end;
}
