//! Runs lists of plugins: ours in process, others' as programs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::cache::{Cache, Entry};
use crate::conflist::NetworkList;
use crate::spec::{Command, Outcome, Request};
use crate::{Error, Result, plugins};

/// How long a foreign plugin may take.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(220);
const MAX_OUTPUT: u64 = 8 << 20;

/// What a list is run for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The container, as the runtime calls it.
    pub container_id: String,
    /// Path of its network namespace; may be gone at a DEL.
    pub namespace: Option<PathBuf>,
    /// The interface to make inside.
    pub interface: String,
    /// Extra arguments (`CNI_ARGS`).
    pub arguments: BTreeMap<String, String>,
    /// Arguments for plugins that declare the capability of that name.
    pub capabilities: Map<String, Value>,
}

impl Target {
    /// The target of an attachment that is recorded; its namespace may be gone.
    pub fn of(entry: &Entry) -> Self {
        Self {
            container_id: entry.container_id.clone(),
            namespace: None,
            interface: entry.interface.clone(),
            arguments: entry.arguments.clone(),
            capabilities: entry.capabilities.as_object().cloned().unwrap_or_default(),
        }
    }
}

/// Runs lists and remembers what they made.
#[derive(Debug, Clone)]
pub struct Runner {
    plugin_paths: Vec<PathBuf>,
    cache: Cache,
}

impl Runner {
    /// Looks for foreign plugins in `plugin_paths` and keeps results in `cache`.
    pub fn new(plugin_paths: Vec<PathBuf>, cache: Cache) -> Self {
        Self { plugin_paths, cache }
    }

    /// The attachments made and not yet removed.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Attaches a container. On failure, what was made so far stays recorded, so that `del` removes it.
    pub fn add(&self, list: &NetworkList, target: &Target) -> Result<Outcome> {
        let mut entry = Entry {
            network: list.name.clone(),
            container_id: target.container_id.clone(),
            interface: target.interface.clone(),
            config: list.to_value(),
            arguments: target.arguments.clone(),
            capabilities: Value::Object(target.capabilities.clone()),
            result: None,
        };
        // Written before anything is made: a crash in between leaves something to clean up by.
        self.cache.store(&entry)?;
        let mut previous = None;
        for plugin in &list.plugins {
            let outcome = self.call(Command::Add, list, plugin, target, previous.as_ref())?;
            previous = Some(outcome.unwrap_or_default());
        }
        let outcome = previous.unwrap_or_default();
        entry.result = Some(outcome.clone());
        self.cache.store(&entry)?;
        Ok(outcome)
    }

    /// Detaches a container with the configuration it was attached by, or with `list` if that is not known.
    pub fn del(&self, list: &NetworkList, target: &Target) -> Result<()> {
        let mut target = target.clone();
        let cached = self.cache.load(&list.name, &target.container_id, &target.interface)?;
        let (list, result) = match &cached {
            Some(entry) => {
                if let Value::Object(capabilities) = &entry.capabilities {
                    target.capabilities = capabilities.clone();
                }
                target.arguments = entry.arguments.clone();
                (&NetworkList::parse(&entry.config)?, entry.result.as_ref())
            }
            None => (list, None),
        };
        for plugin in list.plugins.iter().rev() {
            self.call(Command::Del, list, plugin, &target, result)?;
        }
        self.cache.remove(&list.name, &target.container_id, &target.interface)
    }

    /// Complains if a container is not attached as it was.
    pub fn check(&self, list: &NetworkList, target: &Target) -> Result<()> {
        let cached = self.cache.load(&list.name, &target.container_id, &target.interface)?;
        let Some(entry) = cached else { return Err(Error::UnknownContainer(target.container_id.clone())) };
        let list = NetworkList::parse(&entry.config)?;
        if list.disable_check {
            return Ok(());
        }
        for plugin in &list.plugins {
            self.call(Command::Check, &list, plugin, target, entry.result.as_ref())?;
        }
        Ok(())
    }

    /// Asks whether containers can be attached now.
    pub fn status(&self, list: &NetworkList) -> Result<()> {
        for plugin in &list.plugins {
            let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            locate(name, &self.plugin_paths)?;
            // The command exists since 1.1.
            if list.version == crate::spec::VERSION {
                self.call(Command::Status, list, plugin, &nobody(), None)?;
            }
        }
        Ok(())
    }

    /// Removes all attachments but those of the given containers, and has the plugins do the same.
    pub fn gc(&self, list: &NetworkList, valid: &dyn Fn(&str) -> bool) -> Result<()> {
        let mut kept = Vec::new();
        for entry in self.cache.list()? {
            if entry.network != list.name {
                continue;
            }
            if valid(&entry.container_id) {
                kept.push(serde_json::json!({"containerID": entry.container_id, "ifname": entry.interface}));
                continue;
            }
            self.del(list, &Target::of(&entry))?;
        }
        if list.disable_gc || list.version != crate::spec::VERSION {
            return Ok(());
        }
        for plugin in &list.plugins {
            let mut plugin = plugin.clone();
            if let Value::Object(fields) = &mut plugin {
                fields.insert("cni.dev/valid-attachments".to_owned(), Value::Array(kept.clone()));
            }
            self.call(Command::Gc, list, &plugin, &nobody(), None)?;
        }
        Ok(())
    }

