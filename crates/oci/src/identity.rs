//! Who a process runs as and with which rights, from the specification's wishes to what the host can give.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use linux::capability::{self, Set, Sets};
use linux::{Context, plain, process};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, access, chdir};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, LinuxSeccomp, PosixRlimitType, Process};

use crate::filter::{self, Loadable};
use crate::{Error, Result};

const USUAL_UMASK: u32 = 0o022;

/// All that is known of a process before it exists, so that as little as possible can go wrong in it.
#[derive(Debug)]
pub struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    capabilities: Sets,
    /// What the starter may do.
    held: Set,
    no_new_privileges: bool,
    filter: Option<Loadable>,
    limits: Vec<(u32, u64, u64)>,
    label: Option<Label>,
    cwd: String,
    arguments: Vec<String>,
    environment: Vec<String>,
}

/// What a security module calls a process.
#[derive(Debug)]
enum Label {
    AppArmor(String),
    SeLinux(String),
}

impl Identity {
    pub fn of(process: &Process, seccomp: Option<&LinuxSeccomp>) -> Result<Self> {
        let user = process.user();
        let arguments = process.args().clone().unwrap_or_default();
        if arguments.first().is_none_or(String::is_empty) {
            return Err(Error::spec("a process needs arguments, the first one its program"));
        }
        let environment = process.env().clone().unwrap_or_default();
        if let Some(text) = arguments.iter().chain(&environment).find(|text| text.contains('\0')) {
            return Err(Error::spec(format!("{text:?} contains a null byte")));
        }
        let cwd = process.cwd().to_string_lossy().into_owned();
        if !cwd.starts_with('/') || cwd.contains('\0') {
            return Err(Error::spec(format!("cwd {cwd:?} is not an absolute path")));
        }
        let limits = process.rlimits().iter().flatten().map(|l| (resource(l.typ()), l.soft(), l.hard()));
        let apparmor = process.apparmor_profile().clone().filter(|name| !name.is_empty()).map(Label::AppArmor);
        let selinux = process.selinux_label().clone().filter(|name| !name.is_empty()).map(Label::SeLinux);
        let held = capability::current().context(|| "cannot read capabilities")?;
        Ok(Self {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(USUAL_UMASK),
            capabilities: capabilities(process.capabilities().as_ref(), &held),
            held: held.permitted,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter: seccomp.map(filter::assemble).transpose()?,
            limits: limits.collect(),
            label: apparmor.or(selinux),
            cwd,
            arguments,
            environment,
        })
    }

    /// Makes the working directory where it is missing; a read-only root keeps it missing, which is told later.
    pub fn make_cwd(&self) {
        let _ = fs::create_dir_all(&self.cwd);
    }

    pub fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Gives up everything that the process shall not have, except what loading the filter takes. In the container.
    pub fn assume(&self) -> Result<Program> {
        for (resource, soft, hard) in &self.limits {
            limit(*resource, *soft, *hard)?;
        }
        if let Some(label) = &self.label {
            label.apply()?;
        }
        if self.no_new_privileges {
            process::forbid_new_privileges().context(|| "cannot set no_new_privs")?;
        }
        // A folder that only root can enter is entered while still root, as users of other runtimes expect.
        let entered = chdir(self.cwd.as_str()).is_ok();
        capability::limit_bounding(self.capabilities.bounding).context(|| "cannot drop capabilities")?;
        process::keep_capabilities(true).context(|| "cannot keep capabilities")?;
        process::become_user(self.uid, self.gid, Some(&self.groups))
            .context(|| format!("cannot become user {} of group {}", self.uid, self.gid))?;
        umask(Mode::from_bits_truncate(self.umask));
        let mut passing = self.capabilities;
        if self.filter.is_some() && !self.no_new_privileges {
            // Loading a filter takes CAP_SYS_ADMIN then.
            let mut needed = Set::default();
            needed.add("CAP_SYS_ADMIN");
            let held = self.held.and(needed);
            passing.permitted.0 |= held.0;
            passing.effective.0 |= held.0;
        }
        passing.ambient = Set::default();
        capability::set(&passing).context(|| "cannot set capabilities")?;
        if !entered {
            chdir(self.cwd.as_str()).map_err(|e| {
                Error::Program(format!("chdir to cwd ({:?}) set in config.json failed: {}", self.cwd, plain(&e.into())))
            })?;
        }
        let environment = self.environment_with_home();
        let program = find(&self.arguments[0], &environment)?;
        if let (Some(filter), false) = (&self.filter, self.no_new_privileges) {
            filter.load()?;
        }
        capability::set(&self.capabilities).context(|| "cannot set capabilities")?;
        process::keep_capabilities(false).context(|| "cannot keep capabilities")?;
        let text = |text: &String| CString::new(text.as_str()).map_err(|e| Error::spec(e.to_string()));
        Ok(Program {
            path: text(&program)?,
            arguments: self.arguments.iter().map(text).collect::<Result<_>>()?,
            environment: environment.iter().map(text).collect::<Result<_>>()?,
        })
    }

