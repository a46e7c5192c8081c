//! The seccomp profile that containers get unless told otherwise.
//!
//! It allows what ordinary programs need and answers "no such call" to all else, so that C libraries fall back. Calls
//! that need a capability are allowed to containers that have it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Calls of every program.
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 clone clone3 close close_range connect copy_file_range creat dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
    futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl ioprio_get
    ioprio_set ipc keyctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
    lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack mbind membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mount
    mount_setattr move_mount mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat open open_tree openat openat2 pause pidfd_getfd pidfd_open
    pidfd_send_signal pipe pipe2 pivot_root pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
    pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readdir readlink readlinkat readv reboot
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
    setns setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget
    shutdown sigaction sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend
    socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs syscall sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask umount
    umount2 uname unlink unlinkat unshare uretprobe utime utimensat utimensat_time64 utimes vfork wait4 waitid
    waitpid write writev
";

/// Calls that exist on some architectures only; names unknown on this one are ignored.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: &str = "";

/// Calls that are refused as forbidden, not as unknown.
const REFUSED: &str = "
    bdflush io_pgetevents kexec_file_load kexec_load migrate_pages move_pages nfsservctl nice oldfstat oldlstat
    oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask swapcontext
    swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old vmsplice
";

/// Calls that a capability allows; without it they are forbidden.
const BY_CAPABILITY: [(&str, &str); 9] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_SYS_ADMIN", "bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname sethostname setns"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module query_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
];

/// Arguments of `personality` that change nothing of weight.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;
const AF_NETLINK: u64 = 16;
const NETLINK_AUDIT: u64 = 9;

/// The profile for a container with these capabilities, as the runtime specification writes it.
pub fn runtime_default(capabilities: &BTreeSet<String>) -> Value {
    let names = |list: &str| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut calls = vec![
        json!({"names": names(REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}),
        json!({"names": names(ALLOWED), "action": "SCMP_ACT_ALLOW"}),
    ];
    if !ARCHITECTURE.is_empty() {
        calls.push(json!({"names": names(ARCHITECTURE), "action": "SCMP_ACT_ALLOW"}));
    }
    for value in PERSONALITIES {
        calls.push(json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}));
    }
    for (capability, list) in BY_CAPABILITY {
        if capabilities.contains(capability) {
            calls.push(json!({"names": names(list), "action": "SCMP_ACT_ALLOW"}));
        } else {
            calls.push(json!({"names": names(list), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}));
        }
    }
    if capabilities.contains("CAP_AUDIT_WRITE") {
        calls.push(json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW"}));
    } else {
        // Programs that try to reach the audit system take EINVAL for a kernel without it.
        calls.push(json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": EINVAL, "args": [
            {"index": 0, "value": AF_NETLINK, "op": "SCMP_CMP_EQ"},
            {"index": 2, "value": NETLINK_AUDIT, "op": "SCMP_CMP_EQ"}]}));
        for (index, value) in [(0, AF_NETLINK), (2, NETLINK_AUDIT)] {
            calls.push(json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": index, "value": value, "op": "SCMP_CMP_NE"}]}));
        }
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": architectures(),
        "syscalls": calls,
    })
}

fn architectures() -> Value {
    match std::env::consts::ARCH {
        "x86_64" => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_open_their_calls() {
        let allows = |capabilities: &[&str], call: &str| {
            let capabilities = capabilities.iter().map(|c| (*c).to_owned()).collect();
            let profile = runtime_default(&capabilities);
            let parsed: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(profile).unwrap();
            parsed.syscalls().iter().flatten().any(|rule| {
                rule.names().iter().any(|name| name == call)
                    && rule.action() == oci_spec::runtime::LinuxSeccompAction::ScmpActAllow
            })
        };
        assert!(allows(&[], "openat"));
        assert!(!allows(&[], "bpf"));
        assert!(allows(&["CAP_SYS_ADMIN"], "bpf"));
        assert!(!allows(&["CAP_SYS_ADMIN"], "kexec_load"));
        assert!(!allows(&[], "init_module"));
    }
}