    fn call(
        &self,
        command: Command,
        list: &NetworkList,
        plugin: &Value,
        target: &Target,
        previous: Option<&Outcome>,
    ) -> Result<Option<Outcome>> {
        let mut config = plugin.clone();
        let Value::Object(fields) = &mut config else {
            return Err(Error::Config(format!("a plugin of network {} is no object", list.name)));
        };
        fields.insert("name".to_owned(), list.name.clone().into());
        fields.insert("cniVersion".to_owned(), list.version.clone().into());
        if let Some(previous) = previous {
            fields.insert("prevResult".to_owned(), previous.write(&list.version));
        }
        let declared = fields.get("capabilities").and_then(Value::as_object).cloned().unwrap_or_default();
        let runtime: Map<String, Value> = target
            .capabilities
            .iter()
            .filter(|(name, _)| declared.get(*name).and_then(Value::as_bool) == Some(true))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            fields.insert("runtimeConfig".to_owned(), Value::Object(runtime));
        }
        fields.remove("capabilities");
        let name = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let request = Request {
            command,
            container_id: target.container_id.clone(),
            namespace: target.namespace.clone(),
            interface: target.interface.clone(),
            arguments: target.arguments.clone(),
            plugin_paths: self.plugin_paths.clone(),
            config,
        };
        call(&name, &request)
    }
}

fn nobody() -> Target {
    Target {
        container_id: String::new(),
        namespace: None,
        interface: String::new(),
        arguments: BTreeMap::new(),
        capabilities: Map::new(),
    }
}

enum Located {
    Own(plugins::Plugin),
    Program(PathBuf),
}

/// An installed program goes before a plugin of ours of the same name: the administrator put it there.
fn locate(name: &str, paths: &[PathBuf]) -> Result<Located> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::Config(format!("{name:?} is not a plugin's name")));
    }
    for folder in paths {
        let path = folder.join(name);
        let runnable = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if runnable {
            return Ok(Located::Program(path));
        }
    }
    match plugins::find(name) {
        Some(plugin) => Ok(Located::Own(plugin)),
        None => Err(Error::PluginMissing { name: name.to_owned(), paths: paths.to_vec() }),
    }
}

/// Calls one plugin, wherever it is.
pub(crate) fn call(name: &str, request: &Request) -> Result<Option<Outcome>> {
    match locate(name, &request.plugin_paths)? {
        Located::Own(plugin) => plugin(request),
        Located::Program(path) => execute(name, &path, request),
    }
}

fn execute(name: &str, path: &Path, request: &Request) -> Result<Option<Outcome>> {
    let failed = |reason: String| Error::PluginRun { plugin: name.to_owned(), reason };
    let arguments: Vec<String> = request.arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let paths: Vec<String> = request.plugin_paths.iter().map(|path| path.display().to_string()).collect();
    let mut program = Program::new(path);
    program
        .env("CNI_COMMAND", request.command.name())
        .env("CNI_PATH", paths.join(":"))
        .env("CNI_ARGS", arguments.join(";"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if request.command.has_container() {
        program.env("CNI_CONTAINERID", &request.container_id).env("CNI_IFNAME", &request.interface);
        let namespace = request.namespace.as_deref().unwrap_or(Path::new(""));
        program.env("CNI_NETNS", namespace);
    }
    let input = serde_json::to_vec(&request.config).map_err(Error::decode("network configuration"))?;
    let mut child = program.spawn().map_err(|error| failed(error.to_string()))?;
    let finished = converse(&mut child, input);
    let (status, output, errors) = match finished {
        Ok(finished) => finished,
        Err(reason) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(reason));
        }
    };
    if !status.success() {
        return Err(foreign_error(name, &output, &errors, status.to_string()));
    }
    if request.command != Command::Add {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(&output).map_err(Error::decode(format!("answer of plugin {name}")))?;
    Outcome::read(&value).map(Some)
}

/// Feeds a program, collects what it says, and waits for its end, each on a thread so that none blocks the others.
fn converse(
    child: &mut Child,
    input: Vec<u8>,
) -> std::result::Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>), String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let writer = std::thread::spawn(move || {
        // A plugin that does not read its input closes the pipe: that is its affair.
        stdin.map(|mut stdin| stdin.write_all(&input))
    });
    fn collect(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                let _ = stream.take(MAX_OUTPUT).read_to_end(&mut bytes);
            }
            bytes
        })
    }
    let (output, errors) = (collect(stdout), collect(stderr));
    let deadline = Instant::now() + PLUGIN_TIMEOUT;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() >= deadline => return Err("it did not finish in time".to_owned()),
            Ok(None) => std::thread::sleep(pause),
            Err(error) => return Err(error.to_string()),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let _ = writer.join();
    Ok((status, output.join().unwrap_or_default(), errors.join().unwrap_or_default()))
}

fn foreign_error(name: &str, output: &[u8], errors: &[u8], status: String) -> Error {
    let value: Value = serde_json::from_slice(output).unwrap_or(Value::Null);
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match value.get("code").and_then(Value::as_u64) {
        Some(code) => Error::Plugin {
            plugin: name.to_owned(),
            code: u32::try_from(code).unwrap_or(u32::MAX),
            message: text("msg"),
            details: text("details"),
        },
        None => {
            const SHOWN: usize = 512;
            let said = if errors.is_empty() { output } else { errors };
            let said = String::from_utf8_lossy(&said[..said.len().min(SHOWN)]).trim().to_owned();
            Error::PluginRun { plugin: name.to_owned(), reason: format!("{status}: {said}") }
        }
    }
}