    /// Becomes the program; returns only to tell why it could not.
    pub fn execute(&self, program: &Program) -> Error {
        if let (Some(filter), true) = (&self.filter, self.no_new_privileges)
            && let Err(error) = filter.load()
        {
            return error;
        }
        let error = process::execute(&program.path, &program.arguments, &program.environment);
        Error::Program(format!("exec {}: {}", program.path.to_string_lossy(), plain(&error)))
    }

    fn environment_with_home(&self) -> Vec<String> {
        let mut environment = self.environment.clone();
        match environment.iter().position(|pair| pair.starts_with("HOME=")) {
            Some(at) if environment[at] != "HOME=" => {}
            Some(at) => environment[at] = format!("HOME={}", home(self.uid)),
            None => environment.push(format!("HOME={}", home(self.uid))),
        }
        environment
    }
}

/// A program that was found.
#[derive(Debug)]
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Label {
    fn apply(&self) -> Result<()> {
        let (files, text): (&[&str], _) = match self {
            Label::AppArmor(profile) => {
                (&["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"], format!("exec {profile}"))
            }
            Label::SeLinux(label) => (&["/proc/self/attr/exec"], label.clone()),
        };
        let mut result = Ok(());
        for file in files {
            result = fs::write(file, &text).context(|| format!("cannot set the security label {text:?}"));
            if result.is_ok() {
                break;
            }
        }
        Ok(result?)
    }
}

fn capabilities(wanted: Option<&LinuxCapabilities>, held: &Sets) -> Sets {
    // Of what the host itself does not hold nothing can be given; a warning for each would be noise.
    let set = |list: Option<&Capabilities>| {
        let mut set = Set::default();
        for capability in list.into_iter().flatten() {
            set.add(&capability.to_string());
        }
        set.and(held.permitted)
    };
    let list = |get: fn(&LinuxCapabilities) -> &Option<Capabilities>| set(wanted.and_then(|w| get(w).as_ref()));
    let permitted = list(LinuxCapabilities::permitted);
    let inheritable = list(LinuxCapabilities::inheritable);
    Sets {
        bounding: list(LinuxCapabilities::bounding).and(held.bounding),
        effective: list(LinuxCapabilities::effective).and(permitted),
        permitted,
        inheritable,
        ambient: list(LinuxCapabilities::ambient).and(permitted).and(inheritable),
    }
}

fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// Sets a limit, as high as the host may.
fn limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let set = process::set_limit(resource, soft, hard);
    let refused = set.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM));
    if refused {
        let most = process::hard_limit(resource).context(|| "cannot read a resource limit")?;
        process::set_limit(resource, soft.min(most), hard.min(most)).context(|| "cannot set a resource limit")?;
        return Ok(());
    }
    Ok(set.context(|| "cannot set a resource limit")?)
}

/// Sets how readily the kernel kills the calling process and its children for want of memory. Lowering it takes
/// CAP_SYS_RESOURCE; without, it stays as it is.
pub fn adjust_oom_score(score: i32) -> Result<()> {
    let file = "/proc/self/oom_score_adj";
    match fs::write(file, score.clamp(-1000, 1000).to_string()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => Ok(()),
        other => Ok(other.context(|| format!("cannot write {file}"))?),
    }
}

/// The home directory of a user, by the container's own file.
fn home(uid: u32) -> String {
    const LONGEST: u64 = 1 << 20;
    let found = fs::metadata("/etc/passwd").ok().filter(fs::Metadata::is_file).and_then(|_| {
        let lines = BufReader::new(fs::File::open("/etc/passwd").ok()?.take(LONGEST)).lines();
        lines.map_while(std::result::Result::ok).find_map(|line| {
            let mut fields = line.split(':').skip(2);
            let found = fields.next()?.parse() == Ok(uid);
            fields.nth(2).filter(|home| found && !home.is_empty()).map(str::to_owned)
        })
    });
    found.unwrap_or_else(|| "/".to_owned())
}

/// Finds a program as a shell would, with the words that Go has for failing.
fn find(name: &str, environment: &[String]) -> Result<String> {
    if name.contains('/') {
        let error = |why: String| Error::Program(format!("exec: {name:?}: {why}"));
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Err(error(format!("stat {name}: {}", plain(&e)))),
            Err(e) => Err(error(plain(&e))),
        };
    }
    let path = environment.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = Path::new(folder).join(name);
        let candidate = candidate.to_string_lossy();
        if executable(&candidate).is_ok() {
            return Ok(candidate.into_owned());
        }
    }
    Err(Error::Program(format!("exec: {name:?}: executable file not found in $PATH")))
}

fn executable(path: &str) -> std::io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(std::io::Error::from_raw_os_error(libc::EISDIR));
    }
    access(path, AccessFlags::X_OK)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_given_path() {
        let environment = ["PATH=/nowhere:/usr/bin:/bin".to_owned()];
        assert!(find("sh", &environment).unwrap().ends_with("/bin/sh"));
        let said = |name| find(name, &environment).unwrap_err().to_string();
        assert_eq!(said("foo"), r#"exec: "foo": executable file not found in $PATH"#);
        assert_eq!(said("/foo"), r#"exec: "/foo": stat /foo: no such file or directory"#);
        assert_eq!(said("/etc"), r#"exec: "/etc": is a directory"#);
        assert_eq!(said("/etc/passwd"), r#"exec: "/etc/passwd": permission denied"#);
    }
}
